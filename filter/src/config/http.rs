//! Fields of section `redis` for HTTP front ends: `token`, `authority` and `path_prefix`; and the headers of callouts.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::error::{Expected, Found, Problem};
use super::reader::{Node, Object};
use super::redis::RedisConfig;
use super::report::Read;
use super::secret;
use super::shown::hidden;
use crate::redis::{Credentials, FrontEnd, Secret, TransportKind};
use crate::response::base64;

const TOKEN: &str = "a token of 1 to 4096 bytes of printable ASCII";
const AUTHORITY: &str = "the name of a host, such as \"example.upstash.io\", of 1 to 256 bytes";
const PATH_PREFIX: &str = "a path of 2 to 256 bytes that begins with \"/\" and does not end with it";
const NO_FRONT_END: &str = "this field only with the transport \"webdis\" or \"upstash\"";
const NO_TOKEN: &str = "a token only with the transport \"upstash\"";
const NO_LOGIN: &str = "redis.token instead, as Upstash has neither username nor password for HTTP";
const NO_DATABASE: &str = "no database, as Webdis has it in its own configuration, and Upstash has one alone";
const WEBDIS_USERNAME: &str = "the username of Webdis' http_basic_auth beside the password";

/// Settings of the HTTP requests to a front end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpConfig {
    /// Bearer token; Upstash has one, no other transport.
    pub token: Option<Secret>,
    /// Value of the header `:authority`: 1 to 256 bytes. Default: the name of the cluster.
    pub authority: Option<String>,
    /// Start of the path: empty, or up to 256 bytes that begin with `/` and do not end with it.
    pub path_prefix: String,
}

impl RedisConfig {
    /// Headers of callouts.
    pub(crate) fn callout_headers(&self) -> Vec<(&'static str, String)> {
        let HttpConfig { token, authority, path_prefix } = &self.http;
        let is_upstash = self.transport == TransportKind::Upstash;
        let mut headers = vec![
            (":method", "POST".to_owned()),
            (":path", [path_prefix.as_str(), if is_upstash { "/pipeline" } else { "/" }].concat()),
            (":authority", authority.as_ref().unwrap_or(&self.cluster).clone()),
        ];
        if let Some(token) = token {
            headers.push(("authorization", ["Bearer ", token.expose()].concat()));
            headers.push(("content-type", "application/json".to_owned()));
            headers.push(("upstash-encoding", "base64".to_owned()));
        }
        if self.transport == TransportKind::Webdis
            && let Some(Credentials { username: Some(username), password }) = &self.credentials
        {
            let login = base64([username, ":", password.expose()].concat().as_bytes());
            headers.push(("authorization", ["Basic ", &String::from_utf8(login).unwrap_or_default()].concat()));
        }
        headers
    }
}

/// Reads the fields. `transport` is `None` where it is not known.
pub(super) fn read(
    fields: Object<'_>,
    transport: Option<TransportKind>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Read<HttpConfig> {
    let token = fields.optional("token", |node| read_token(node, env));
    let authority = fields.optional("authority", |node| node.text_matching(AUTHORITY, is_authority));
    let path_prefix = fields.or("path_prefix", "", |node| node.text_matching(PATH_PREFIX, is_path_prefix));
    let allowed = transport.map_or(Ok(()), |transport| check(fields, transport.front_end()));
    let http =
        HttpConfig { token: token?, authority: authority?.map(str::to_owned), path_prefix: path_prefix?.to_owned() };
    allowed.map(|()| http)
}

/// Checks that the fields are there which a transport needs, and no others.
fn check(fields: Object<'_>, front_end: Option<FrontEnd>) -> Read<()> {
    let refuse =
        |name: &str, expected: &'static str| fields.field(name).map_or(Ok(()), |node| Err(node.expected(expected)));
    let results = match front_end {
        None => [refuse("token", NO_TOKEN), refuse("authority", NO_FRONT_END), refuse("path_prefix", NO_FRONT_END)],
        Some(FrontEnd::Webdis) => {
            let has_password = fields.field("password").is_some();
            let username = if has_password { fields.required("username", WEBDIS_USERNAME).map(drop) } else { Ok(()) };
            [refuse("token", NO_TOKEN), username, refuse("database", NO_DATABASE)]
        }
        Some(FrontEnd::Upstash) => {
            let token = fields.required("token", "the token of Upstash's REST API").map(drop);
            let login = ["username", "password"].map(|name| refuse(name, NO_LOGIN)).into_iter().collect();
            [token, login, refuse("database", NO_DATABASE)]
        }
    };
    results.into_iter().collect()
}

fn read_token(node: &Node<'_>, env: &dyn Fn(&str) -> Option<String>) -> Read<Secret> {
    let token = secret::read(node, env, TOKEN)?;
    let text = token.expose();
    if text.len() > 4_096 || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        let found = Found::Value(hidden(text));
        return Err(node.fail(Problem::Unexpected { expected: Expected::The(TOKEN), found }));
    }
    Ok(token)
}

fn is_authority(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (1..=256).contains(&text.len()) && text.bytes().all(is_part)
}

fn is_path_prefix(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    (2..=256).contains(&text.len()) && text.starts_with('/') && !text.ends_with('/') && text.bytes().all(is_part)
}

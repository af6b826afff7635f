//! URL of `--redis` and `REDIS_URL`.
//!
//! | form | Redis |
//! |---|---|
//! | `redis://[user[:password]@]host[:port][/database]` | one server |
//! | `redis-sentinel://[user[:password]@]host[:port],.../name[/database]` | the master that Sentinels know by a name |
//! | `redis+cluster://[user[:password]@]host[:port],...` | a Redis Cluster |
//! | `unix://[user[:password]@]/path[?db=1]`, `redis+unix://` | one server of this machine |
//!
//! `rediss` in place of `redis` is TLS, `valkey` and `valkeys` are the same as `redis` and `rediss`. The Redis client's
//! own parser has neither Sentinels nor clusters, and its errors do not name the part of the URL.

use std::path::PathBuf;

use super::endpoint::Endpoint;
use super::sentinel::Sentinels;
use super::server::{Address, Login};
use crate::percent;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Address of Redis as a URL.
#[derive(Debug, PartialEq)]
pub(super) struct Url {
    pub(super) address: Address,
    pub(super) login: Login,
    pub(super) has_database: bool,
    /// Whether the connection is over TLS.
    pub(super) is_secured: bool,
}

/// Reason why a text is no URL of Redis. It contains nothing that may be a password: an unencoded `/`, `?` or `#` moves
/// the rest of a password into other parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: expected {expected}, found {found}")]
pub struct UrlError {
    /// Part of the URL.
    pub part: String,
    /// The values that the part may have.
    pub expected: &'static str,
    /// The value, or its kind.
    pub found: String,
}

/// Form of a URL, by its scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Server,
    Sentinel,
    Cluster,
    Socket,
}

/// Parts of a URL as written.
struct Parts<'a> {
    form: Form,
    is_secured: bool,
    credentials: Option<&'a str>,
    /// Hosts with their ports, separated by commas.
    hosts: &'a str,
    /// Text after the hosts, from its slash.
    path: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Url {
    /// Parses the URL of one Redis, of a group with Sentinels, or of nodes of a Redis Cluster.
    ///
    /// # Errors
    /// The first part that is not as expected.
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        let parts = Parts::of(url)?;
        let (mut login, mut of_sentinels, mut database) = (parts.login()?, Login::default(), None);
        for (name, value) in &parts.parameters {
            let text = decoded("parameters", value)?;
            match (*name, parts.form) {
                ("sentinel_username" | "sentinel_user", Form::Sentinel) => of_sentinels.username = Some(text),
                ("sentinel_password", Form::Sentinel) => of_sentinels.password = Some(text),
                ("db", Form::Socket) => database = Some(number_of_database(&text)?),
                ("user" | "username", Form::Socket) => login.username = Some(text),
                ("pass" | "password", Form::Socket) => login.password = Some(text),
                (name, form) => return Err(unknown_parameter(name, form)),
            }
        }
        let address = match parts.form {
            Form::Socket => Address::Servers(vec![Endpoint::Socket(parts.socket()?)]),
            Form::Server => {
                database = parts.database()?;
                Address::Servers(vec![endpoint("host", parts.hosts, REDIS_PORT)?])
            }
            Form::Cluster => {
                if parts.database()?.is_some_and(|database| database != 0) {
                    let found = "another".to_owned();
                    return Err(error("database", "none or 0, the one of a Redis Cluster", found));
                }
                Address::Cluster(parts.endpoints(REDIS_PORT)?)
            }
            Form::Sentinel => {
                let endpoints = parts.endpoints(SENTINEL_PORT)?;
                let (name, number) = parts.name_and_database()?;
                database = number;
                Address::Sentinels(Sentinels { endpoints, name, login: of_sentinels })
            }
        };
        login.database = database.unwrap_or_default();
        Ok(Self { address, login, has_database: database.is_some(), is_secured: parts.is_secured })
    }

    /// Whether a text is a URL of a Redis Cluster.
    pub(super) fn is_of_cluster(url: &str) -> bool {
        Parts::of(url).is_ok_and(|parts| parts.form == Form::Cluster)
    }
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, UrlError> {
        const SCHEMES: &str = "redis, rediss, redis-sentinel, rediss-sentinel, redis+cluster, rediss+cluster, unix or \
                               redis+unix, and ://";
        let Some((written, rest)) = url.split_once("://") else {
            return Err(error("scheme", SCHEMES, "a text without ://".to_owned()));
        };
        let scheme = written.strip_prefix("valkey").map(|rest| format!("redis{rest}"));
        let (is_secured, form) = match scheme.as_deref().unwrap_or(written) {
            "redis" => (false, Form::Server),
            "rediss" => (true, Form::Server),
            "redis-sentinel" => (false, Form::Sentinel),
            "rediss-sentinel" => (true, Form::Sentinel),
            "redis+cluster" => (false, Form::Cluster),
            "rediss+cluster" => (true, Form::Cluster),
            "unix" | "redis+unix" => (false, Form::Socket),
            _ => {
                let is_scheme = written.bytes().all(|byte| byte.is_ascii_lowercase() || b"+-".contains(&byte));
                let shown = if is_scheme { written.to_owned() } else { length(written) };
                return Err(error("scheme", SCHEMES, shown));
            }
        };
        if rest.contains('#') {
            return Err(error("url", "%23 in place of #", "#".to_owned()));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            return Err(error("url", "%3F in place of ? before @, and %40 in place of @ after ?", "both".to_owned()));
        }
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, _)) if credentials.contains('/') => {
                return Err(error("user or password", "%2F in place of /", "/".to_owned()));
            }
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let parameters = pairs.map(|pair| pair.split_once('=').unwrap_or(("", pair))).collect();
        Ok(Self { form, is_secured, credentials, hosts, path, parameters })
    }

    fn login(&self) -> Result<Login, UrlError> {
        let (username, password) = match self.credentials.map(|both| both.split_once(':').unwrap_or((both, ""))) {
            None => (None, None),
            Some((username, password)) => (Some(username), Some(password)),
        };
        let part =
            |part, text: Option<&str>| text.filter(|text| !text.is_empty()).map(|text| decoded(part, text)).transpose();
        Ok(Login { username: part("user", username)?, password: part("password", password)?, database: 0 })
    }

    fn endpoints(&self, port: u16) -> Result<Vec<Endpoint>, UrlError> {
        let hosts: Vec<&str> = self.hosts.split(',').collect();
        let place = |index: usize| if hosts.len() == 1 { "host".to_owned() } else { format!("host {}", index + 1) };
        hosts.iter().enumerate().map(|(index, host)| endpoint(&place(index), host, port)).collect()
    }

    fn socket(&self) -> Result<PathBuf, UrlError> {
        if !self.hosts.is_empty() {
            return Err(error("path", "an absolute path, as in unix:///run/redis.sock", "a host".to_owned()));
        }
        match decoded("path", self.path)? {
            path if path.len() > 1 => Ok(path.into()),
            _ => Err(error("path", "an absolute path, as in unix:///run/redis.sock", "nothing".to_owned())),
        }
    }

    fn database(&self) -> Result<Option<i64>, UrlError> {
        match self.path.trim_matches('/') {
            "" => Ok(None),
            number => number_of_database(number).map(Some),
        }
    }

    fn name_and_database(&self) -> Result<(String, Option<i64>), UrlError> {
        let path = self.path.trim_matches('/');
        let (name, database) = path.split_once('/').map_or((path, None), |(name, rest)| (name, Some(rest)));
        match decoded("name", name)? {
            name if !name.is_empty() => Ok((name, database.map(number_of_database).transpose()?)),
            _ => Err(error(
                "name",
                "that of the Sentinels' master, as in redis-sentinel://host/name",
                "nothing".to_owned(),
            )),
        }
    }
}

/// Parses a host with an optional port; `default` is the port otherwise.
fn endpoint(place: &str, text: &str, default: u16) -> Result<Endpoint, UrlError> {
    let malformed = |found| error(place, "a host name or an IP address, with [] if it has colons", found);
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').ok_or_else(|| malformed(length(text)))?)),
        Some(None) => return Err(malformed("[ without ]".to_owned())),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(malformed("nothing".to_owned()));
    }
    if host.contains(|byte: char| byte.is_whitespace() || byte.is_control() || "[],%".contains(byte)) {
        return Err(malformed(length(host)));
    }
    let number = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(port)).transpose();
    let port = number.map_err(|port| error(&format!("port of {place}"), "a number from 1 to 65535", digits(port)))?;
    Ok(Endpoint::Tcp(host.to_owned(), port.unwrap_or(default)))
}

fn number_of_database(text: &str) -> Result<i64, UrlError> {
    let number = text.parse::<u32>().map_err(|_| error("database", "a number", digits(text)));
    number.map(i64::from)
}

fn decoded(part: &str, text: &str) -> Result<String, UrlError> {
    let not_text = |_| error(part, "UTF-8", "%XX of other bytes".to_owned());
    String::from_utf8(percent::decoded(text.as_bytes())).map_err(not_text)
}

fn unknown_parameter(name: &str, form: Form) -> UrlError {
    let expected = match form {
        Form::Socket => "db, user or password, each with =",
        Form::Sentinel => "sentinel_username or sentinel_password, each with =",
        Form::Server | Form::Cluster => "none",
    };
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    error("parameters", expected, if is_name { name.to_owned() } else { "another text".to_owned() })
}

fn error(part: &str, expected: &'static str, found: String) -> UrlError {
    UrlError { part: part.to_owned(), expected, found }
}

/// A text that should be a number, for errors. It may be a password without a host.
fn digits(text: &str) -> String {
    let is_short = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_short && !text.is_empty() { text.to_owned() } else { length(text) }
}

/// A text that may be a password, for errors.
fn length(text: &str) -> String {
    if text.is_empty() { "nothing".to_owned() } else { format!("a text of {} bytes", text.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp(host.to_owned(), port)
    }

    fn login(username: &str, password: &str, database: i64) -> Login {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Login { username: some(username), password: some(password), database }
    }

    fn url(address: Address, login: Login, has_database: bool, is_secured: bool) -> Url {
        Url { address, login, has_database, is_secured }
    }

    #[test]
    fn a_server_has_a_host_and_perhaps_a_port_a_login_and_a_database() {
        let one = |endpoint: Endpoint| Address::Servers(vec![endpoint]);
        for (text, expected) in [
            ("redis://one", url(one(tcp("one", 6379)), Login::default(), false, false)),
            ("redis://one/", url(one(tcp("one", 6379)), Login::default(), false, false)),
            ("valkey://one:1/0", url(one(tcp("one", 1)), Login::default(), true, false)),
            ("rediss://me:p%40s:s@[::1]:7/3", url(one(tcp("::1", 7)), login("me", "p@s:s", 3), true, true)),
            ("redis://:p@ss@one", url(one(tcp("one", 6379)), login("", "p@ss", 0), false, false)),
        ] {
            assert_eq!(Url::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_cluster_has_nodes_and_no_database() {
        let nodes = Address::Cluster(vec![tcp("one", 7000), tcp("two", 6379), tcp("::1", 7002)]);
        let parsed = Url::parse("redis+cluster://me:p%40ss@one:7000,two,[::1]:7002");
        assert_eq!(parsed, Ok(url(nodes, login("me", "p@ss", 0), false, false)));
        assert!(Url::parse("rediss+cluster://one/0").unwrap().is_secured);
        assert!(Url::is_of_cluster("valkey+cluster://one") && !Url::is_of_cluster("redis://one+cluster://two"));
    }

    #[test]
    fn sentinels_have_a_name_and_credentials_of_their_own() {
        let sentinels = |login| {
            let endpoints = vec![tcp("one", 26379), tcp("two", 5000)];
            Address::Sentinels(Sentinels { endpoints, name: "my master".to_owned(), login })
        };
        let plain = Url::parse("redis-sentinel://one,two:5000/my%20master");
        assert_eq!(plain, Ok(url(sentinels(Login::default()), Login::default(), false, false)));
        let full =
            "rediss-sentinel://me:s%2Fcret@one,two:5000/my%20master/2?sentinel_username=you&sentinel_password=a%26b";
        assert_eq!(Url::parse(full), Ok(url(sentinels(login("you", "a&b", 0)), login("me", "s/cret", 2), true, true)));
    }

    #[test]
    fn a_socket_has_a_path_and_parameters() {
        let at = |login, has_database| {
            url(Address::Servers(vec![Endpoint::Socket("/run/a b.sock".into())]), login, has_database, false)
        };
        assert_eq!(Url::parse("unix:///run/a%20b.sock"), Ok(at(Login::default(), false)));
        let full = "redis+unix:///run/a b.sock?db=1&user=me&password=%3F";
        assert_eq!(Url::parse(full), Ok(at(login("me", "?", 1), true)));
        assert_eq!(Url::parse("unix://:p@/run/a b.sock?db=0"), Ok(at(login("", "p", 0), true)));
    }

    /// Each of the texts has `s3cret` where a password may be.
    #[test]
    fn an_error_names_the_part_and_never_a_password() {
        for (text, expected) in [
            ("me:s3cret@host", "scheme: expected redis, "),
            ("http://s3cret", "scheme: expected redis, "),
            ("me:s3cret://host", "scheme: expected redis, "),
            (
                "redis://:s3cret@",
                "host: expected a host name or an IP address, with [] if it has colons, found nothing",
            ),
            ("redis://:s3cret@one,two", "host: expected a host name"),
            ("redis://:s3cret@[::1", "host: expected a host name or an IP address, with [] if it has colons, found [ "),
            ("redis://:s3cret@::1", "host: expected a host name"),
            ("redis://:s3cret@one:70000", "port of host: expected a number from 1 to 65535, found 70000"),
            ("redis://me:s3cret", "port of host: expected a number from 1 to 65535, found a text of 6 bytes"),
            ("redis://:s3cret@one:0", "port of host: expected a number from 1 to 65535, found 0"),
            ("redis://one/s3cret", "database: expected a number, found a text of 6 bytes"),
            ("redis://:s3cret@one/-1", "database: expected a number, found a text of 2 bytes"),
            ("redis://me:/s3cret@one", "user or password: expected %2F in place of /, found /"),
            ("redis://me:?s3cret@one", "url: expected %3F in place of ? before @"),
            ("redis://me:#s3cret@one", "url: expected %23 in place of #, found #"),
            ("redis://me:%ffs3cret@one", "password: expected UTF-8, found %XX of other bytes"),
            ("redis://one?s3cret", "parameters: expected none, found another text"),
            ("redis://one?db=s3cret", "parameters: expected none, found db"),
            ("redis+cluster://:s3cret@one,,two", "host 2: expected a host name"),
            ("redis+cluster://:s3cret@one,two:x", "port of host 2: expected a number"),
            (
                "redis+cluster://:s3cret@one/3",
                "database: expected none or 0, the one of a Redis Cluster, found another",
            ),
            ("redis-sentinel://:s3cret@one,two", "name: expected that of the Sentinels' master"),
            ("redis-sentinel://one/name/s3cret", "database: expected a number, found a text of 6 bytes"),
            (
                "redis-sentinel://one/name?password=s3cret",
                "parameters: expected sentinel_username or sentinel_password",
            ),
            ("redis-sentinel://one/n?sentinel_password=s3cret@", "url: expected %3F in place of ? before @, and %40"),
            ("unix://?pass=s3cret", "path: expected an absolute path, as in unix:///run/redis.sock, found nothing"),
            ("unix://run/x?pass=s3cret", "path: expected an absolute path, as in unix:///run/redis.sock, found a host"),
            ("unix:///x?pass=s3cret&db=x", "database: expected a number, found a text of 1 bytes"),
        ] {
            let error = Url::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expected) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}

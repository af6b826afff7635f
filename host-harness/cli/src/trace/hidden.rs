//! Values that a trace hides: credentials, and values that a limiter's configuration hashes.

use std::collections::BTreeSet;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use weir_filter::config::{self, Config};
use weir_filter::descriptor::Source;
use weir_host::Bootstrap;

use crate::percent;

/// Text in place of a hidden value.
pub(super) const HIDDEN: &str = "‹hidden›";

/// Parts of the names of headers and query parameters that carry credentials, in small letters.
const CREDENTIALS: [&str; 10] =
    ["token", "secret", "key", "password", "passwd", "auth", "cookie", "signature", "session", "credential"];

/// Length in bytes from which a credential is hidden outside its header or parameter, too.
const SHORTEST: usize = 4;

/// Names of query parameters that carry credentials, besides those with a part of [`CREDENTIALS`].
const PARAMETERS: [&str; 4] = ["sig", "code", "pwd", "jwt"];

/// Values and names to hide.
#[derive(Debug, Clone)]
pub(super) struct Hidden {
    headers: BTreeSet<String>,
    /// Whether the path and its query are hidden.
    path: bool,
    /// Whether properties are hidden: claims or addresses are hashed.
    properties: bool,
    /// Whether bodies are hidden.
    bodies: bool,
    /// Values to be replaced wherever they are.
    values: Vec<Vec<u8>>,
}

/// Returns the configurations of a bootstrap's limiters, as far as the filter accepts them.
pub(super) fn limiters(bootstrap: &Bootstrap) -> Vec<Config> {
    let limiters = bootstrap.plugins().filter(|plugin| plugin.root_id == "limiter");
    let parsed = limiters.filter_map(|plugin| {
        let environment = plugin.vm.resolved_environment();
        let read = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        config::parse(&plugin.configuration, &read).ok()
    });
    parsed.collect()
}

impl Hidden {
    /// Returns what to hide of a request with this path and these headers.
    pub(super) fn of(bootstrap: &Bootstrap, limiters: &[Config], path: &str, request: &HeaderMap) -> Self {
        let mut hidden =
            Self { headers: BTreeSet::new(), path: false, properties: false, bodies: false, values: Vec::new() };
        for config in limiters {
            let password = config.redis.credentials.as_ref().map(|it| &it.password);
            let secrets = password.into_iter().chain(&config.redis.http.token);
            hidden.values.extend(secrets.map(|secret| secret.expose().as_bytes().to_vec()));
            let entries = config.limits.iter().flat_map(|limit| limit.descriptor.entries());
            entries.filter(|entry| entry.form.hash_key.is_some()).for_each(|entry| hidden.hide(&entry.source));
        }
        // Variables that the modules read are secrets more often than not.
        let variables = bootstrap.plugins().flat_map(|plugin| plugin.vm.resolved_environment());
        hidden.values.extend(variables.map(|(_, value)| value.into_bytes()).filter(|value| value.len() >= 8));
        let hides = |(name, _): &(&HeaderName, &HeaderValue)| hidden.header(name.as_str().as_bytes());
        for (name, value) in request.iter().filter(hides).collect::<Vec<_>>() {
            hidden.values.push(value.as_bytes().to_vec());
            let parts: &[u8] = if name == "cookie" { b";= " } else { b" " };
            let parts = value.as_bytes().split(|byte| parts.contains(byte)).filter(|part| part.len() >= 6);
            hidden.values.extend(parts.map(<[u8]>::to_vec));
        }
        for (_, value) in parameters(path.as_bytes()).filter(|(name, _)| is_parameter(name)) {
            hidden.values.extend([value.to_vec(), percent::decoded(value)]);
        }
        // A shorter value would hide parts of other words; its header or parameter hides it.
        hidden.values.retain(|value| value.len() >= SHORTEST);
        // A value that contains another is replaced first.
        hidden.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        hidden.values.dedup();
        hidden
    }

    fn hide(&mut self, source: &Source) {
        match source {
            Source::RequestHeader { name, .. } => _ = self.headers.insert(name.to_ascii_lowercase()),
            Source::Cookie { .. } => {}
            Source::QueryParameter { .. } | Source::Path(_) => self.path = true,
            Source::RequestBody(_) => self.bodies = true,
            Source::Host => _ = self.headers.insert(":authority".to_owned()),
            Source::RemoteAddress(_) | Source::MaskedRemoteAddress { .. } => {
                self.properties = true;
                self.headers.insert("x-forwarded-for".to_owned());
            }
            Source::Property(_) => self.properties = true,
            Source::Method | Source::Scheme | Source::GenericKey { .. } => {}
        }
    }

    /// Whether the value of a header is hidden.
    fn header(&self, name: &[u8]) -> bool {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        is_credential(&name)
            || self.headers.contains(&name)
            || self.path && [":path", "x-envoy-original-path"].contains(&name.as_str())
    }

    /// Whether the values of properties are hidden.
    pub(super) fn properties(&self) -> bool {
        self.properties
    }

    /// Whether bodies of requests are hidden.
    pub(super) fn bodies(&self) -> bool {
        self.bodies
    }

    /// Returns the path without hidden values, and without the values of query parameters that carry credentials.
    pub(super) fn path_without(&self, path: &[u8]) -> Vec<u8> {
        if self.path {
            return HIDDEN.as_bytes().to_vec();
        }
        self.without(&without_parameters(path))
    }

    /// Returns the value of a header without hidden values.
    pub(super) fn header_value(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        if self.header(name) { HIDDEN.as_bytes().to_vec() } else { self.without(&without_parameters(value)) }
    }

    /// Returns the bytes without hidden values.
    pub(super) fn without(&self, bytes: &[u8]) -> Vec<u8> {
        self.values.iter().fold(bytes.to_vec(), |bytes, value| replaced(&bytes, value))
    }
}

/// Returns the names and values of a path's query parameters.
fn parameters(path: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let query = path.iter().position(|byte| *byte == b'?').map_or(&path[..0], |mark| &path[mark + 1..]);
    query.split(|byte| *byte == b'&').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..equals], &pair[equals + 1..]))
    })
}

/// Whether the value of a header is a credential, by its name in small letters. `:authority` and `host` are none.
fn is_credential(name: &str) -> bool {
    !name.starts_with(':') && CREDENTIALS.iter().any(|part| name.contains(part))
}

/// Replaces the values of query parameters that carry credentials.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let Some(query) = path.iter().position(|byte| *byte == b'?') else { return path.to_vec() };
    let (before, query) = path.split_at(query + 1);
    let mut shown = before.to_vec();
    for (index, pair) in query.split(|byte| *byte == b'&').enumerate() {
        if index > 0 {
            shown.push(b'&');
        }
        match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) if is_parameter(&pair[..equals]) => {
                shown.extend_from_slice(&pair[..=equals]);
                shown.extend_from_slice(HIDDEN.as_bytes());
            }
            _ => shown.extend_from_slice(pair),
        }
    }
    shown
}

/// Whether a query parameter carries a credential, by its name with or without percent-encoding.
fn is_parameter(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(&percent::decoded(name)).to_ascii_lowercase();
    PARAMETERS.contains(&name.as_str()) || CREDENTIALS.iter().any(|part| name.contains(part))
}

fn replaced(bytes: &[u8], value: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(value) {
            Some(after) => {
                result.extend_from_slice(HIDDEN.as_bytes());
                rest = after;
            }
            None => {
                result.push(*first);
                rest = after;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_replaced_wherever_it_is() {
        assert_eq!(replaced(b"a=secret&b=secret", b"secret"), "a=‹hidden›&b=‹hidden›".as_bytes());
        assert_eq!(replaced(b"secre", b"secret"), b"secre");
    }

    #[test]
    fn names_tell_credentials() {
        let headers = "authorization proxy-authorization cookie set-cookie x-api-key x-auth-token x-amz-security-token \
                       x-vault-token x-csrf-token x-access-token apikey private-token x-session-id x-hub-signature-256";
        headers.split(' ').for_each(|name| assert!(is_credential(name), "{name}"));
        for name in [":authority", ":path", "host", "x-user-id", "content-type", "accept", "user-agent"] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn values_of_parameters_with_credentials_are_replaced() {
        let shown = |path: &str| String::from_utf8(without_parameters(path.as_bytes())).unwrap();
        let names =
            ["api_key", "access_token", "token", "key", "signature", "password", "API%5fK%65y", "X-Amz-Signature"];
        for name in names {
            assert_eq!(shown(&format!("/a?q=x&{name}=s3cr3t=&page=2")), format!("/a?q=x&{name}=‹hidden›&page=2"));
        }
        for path in ["/token=1", "/a?", "/a?q=token", "/a?token", "/a?q=1&&b"] {
            assert_eq!(shown(path), path);
        }
    }
}

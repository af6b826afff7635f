//! Access to the console: a token at first, then a session cookie; and only from the page itself.

use std::net::IpAddr;

use hyper::Method;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, ORIGIN};
use sha2::{Digest as _, Sha256};

/// Header that a page of another origin cannot send without asking first, which is never allowed.
pub(super) const CHANGE_HEADER: HeaderName = HeaderName::from_static("x-weir-console");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Secrets of a console, and the host names by which it may be reached.
pub(super) struct Access {
    token: String,
    session: String,
    cookie: String,
    hosts: Vec<String>,
}

/// Reasons to refuse a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// `Host` is a name that was not allowed: perhaps a page of another site that resolves to this machine.
    #[error("this host name is not allowed; start with --host-name NAME")]
    Host,
    /// The request comes from another page.
    #[error("requests of other pages are not allowed")]
    Origin,
    /// The request has neither the token nor a session.
    #[error("expected the token that `weir console` has printed")]
    Token,
}

impl Access {
    /// Makes a token and a session secret. `names` are allowed in `Host`, beside `localhost` and IP addresses.
    pub(super) fn new(port: u16, names: &[String]) -> Result<Self, getrandom::Error> {
        let hosts = names.iter().map(|name| name.to_ascii_lowercase()).chain(["localhost".to_owned()]).collect();
        // Browsers send cookies to all ports of a host: the name tells consoles apart.
        Ok(Self { token: secret()?, session: secret()?, cookie: format!("weir-console-{port}"), hosts })
    }

    /// The token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Refuses a request that another site or page may have made.
    pub(super) fn is_own_page(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, &HOST).ok_or(Refusal::Host)?;
        if !self.allows_host(host) {
            return Err(Refusal::Host);
        }
        // A page of another port of this host is another origin, but the same site.
        let is_foreign = |origin: &str| origin.split_once("://").map(|(_, origin)| origin) != Some(host);
        if headers.contains_key(ORIGIN) && text(headers, &ORIGIN).is_none_or(is_foreign) {
            return Err(Refusal::Origin);
        }
        let site = text(headers, &FETCH_SITE);
        let is_navigation = method == Method::GET && !headers.contains_key(ORIGIN);
        match site {
            None | Some("same-origin" | "none") => Ok(()),
            // A link to the page: its address alone opens nothing.
            Some(_) if is_navigation && text(headers, &FETCH_MODE) == Some("navigate") => Ok(()),
            Some(_) => Err(Refusal::Origin),
        }
    }

    /// Whether a request has the token: `Authorization: Bearer TOKEN`.
    pub(super) fn has_token(&self, headers: &HeaderMap) -> bool {
        let bearer = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        bearer.is_some_and(|token| is_same(token.trim(), &self.token))
    }

    /// Refuses a request without a session or the token.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let has_session = pairs.any(|(name, value)| name == self.cookie && is_same(value, &self.session));
        if has_session || self.has_token(headers) { Ok(()) } else { Err(Refusal::Token) }
    }

    /// `Set-Cookie` of a session, which ends with the browser's or with this console.
    pub(super) fn set_cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.session)
    }

    /// Whether a `Host` is an IP address, or a name that is allowed. Only a name can be resolved to another address
    /// after the browser has loaded a page from it.
    fn allows_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
        address.parse::<IpAddr>().is_ok() || self.hosts.contains(&name.to_ascii_lowercase())
    }
}

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A secret of 256 random bits, in hexadecimal.
pub(super) fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Compares secrets in a time that does not depend on where they differ: by their hashes, all bytes of them.
fn is_same(found: &str, expected: &str) -> bool {
    let [found, expected] = [found, expected].map(|text| Sha256::digest(text.as_bytes()));
    found.iter().zip(&expected).fold(0, |differing, (one, other)| differing | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access::new(8080, &["Ops.Example".to_owned()]).unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_addresses_and_allowed_names_are_hosts() {
        let access = access();
        for host in ["127.0.0.1:8080", "localhost:9", "LOCALHOST", "[::1]:8080", "[::1]", "10.0.0.7", "ops.example:80"]
        {
            assert!(access.allows_host(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", "::"]
        {
            assert!(!access.allows_host(host) || host == "::", "{host}");
        }
    }

    #[test]
    fn other_pages_are_refused() {
        let access = access();
        let asks = |pairs: &[(&str, &str)]| access.is_own_page(&Method::POST, &headers(pairs));
        let host = ("host", "127.0.0.1:8080");
        assert_eq!(asks(&[host]), Ok(()));
        assert_eq!(asks(&[host, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(asks(&[host, ("origin", "http://127.0.0.1:9999")]), Err(Refusal::Origin));
        assert_eq!(asks(&[host, ("origin", "null")]), Err(Refusal::Origin));
        assert_eq!(asks(&[host, ("sec-fetch-site", "same-site")]), Err(Refusal::Origin));
        assert_eq!(asks(&[("host", "evil.example")]), Err(Refusal::Host));
        assert_eq!(asks(&[]), Err(Refusal::Host));
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(access.is_own_page(&Method::GET, &headers(&link)), Ok(()));
        assert_eq!(asks(&link), Err(Refusal::Origin));
    }

    #[test]
    fn the_token_or_the_session_is_needed() {
        let access = access();
        let is_known = |pairs: &[(&str, &str)]| access.is_known(&headers(pairs)).is_ok();
        let cookie = access.set_cookie().split(';').next().unwrap().to_owned();
        assert!(is_known(&[("authorization", &format!("Bearer {}", access.token()))]));
        assert!(is_known(&[("cookie", &format!("other=1; {cookie}"))]));
        assert!(!is_known(&[]));
        assert!(!is_known(&[("authorization", access.token())]));
        assert!(!is_known(&[("authorization", "Bearer ")]));
        assert!(!is_known(&[("cookie", &cookie.replace("8080", "8081"))]));
        assert!(!is_known(&[("cookie", &format!("weir-console-8080={}", access.token()))]), "the token is no session");
        assert_eq!(access.token().len(), 64);
        assert_ne!(secret().unwrap(), secret().unwrap());
    }
}

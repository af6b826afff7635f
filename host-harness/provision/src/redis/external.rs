//! The operator's Redis, named by `REDIS_URL`: never flushed, never stopped; runs touch only keys under their prefix.

use std::net::{SocketAddr, ToSocketAddrs};

use ::redis::{ConnectionAddr, IntoConnectionInfo, RedisError};

use super::Login;
use crate::ProvisionError;

const VARIABLE: &str = "REDIS_URL";
const EXPECTED: &str = "redis://[[user]:password@]host[:port][/database] with a host that resolves";

/// The Redis that `REDIS_URL` names.
#[derive(Debug, Clone)]
pub struct ExternalRedis {
    url: String,
    addr: SocketAddr,
    login: Login,
}

impl ExternalRedis {
    /// The Redis of `REDIS_URL`, if it is set.
    ///
    /// # Errors
    /// If the value is not the URL of a plain TCP Redis, or its host does not resolve.
    pub fn from_env() -> Result<Option<Self>, ProvisionError> {
        match std::env::var(VARIABLE) {
            Ok(url) if !url.is_empty() => Self::parse(&url).map(Some),
            _ => Ok(None),
        }
    }

    fn parse(url: &str) -> Result<Self, ProvisionError> {
        let wrong = |source: RedisError| ProvisionError::Url { variable: VARIABLE, expected: EXPECTED, source };
        let info = url.into_connection_info().map_err(wrong)?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err(wrong((::redis::ErrorKind::InvalidClientConfig, "not a plain TCP address").into()));
        };
        let mut found = (host.as_str(), *port).to_socket_addrs().map_err(|why| wrong(why.into()))?;
        let unresolved = || wrong((::redis::ErrorKind::InvalidClientConfig, "the host has no address").into());
        let settings = info.redis_settings();
        let login = Login {
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            database: settings.db(),
        };
        Ok(Self { url: url.to_owned(), addr: found.next().ok_or_else(unresolved)?, login })
    }

    /// The value of `REDIS_URL`, unchanged.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first address that the URL's host resolves to, with the URL's port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The credentials and database of the URL.
    pub fn login(&self) -> &Login {
        &self.login
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_and_login() {
        let redis = ExternalRedis::parse("redis://weir:p%40ss@127.0.0.1:7000/3").unwrap();
        assert_eq!(redis.addr(), SocketAddr::from(([127, 0, 0, 1], 7000)));
        let login = Login { username: Some("weir".into()), password: Some("p@ss".into()), database: 3 };
        assert_eq!(*redis.login(), login);
    }

    #[test]
    fn a_value_that_is_no_redis_url_is_refused_without_repeating_it() {
        for url in ["http://secret@somewhere", "unix:///run/secret.sock", "redis://secret@host.invalid"] {
            let why = ExternalRedis::parse(url).unwrap_err().to_string();
            assert!(why.starts_with("REDIS_URL: expected redis://"), "{why}");
            assert!(!why.contains("secret"), "{why}");
        }
    }
}

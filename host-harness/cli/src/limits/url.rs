//! URL of `--redis` and `REDIS_URL`.

use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::server::Login;

/// Address of Redis as a URL.
pub(super) struct Url {
    /// Hosts and ports. Empty for a Unix socket.
    pub(super) endpoints: Vec<(String, u16)>,
    pub(super) socket: Option<PathBuf>,
    pub(super) login: Login,
    pub(super) has_database: bool,
    /// Whether the connection is over TLS.
    pub(super) is_secured: bool,
    /// Whether the endpoints are nodes of a Redis Cluster.
    pub(super) is_cluster: bool,
}

impl Url {
    /// Parses the URL of one Redis or of nodes of a Redis Cluster.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (scheme, is_cluster) = scheme.strip_suffix("+cluster").map_or((scheme, false), |scheme| (scheme, true));
        let (scheme, is_secured) = if scheme == "rediss" { ("redis", true) } else { (scheme, false) };
        let (credentials, hosts) = rest
            .rsplit_once('@')
            .filter(|_| is_cluster)
            .map_or(("", rest), |(before, hosts)| (rest.get(..=before.len()).unwrap_or_default(), hosts));
        let mut parsed: Option<Self> = None;
        let separator = |byte: char| is_cluster && byte == ',';
        for host in hosts.split(separator) {
            let text = format!("{scheme}://{credentials}{host}");
            let info = text.as_str().into_connection_info().ok()?;
            let settings = info.redis_settings();
            let all = parsed.get_or_insert_with(|| Self {
                endpoints: Vec::new(),
                socket: None,
                login: Login {
                    username: settings.username().map(str::to_owned),
                    password: settings.password().map(str::to_owned),
                    database: settings.db(),
                },
                has_database: has_path(&text),
                is_secured,
                is_cluster,
            });
            match info.addr() {
                ConnectionAddr::Tcp(host, port) if !host.contains(',') => all.endpoints.push((host.clone(), *port)),
                ConnectionAddr::Unix(path) if !is_cluster => all.socket = Some(path.clone()),
                _ => return None,
            }
            // A Redis Cluster has one database.
            if is_cluster && settings.db() != 0 {
                return None;
            }
        }
        parsed
    }
}

/// A text that should be a URL, for errors, without any part of it that may be a password.
pub(super) fn without_credentials(url: &str) -> String {
    let after = |text: &str| text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned();
    match url.split_once("://") {
        Some((scheme @ ("redis" | "rediss" | "redis+cluster" | "rediss+cluster" | "unix"), rest)) => {
            format!("{scheme}://{}", after(rest))
        }
        Some((scheme, _)) => format!("{scheme}://..."),
        None if url.contains('@') => "a text without a scheme".to_owned(),
        None => url.to_owned(),
    }
}

/// Whether a URL has a path, the number of a database.
fn has_path(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split_once('/').is_some_and(|(_, path)| !path.trim_matches('/').is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_the_path_of_a_url() {
        assert!(has_path("redis://host/3") && has_path("redis://u:p@host:1/0"));
        assert!(!has_path("redis://host") && !has_path("redis://host:1/") && !has_path("redis://u:p@host:1"));
    }

    #[test]
    fn a_url_of_a_cluster_names_nodes_and_no_database() {
        let parsed = Url::parse("redis+cluster://me:p%40ss@one:7000,two,[::1]:7002").unwrap();
        let [one, two, three] =
            [("one", 7000), ("two", 6379), ("::1", 7002)].map(|(host, port)| (host.to_owned(), port));
        assert_eq!(parsed.endpoints, [one, two, three]);
        let login = Login { username: Some("me".to_owned()), password: Some("p@ss".to_owned()), database: 0 };
        assert_eq!(parsed.login, login);
        assert!(parsed.is_cluster && !parsed.is_secured);
        let secured = Url::parse("rediss+cluster://one").unwrap();
        assert!(secured.is_cluster && secured.is_secured && secured.login == Login::default());
        for refused in ["redis+cluster://one/3", "redis+cluster://one,,two", "redis://one,two", "http+cluster://one"] {
            assert!(Url::parse(refused).is_none(), "{refused}");
        }
        assert!(!Url::parse("redis://one").unwrap().is_cluster);
    }
}

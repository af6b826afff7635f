//! The Redis of a command: its address, credentials and TLS, from `--redis` and `--config`.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionLike, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Value};

use super::cluster::Cluster;
use super::error::LimitsError;
use super::source::{Limiter, Source};
use super::tls::{Pem, Secured, Tls};
use super::url::{Url, without_credentials};

/// Time limit of the connection and of each reply. A Redis that needs longer for one scan step is too busy to be scanned.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Environment variable with the address of Redis, for commands without another address.
const REDIS_URL: &str = "REDIS_URL";

// Options for the Redis of `weir limits`. Not a doc comment: clap would use it as the help of `limits`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct RedisOptions {
    /// The Redis of the buckets, redis://[user[:password]@]host[:port][/database], or rediss:// for TLS; for a Redis
    /// Cluster, redis+cluster://[user[:password]@]host[:port],..., or rediss+cluster://. The default is the Redis of the
    /// proxies, as --config has it, and if it has no address, that of the variable REDIS_URL. Credentials and a database
    /// that the option lacks come from --config.
    #[arg(long, global = true, help_heading = "Redis", value_name = "URL")]
    redis: Option<String>,
    /// Certificates of the authorities that Redis' certificate is checked with, as PEM.
    #[arg(long, global = true, help_heading = "Redis", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Certificate of this client, as PEM.
    #[arg(long, global = true, help_heading = "Redis", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key of this client, as PEM.
    #[arg(long, global = true, help_heading = "Redis", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Name that Redis' certificate must have; the default is the host.
    #[arg(long, global = true, help_heading = "Redis", value_name = "NAME")]
    tls_server_name: Option<String>,
}

/// A Redis and how to log in.
pub(super) struct Server {
    /// Hosts and ports, of which the first that is a master is used. Empty for a Unix socket.
    endpoints: Vec<(String, u16)>,
    socket: Option<PathBuf>,
    login: Login,
    tls: Option<Tls>,
    /// Whether the endpoints are nodes of a Redis Cluster.
    is_cluster: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
}

/// A connection of any kind.
pub(super) type Connection = Box<dyn ConnectionLike>;

impl RedisOptions {
    /// Whether there is an address without a configuration.
    pub(super) fn has_url(&self) -> bool {
        self.redis.is_some() || url_of_environment().is_some()
    }

    /// Whether that address is of a Redis Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        let url = self.redis.clone().or_else(url_of_environment);
        url.is_some_and(|url| url.split_once("+cluster://").is_some_and(|(scheme, _)| !scheme.contains('/')))
    }

    fn has_tls(&self) -> bool {
        self.tls_ca.is_some() || self.tls_cert.is_some() || self.tls_key.is_some() || self.tls_server_name.is_some()
    }

    /// Replaces parts of `tls` by the options.
    fn over(&self, tls: Tls) -> Tls {
        let file = |file: &Option<PathBuf>| file.clone().map(|file| Pem::File { file, place: None });
        Tls {
            ca: file(&self.tls_ca).or(tls.ca),
            certificate: file(&self.tls_cert).or(tls.certificate),
            key: file(&self.tls_key).or(tls.key),
            name: self.tls_server_name.clone().or(tls.name),
        }
    }
}

impl Server {
    /// The Redis of the options, otherwise of the configuration, otherwise of the environment.
    pub(super) fn of(options: &RedisOptions, source: Option<&Source>) -> Result<Self, LimitsError> {
        if let Some(url) = &options.redis {
            return Self::of_url(("--redis", url), options, source);
        }
        let of_source = source.map(|source| Self::of_source(options, source));
        match (of_source, url_of_environment()) {
            (None | Some(Err(LimitsError::NoAddress { .. })), Some(url)) => {
                Self::of_url((REDIS_URL, &url), options, source)
            }
            (Some(server), _) => server,
            (None, None) => Err(LimitsError::NoConfig),
        }
    }

    /// The Redis of a URL, given by the option or variable `place`. Credentials of the configuration are for its own
    /// Redis and for that of the option, never for that of the variable.
    fn of_url(
        (place, url): (&'static str, &str),
        options: &RedisOptions,
        source: Option<&Source>,
    ) -> Result<Self, LimitsError> {
        let malformed = || LimitsError::Url { place, found: without_credentials(url) };
        let Url { endpoints, socket, mut login, has_database, is_secured, is_cluster } =
            Url::parse(url).ok_or_else(malformed)?;
        let limiter = source.and_then(|source| only(source).ok());
        // The login and the TLS of a front end are not those of Redis.
        let limiter = limiter.filter(|limiter| limiter.config.redis.transport.front_end().is_none());
        let cluster = |limiter: &Limiter| source.map(|source| source.cluster_of(limiter)).transpose();
        if let Some(limiter) = limiter {
            if place != REDIS_URL && login.password.is_none() {
                let (username, password) = match is_cluster {
                    true => cluster(limiter)?.flatten().and_then(|cluster| cluster.login).unzip(),
                    false => (Some(limiter.username()), limiter.password().ok().flatten()),
                };
                if password.is_some() {
                    login.username = login.username.or(username.flatten());
                    login.password = password;
                }
            }
            if !has_database {
                login.database = limiter.config.redis.database.into();
            }
        }
        if options.has_tls() && !is_secured {
            return Err(LimitsError::TlsWithoutTls);
        }
        let mut tls = None;
        if is_secured {
            let cluster = limiter.map(cluster).transpose()?;
            tls = Some(options.over(cluster.flatten().flatten().and_then(|cluster| cluster.tls).unwrap_or_default()));
        }
        Ok(Self { endpoints, socket, login, tls, is_cluster })
    }

    fn of_source(options: &RedisOptions, source: &Source) -> Result<Self, LimitsError> {
        let limiter = only(source)?;
        let name = &limiter.config.redis.cluster;
        if limiter.config.redis.transport.front_end().is_some() {
            return Err(LimitsError::FrontEnd { place: limiter.places.redis.clone() });
        }
        let cluster = source.cluster_of(limiter)?.filter(|cluster| !cluster.endpoints.is_empty());
        let Cluster { endpoints, tls, remote_secrets, login } = cluster
            .ok_or_else(|| LimitsError::NoAddress { place: limiter.places.cluster.clone(), cluster: name.clone() })?;
        let is_cluster = limiter.is_clustered();
        let login = if is_cluster {
            // The limiter's own password is that of the proxy.
            let (username, password) = login.unzip();
            Login { username: username.flatten(), password, database: 0 }
        } else {
            let of_password = || limiter.places.password.clone();
            let unset = |variable| LimitsError::NoPassword { place: of_password(), variable };
            Login {
                username: limiter.username(),
                password: limiter.password().map_err(unset)?,
                database: limiter.config.redis.database.into(),
            }
        };
        if tls.is_none() && options.has_tls() {
            return Err(LimitsError::TlsWithoutTls);
        }
        let tls = tls.map(|tls| options.over(tls));
        if let (Some(place), true) = (remote_secrets, tls.as_ref().is_some_and(|tls| tls.ca.is_none())) {
            return Err(LimitsError::RemoteSecrets { place, cluster: name.clone() });
        }
        Ok(Self { endpoints, socket: None, login, tls, is_cluster })
    }

    /// The address, for errors: `127.0.0.1:6379`.
    pub(super) fn address(&self) -> String {
        let addresses: Vec<String> = self.endpoints.iter().map(|(host, port)| address(host, *port)).collect();
        match &self.socket {
            Some(path) => path.display().to_string(),
            None => addresses.join(", "),
        }
    }

    /// Whether the endpoints are nodes of a Redis Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Hosts and ports.
    pub(super) fn endpoints(&self) -> &[(String, u16)] {
        &self.endpoints
    }

    /// Number of the database.
    pub(super) fn database(&self) -> i64 {
        self.login.database
    }

    /// Connects and logs in. Of several endpoints, the first that is a master is used.
    pub(super) fn connect(&self) -> Result<(Connection, String), LimitsError> {
        if let Some(path) = &self.socket {
            return Ok((self.plain(ConnectionAddr::Unix(path.clone()))?, self.address()));
        }
        let mut problem = None;
        for (host, port) in &self.endpoints {
            let connection = self.connect_to(host, *port).map(|mut connection| {
                let is_right = self.endpoints.len() == 1 || is_master(&mut *connection);
                is_right.then_some(connection)
            });
            match connection {
                Ok(Some(connection)) => return Ok((connection, address(host, *port))),
                Ok(None) => {}
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.unwrap_or_else(|| LimitsError::NoMaster { addresses: self.address() }))
    }

    /// Connects to an endpoint and logs in.
    pub(super) fn connect_to(&self, host: &str, port: u16) -> Result<Connection, LimitsError> {
        let Some(tls) = &self.tls else { return self.plain(ConnectionAddr::Tcp(host.to_owned(), port)) };
        let address = address(host, port);
        let failed = |source| LimitsError::Redis { address: address.clone(), source };
        let stream = tcp(host, port).map_err(|error| failed(error.into()))?;
        let mut secured =
            Secured::over(stream, host, tls).map_err(|source| LimitsError::Tls { address: address.clone(), source })?;
        self.login.run(&mut secured).map_err(failed)?;
        Ok(Box::new(secured))
    }

    fn plain(&self, addr: ConnectionAddr) -> Result<Connection, LimitsError> {
        let address = addr.to_string();
        let failed = |source| LimitsError::Redis { address: address.clone(), source };
        // The client library's own first command would wait for a silent Redis, too.
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = addr.into_connection_info().map_err(failed)?.set_redis_settings(settings);
        let connection = Client::open(info).and_then(|client| client.get_connection_with_timeout(ANSWER_WITHIN));
        let mut connection = connection.map_err(failed)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        connection.set_write_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        self.login.run(&mut connection).map_err(failed)?;
        Ok(Box::new(connection))
    }
}

impl Login {
    /// Authenticates, selects the database, and finds out whether Redis answers. The client library could do so, but drops Redis' reason for a refusal.
    fn run(&self, connection: &mut dyn ConnectionLike) -> RedisResult<()> {
        if let Some(password) = &self.password {
            redis::cmd("AUTH").arg(self.username.as_deref()).arg(password).query::<()>(connection)?;
        }
        if self.database != 0 {
            redis::cmd("SELECT").arg(self.database).query::<()>(connection)?;
        }
        // A pipeline would wait for each of its replies. A user may lack PING.
        match redis::cmd("PING").query::<()>(connection) {
            Err(error) if error.is_io_error() => Err(error),
            _ => Ok(()),
        }
    }
}

/// The address in the environment, if there is one.
fn url_of_environment() -> Option<String> {
    std::env::var(REDIS_URL).ok().filter(|url| !url.trim().is_empty())
}

/// The limiter of the file, or the first of several that use the same Redis.
fn only(source: &Source) -> Result<&Limiter, LimitsError> {
    let place = |limiter: &Limiter| {
        let redis = &limiter.config.redis;
        (redis.cluster.clone(), redis.database, limiter.username(), limiter.written.pointer("/redis/password").cloned())
    };
    let (first, others) =
        source.limiters.split_first().ok_or_else(|| LimitsError::NoLimiter { origin: source.origin.clone() })?;
    match others.iter().find(|other| place(other) != place(first)) {
        None => Ok(first),
        Some(other) => Err(LimitsError::SeveralRedis { place: other.places.redis.clone() }),
    }
}

pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut problem = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, ANSWER_WITHIN) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                stream.set_write_timeout(Some(ANSWER_WITHIN))?;
                return Ok(stream);
            }
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn is_master(connection: &mut dyn ConnectionLike) -> bool {
    let role = connection.req_command(&redis::cmd("ROLE"));
    matches!(role, Ok(Value::Array(parts)) if parts.first() == Some(&Value::BulkString(b"master".to_vec())))
}

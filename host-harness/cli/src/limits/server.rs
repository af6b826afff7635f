//! The Redis of a command: its address, credentials and TLS, from `--redis` and `--config`.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, ConnectionAddr, ConnectionLike, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Value};

use super::cluster::Cluster;
use super::endpoint::{self, Endpoint};
use super::error::{LimitsError, OpenError};
use super::sentinel::Sentinels;
use super::source::{Limiter, Source};
use super::tls::{Pem, Secured, Tls};
use super::url::Url;

/// Time limit of the connection and of each reply. A Redis that needs longer for one scan step is too busy to be scanned.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time limit of the connection, and of each reply of the login, where other servers can be tried.
pub(super) const FIND_WITHIN: Duration = Duration::from_secs(3);
/// Time for which a master is looked for while servers answer and none of them is one.
pub(super) const FAILOVER_WITHIN: Duration = Duration::from_secs(5);
/// Pause before servers are asked again, since a failover or a move of a hash slot is under way.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// Environment variable with the address of Redis, for commands without another address.
const REDIS_URL: &str = "REDIS_URL";

// Options for the Redis of `weir limits`. Not a doc comment: clap would use it as the help of `limits`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RedisOptions {
    /// The Redis of the buckets, redis://[user[:password]@]host[:port][/database]; of Sentinels,
    /// redis-sentinel://[user[:password]@]host[:port],.../name[/database]; of a Redis Cluster,
    /// redis+cluster://[user[:password]@]host[:port],...; of a socket, unix:///path[?db=1]. With rediss, TLS. The
    /// default is the Redis of the proxies, as --config has it, and if it has no address, that of the variable
    /// REDIS_URL. Credentials and a database that the option lacks come from --config.
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
    address: Address,
    login: Login,
    tls: Option<Tls>,
}

/// Redis servers of a command.
#[derive(Debug, PartialEq)]
pub(super) enum Address {
    /// Servers, of which the first that is a master is used. A lone one is used whatever it is.
    Servers(Vec<Endpoint>),
    /// Sentinels that name the master.
    Sentinels(Sentinels),
    /// Nodes of a Redis Cluster.
    Cluster(Vec<Endpoint>),
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
        self.redis.clone().or_else(url_of_environment).is_some_and(|url| Url::is_of_cluster(&url))
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
        let malformed = |source| LimitsError::Url { place, source };
        let Url { address, mut login, has_database, is_secured } = Url::parse(url).map_err(malformed)?;
        let is_cluster = matches!(address, Address::Cluster(_));
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
        Ok(Self { address, login, tls })
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
        let address = if is_cluster { Address::Cluster(endpoints) } else { Address::Servers(endpoints) };
        Ok(Self { address, login, tls })
    }

    /// The nodes of a Redis Cluster; `None` if the Redis is none.
    pub(super) fn cluster_nodes(&self) -> Option<&[Endpoint]> {
        match &self.address {
            Address::Cluster(nodes) => Some(nodes),
            Address::Servers(_) | Address::Sentinels(_) => None,
        }
    }

    /// Credentials and database of the Redis servers.
    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    /// Connects to the master and logs in.
    pub(super) fn connect(&self) -> Result<(Connection, Endpoint), LimitsError> {
        match &self.address {
            Address::Sentinels(sentinels) => sentinels.connect(self),
            Address::Servers(servers) | Address::Cluster(servers) => match &servers[..] {
                [only] => Ok((self.connect_to(only, ANSWER_WITHIN)?, only.clone())),
                several => self.first_master(several),
            },
        }
    }

    /// Connects to the first of several servers that is a master. While replicas answer and no master does, a failover
    /// may be under way: they are asked again for a while.
    fn first_master(&self, servers: &[Endpoint]) -> Result<(Connection, Endpoint), LimitsError> {
        let until = Instant::now() + FAILOVER_WITHIN;
        loop {
            let (mut problem, mut has_replica) = (None, false);
            for server in servers {
                match self.open(server, &self.login, FIND_WITHIN, role_is_master) {
                    Ok((connection, true)) => return Ok((connection, server.clone())),
                    Ok((_, false)) => has_replica = true,
                    Err(error) => problem = Some(error.at(server)),
                }
            }
            if !has_replica || Instant::now() >= until {
                let none = || LimitsError::NoMaster { addresses: endpoint::list(servers) };
                return Err(problem.unwrap_or_else(none));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Connects to a server and logs in.
    pub(super) fn connect_to(&self, server: &Endpoint, within: Duration) -> Result<Connection, LimitsError> {
        let opened = self.open(server, &self.login, within, |_| Ok(()));
        opened.map(|(connection, ())| connection).map_err(|error| error.at(server))
    }

    /// Connects to a server, logs in and asks a question, each `within` this time. Returns the connection and the answer.
    pub(super) fn open<T>(
        &self,
        server: &Endpoint,
        login: &Login,
        within: Duration,
        question: impl FnOnce(&mut dyn ConnectionLike) -> RedisResult<T>,
    ) -> Result<(Connection, T), OpenError> {
        let address = match (server, &self.tls) {
            (Endpoint::Tcp(host, port), Some(tls)) => {
                let mut secured = Secured::over(tcp(host, *port, within)?, host, tls)?;
                login.run(&mut secured)?;
                let answer = question(&mut secured)?;
                secured.set_timeout(ANSWER_WITHIN)?;
                return Ok((Box::new(secured), answer));
            }
            (Endpoint::Tcp(host, port), None) => ConnectionAddr::Tcp(host.clone(), *port),
            (Endpoint::Socket(path), _) => ConnectionAddr::Unix(path.clone()),
        };
        // The client library's own first command would wait for a silent Redis, too.
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = address.into_connection_info()?.set_redis_settings(settings);
        let mut connection = Client::open(info)?.get_connection_with_timeout(within)?;
        connection.set_read_timeout(Some(within))?;
        connection.set_write_timeout(Some(within))?;
        login.run(&mut connection)?;
        let answer = question(&mut connection)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN))?;
        connection.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok((Box::new(connection), answer))
    }
}

impl Login {
    /// Authenticates, selects the database, and finds out whether Redis answers. The client library could do so, but
    /// drops Redis' reason for a refusal.
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

fn tcp(host: &str, port: u16, within: Duration) -> RedisResult<TcpStream> {
    let mut problem = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, within) {
            Ok(stream) => {
                stream.set_read_timeout(Some(within))?;
                stream.set_write_timeout(Some(within))?;
                return Ok(stream);
            }
            Err(error) => problem = error,
        }
    }
    Err(problem.into())
}

/// Asks a server whether it is a master.
pub(super) fn role_is_master(connection: &mut dyn ConnectionLike) -> RedisResult<bool> {
    let role = connection.req_command(&redis::cmd("ROLE"))?;
    Ok(matches!(role, Value::Array(parts) if parts.first() == Some(&Value::BulkString(b"master".to_vec()))))
}

//! The Redis of a run.
//!
//! [`Redis::provide`] takes the first of these that there is:
//! 1. the server that `REDIS_URL` names, which is never flushed or stopped;
//! 2. a container, if `WEIR_REDIS=container`; this needs the feature `containers`;
//! 3. `redis-server` or `valkey-server` on `PATH`;
//! 4. a private copy fetched before;
//! 5. a container, if an engine answers and this crate has the feature `containers`;
//! 6. a private copy fetched now.

mod binary;
#[cfg(feature = "containers")]
mod container;
mod external;
#[cfg(not(feature = "containers"))]
mod no_container;
mod release;
mod sentinel;
mod server;

pub use binary::find_or_fetch as binary;
#[cfg(feature = "containers")]
pub use container::RedisContainer;
pub use external::ExternalRedis;
#[cfg(not(feature = "containers"))]
pub use no_container::RedisContainer;
pub use release::{RELEASES, Release};
pub use sentinel::{Sentinel, SentinelOptions};
pub use server::{RedisOptions, RedisServer};

use std::net::SocketAddr;

#[cfg(not(feature = "containers"))]
use no_container as container;

use super::ProvisionError;

/// The Redis that was found or started.
#[derive(Debug)]
pub enum Redis {
    /// The operator's server, named by `REDIS_URL`.
    External(ExternalRedis),
    /// A process that was started for this run.
    Server(Box<RedisServer>),
    /// A container that was started for this run.
    Container(RedisContainer),
}

impl Redis {
    /// Finds or starts a Redis; `options` apply to a process started here.
    ///
    /// # Errors
    /// The errors of all ways, if none of them gave a Redis.
    pub fn provide(options: RedisOptions) -> Result<Self, ProvisionError> {
        if let Some(external) = ExternalRedis::from_env()? {
            return Ok(Self::External(external));
        }
        if container_is_asked_for() {
            return RedisContainer::start().map(Self::Container);
        }
        let no_binary = match binary::find() {
            Some(_) => return RedisServer::start(options).map(|server| Self::Server(Box::new(server))),
            None if container::engine_answers() => match RedisContainer::start() {
                Ok(container) => return Ok(Self::Container(container)),
                Err(why) => Some(why),
            },
            None => None,
        };
        RedisServer::start(options).map(|server| Self::Server(Box::new(server))).map_err(|why| match no_binary {
            Some(container) => ProvisionError::Missing {
                what: "Redis",
                why: format!("{container}\nand {why}"),
                try_command: binary::TRY.into(),
            },
            None => why,
        })
    }

    /// The address of the server.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::External(redis) => redis.addr(),
            Self::Server(redis) => redis.addr(),
            Self::Container(redis) => redis.addr(),
        }
    }

    /// The URL for clients, with credentials if the server needs them.
    pub fn url(&self) -> String {
        match self {
            Self::External(redis) => redis.url().to_owned(),
            Self::Server(redis) => redis.url(),
            Self::Container(redis) => redis.url(),
        }
    }

    /// The credentials and database of the URL.
    pub fn login(&self) -> Login {
        match self {
            Self::External(redis) => redis.login().clone(),
            Self::Server(redis) => Login { password: redis.password().map(str::to_owned), ..Login::default() },
            Self::Container(_) => Login::default(),
        }
    }
}

/// Whether `WEIR_REDIS=container` is set: a container then takes precedence over `redis-server` on `PATH`.
fn container_is_asked_for() -> bool {
    std::env::var("WEIR_REDIS").is_ok_and(|it| it == "container")
}

/// Credentials and database that a client sends after it has connected.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The ACL user; `None`: the default user.
    pub username: Option<String>,
    /// The password; `None`: the server needs none.
    pub password: Option<String>,
    /// The database number.
    pub database: i64,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let password = self.password.as_ref().map(|_| "…");
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &password)
            .field("database", &self.database)
            .finish()
    }
}

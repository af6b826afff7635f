//! A Redis to run against.
//!
//! Looked for in this order: the server that `REDIS_URL` names, used but never flushed or stopped; a container,
//! where `WEIR_REDIS=container` asks for one; `redis-server` or `valkey-server` on `PATH`; a private copy fetched
//! before; a container, where an engine answers; a private download.

mod binary;
mod container;
mod external;
mod server;

pub use binary::find_or_fetch as binary;
pub use container::RedisContainer;
pub use external::ExternalRedis;
pub use server::{RedisOptions, RedisServer};

use std::net::SocketAddr;

use super::ProvisionError;

/// Whichever Redis was found.
#[derive(Debug)]
pub enum Redis {
    /// Somebody else's, named by `REDIS_URL`.
    External(ExternalRedis),
    /// A process of ours.
    Server(RedisServer),
    /// A container of ours.
    Container(RedisContainer),
}

impl Redis {
    /// Finds or starts a Redis; `options` apply where it is a process of ours.
    ///
    /// # Errors
    /// What each way said, where none gave one.
    pub fn provide(options: RedisOptions) -> Result<Self, ProvisionError> {
        if let Some(external) = ExternalRedis::from_env()? {
            return Ok(Self::External(external));
        }
        if container::is_asked_for() {
            return RedisContainer::start().map(Self::Container);
        }
        let no_binary = match binary::find() {
            Some(_) => return RedisServer::start(options).map(Self::Server),
            None if container::engine_answers() => match RedisContainer::start() {
                Ok(container) => return Ok(Self::Container(container)),
                Err(why) => Some(why),
            },
            None => None,
        };
        RedisServer::start(options).map(Self::Server).map_err(|why| match no_binary {
            Some(container) => ProvisionError::Missing {
                what: "Redis",
                why: format!("{container}\nand {why}"),
                try_command: binary::TRY.into(),
            },
            None => why,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::External(redis) => redis.addr(),
            Self::Server(redis) => redis.addr(),
            Self::Container(redis) => redis.addr(),
        }
    }

    /// The URL that a client may use, with credentials if it has any.
    pub fn url(&self) -> String {
        match self {
            Self::External(redis) => redis.url().to_owned(),
            Self::Server(redis) => redis.url(),
            Self::Container(redis) => redis.url(),
        }
    }

    /// The credentials and database of its URL.
    pub fn login(&self) -> Login {
        match self {
            Self::External(redis) => redis.login().clone(),
            Self::Server(redis) => Login { password: redis.password().map(str::to_owned), ..Login::default() },
            Self::Container(_) => Login::default(),
        }
    }
}

/// What a client says after it has connected.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The ACL user, where it is not the default one.
    pub username: Option<String>,
    /// The password, where one is needed.
    pub password: Option<String>,
    /// The database's number.
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

//! Redis Sentinel: names the master of a group, which changes with each failover.

use std::thread;
use std::time::Instant;

use redis::{ConnectionLike, RedisResult, cmd};

use super::endpoint::Endpoint;
use super::error::{LimitsError, OpenError};
use super::server::{Connection, FAILOVER_WITHIN, FIND_WITHIN, Login, PAUSE, Server, role_is_master};

/// Sentinels of one group of Redis servers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sentinels {
    pub(super) endpoints: Vec<Endpoint>,
    /// Name of the group's master in the Sentinels' configuration.
    pub(super) name: String,
    /// Credentials of the Sentinels, which are not those of Redis.
    pub(super) login: Login,
}

/// Reasons why a Sentinel leads to no master.
#[derive(Debug, thiserror::Error)]
pub enum SentinelError {
    /// The Sentinel cannot be reached, or refuses the question.
    #[error(transparent)]
    Sentinel(#[from] OpenError),
    /// The Sentinel watches no master of this name.
    #[error("expected a master named {name:?}, found none")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// The master cannot be reached, or refuses the login.
    #[error("master {address}: {source}")]
    Master {
        /// Address of the master, as the Sentinel tells it.
        address: String,
        /// The cause.
        source: OpenError,
    },
    /// The master has become a replica, and the Sentinel does not know another master yet.
    #[error("expected the master at {address}, found a replica")]
    Replica {
        /// Address of the replica.
        address: String,
    },
}

impl SentinelError {
    /// Whether a failover may be under way.
    fn is_passing(&self) -> bool {
        match self {
            Self::Sentinel(_) | Self::UnknownName { .. } => false,
            Self::Master { source, .. } => source.is_unreachable(),
            Self::Replica { .. } => true,
        }
    }
}

impl Sentinels {
    /// Connects to the master that the first Sentinel which knows one names. During a failover, the Sentinels are asked
    /// again for a while.
    pub(super) fn connect(&self, server: &Server) -> Result<(Connection, Endpoint), LimitsError> {
        let until = Instant::now() + FAILOVER_WITHIN;
        loop {
            let mut tries = Vec::new();
            for sentinel in &self.endpoints {
                match self.master(server, sentinel).and_then(|master| connect_to(server, master)) {
                    Ok(found) => return Ok(found),
                    Err(error) => tries.push((sentinel.to_string(), error)),
                }
            }
            if Instant::now() >= until || !tries.iter().any(|(_, error)| error.is_passing()) {
                return Err(LimitsError::Sentinels { tries });
            }
            thread::sleep(PAUSE);
        }
    }

    fn master(&self, server: &Server, sentinel: &Endpoint) -> Result<Endpoint, SentinelError> {
        let question = |redis: &mut dyn ConnectionLike| -> RedisResult<Option<(String, u16)>> {
            cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name).query(redis)
        };
        let (_, master) = server.open(sentinel, &self.login, FIND_WITHIN, question)?;
        let (host, port) = master.ok_or_else(|| SentinelError::UnknownName { name: self.name.clone() })?;
        Ok(Endpoint::Tcp(host, port))
    }
}

fn connect_to(server: &Server, master: Endpoint) -> Result<(Connection, Endpoint), SentinelError> {
    let address = master.to_string();
    match server.open(&master, server.login(), FIND_WITHIN, role_is_master) {
        Ok((connection, true)) => Ok((connection, master)),
        Ok((_, false)) => Err(SentinelError::Replica { address }),
        Err(source) => Err(SentinelError::Master { address, source }),
    }
}

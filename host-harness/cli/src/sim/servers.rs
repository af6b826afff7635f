//! Redis servers of simulations: none, or real ones on a virtual clock, each for one thread.

use anyhow::Context;
use weir_provision::checkout::scratch_dir;
use weir_provision::redis::{RedisOptions, RedisServer};
use weir_provision::virtual_clock::VirtualClock;
use weir_sim::RealRedis;

use super::On;

/// Redis of one thread.
pub(super) struct Server(Option<(RedisServer, VirtualClock, tempfile::TempDir)>);

/// Starts the servers of `threads` threads.
pub(super) fn servers(on: On, threads: usize) -> anyhow::Result<Vec<Server>> {
    let start = || match on {
        On::Virtual => Ok(Server(None)),
        On::Redis => Server::start(),
    };
    (0..threads.max(1)).map(|_| start()).collect()
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let folder = scratch_dir("virtual-clock")?;
        let clock = VirtualClock::new(folder.path())?;
        let options = RedisOptions { env: clock.env(), ..RedisOptions::default() };
        Ok(Self(Some((RedisServer::start(options)?, clock, folder))))
    }

    /// Connects to the server, if it is a real one.
    pub(super) fn connect(&self) -> anyhow::Result<Option<RealRedis>> {
        let connect = |(server, clock, _): &(RedisServer, VirtualClock, _)| {
            RealRedis::connect(server.addr(), clock.file()).context("cannot connect to the Redis of a simulation")
        };
        self.0.as_ref().map(connect).transpose()
    }
}

//! Redis Sentinel processes.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    ProvisionError, checkout, port,
    process::{ServerProcess, last_lines},
};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// Options of a [`Sentinel`].
#[derive(Debug, Clone)]
pub struct SentinelOptions {
    /// The executable; `None`: [`binary`](super::binary).
    pub binary: Option<PathBuf>,
    /// The name of the group of Redis nodes.
    pub name: String,
    /// The address of the group's master at the start; the Sentinel finds its replicas and the other Sentinels there.
    pub master: SocketAddr,
    /// Number of Sentinels that must find the master down for a failover, ≥ 1.
    pub quorum: u32,
    /// Silence after which the Sentinel takes a node for down, ≥ 1 ms.
    pub down_after: Duration,
    /// Twice this time passes before a failover of the same master is tried again, ≥ 1 ms.
    pub failover_timeout: Duration,
    /// The Sentinels' password, which all of a group share.
    pub password: Option<String>,
    /// The password of the Redis nodes.
    pub nodes_password: Option<String>,
    /// Further lines of its configuration, such as `tls-replication yes`.
    pub lines: Vec<String>,
}

/// A Redis Sentinel process, which is the executable of Redis in another mode. Dropping it stops the process.
pub struct Sentinel {
    name: String,
    addr: SocketAddr,
    url: String,
    _process: ServerProcess,
    _dir: TempDir,
}

impl Sentinel {
    /// Starts a Sentinel on a free port of 127.0.0.1 and waits until it answers.
    ///
    /// # Errors
    /// If no executable is found or fetched, or the Sentinel does not answer within 20 s.
    pub fn start(options: &SentinelOptions) -> Result<Self, ProvisionError> {
        let binary = options.binary.clone().map_or_else(super::binary, Ok)?;
        port::on_a_free_port(|addr| {
            let dir = checkout::scratch_dir("sentinel")?;
            // A Sentinel writes what it learns into its configuration, and does not start without one.
            let file = dir.path().join("sentinel.conf");
            std::fs::write(&file, configuration(options, addr)).map_err(ProvisionError::io(&file))?;
            let mut command = Command::new(&binary);
            command.arg(&file).arg("--sentinel").current_dir(dir.path());
            let mut process = ServerProcess::spawn(&mut command, &dir.path().join("sentinel.log"))?;
            let password = options.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
            let url = format!("redis://{password}{addr}");
            let answers = || super::server::ping(&url).map_err(|why| format!("no answer to PING ({why})"));
            process.wait_until_ready(&format!("Sentinel on {addr}"), READY_WITHIN, last_lines, answers)?;
            Ok(Self { name: options.name.clone(), addr, url, _process: process, _dir: dir })
        })
    }

    /// The address of the Sentinel.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the master, as this Sentinel knows it.
    ///
    /// # Errors
    /// If the Sentinel does not answer.
    pub fn master(&self) -> ::redis::RedisResult<SocketAddr> {
        let (ip, port): (String, u16) = self.ask(&["GET-MASTER-ADDR-BY-NAME"])?;
        let unreadable = (::redis::ErrorKind::UnexpectedReturnType, "expected an IP address");
        Ok(SocketAddr::new(ip.parse().map_err(|_| ::redis::RedisError::from(unreadable))?, port))
    }

    /// Whether this Sentinel knows enough other Sentinels for a failover, and so many replicas of the master.
    ///
    /// # Errors
    /// If the Sentinel does not answer.
    pub fn is_usable(&self, replicas: usize) -> ::redis::RedisResult<bool> {
        let found: Vec<::redis::Value> = self.ask(&["REPLICAS"])?;
        Ok(found.len() == replicas && self.ask::<String>(&["CKQUORUM"]).is_ok_and(|told| told.starts_with("OK ")))
    }

    fn ask<T: ::redis::FromRedisValue>(&self, words: &[&str]) -> ::redis::RedisResult<T> {
        let client = ::redis::Client::open(self.url.as_str())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1))?;
        ::redis::cmd("SENTINEL").arg(words).arg(&self.name).query(&mut connection)
    }
}

impl std::fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sentinel").field("addr", &self.addr).field("name", &self.name).finish_non_exhaustive()
    }
}

fn configuration(options: &SentinelOptions, addr: SocketAddr) -> String {
    let SentinelOptions { name, master, quorum, down_after, failover_timeout, password, nodes_password, .. } = options;
    let of_sentinels = password.as_ref().map(|word| format!("requirepass {word}\nsentinel sentinel-pass {word}\n"));
    let of_nodes = nodes_password.as_ref().map(|word| format!("sentinel auth-pass {name} {word}\n"));
    let lines = format!(
        "bind 127.0.0.1\nport {}\nsentinel monitor {name} {} {} {quorum}\n\
         sentinel down-after-milliseconds {name} {}\nsentinel failover-timeout {name} {}\n\
         sentinel parallel-syncs {name} 2\n",
        addr.port(),
        master.ip(),
        master.port(),
        down_after.as_millis(),
        failover_timeout.as_millis(),
    );
    let further = options.lines.iter().map(|line| format!("{line}\n"));
    [Some(lines), of_sentinels, of_nodes].into_iter().flatten().chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        or_skip,
        redis::{RedisOptions, RedisServer},
    };

    #[test]
    fn a_sentinel_knows_its_master_and_waits_for_others() {
        let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
        let options = SentinelOptions {
            binary: None,
            name: "weir".into(),
            master: redis.addr(),
            quorum: 2,
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(3),
            password: None,
            nodes_password: None,
            lines: Vec::new(),
        };
        let sentinel = Sentinel::start(&options).unwrap();
        assert_eq!(sentinel.master().unwrap(), redis.addr());
        assert!(!sentinel.is_usable(0).unwrap(), "one Sentinel is less than the quorum");
        let alone = Sentinel::start(&SentinelOptions { quorum: 1, ..options }).unwrap();
        assert!(!alone.is_usable(1).unwrap(), "the master has no replica");
    }
}

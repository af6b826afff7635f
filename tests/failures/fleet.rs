//! Recovery of many workers at once: each of them has a connection to Redis of its own.

use weir::{HostKind, Load};

use crate::catalogue::{Entry, entries};
use crate::stage::{Row, Stage};

pub(super) const WORKERS: u32 = 50;
/// Users whose connections reach all workers.
pub(super) const LOAD: Load =
    Load { users: 100, connections: 4, rate: 5.0, max_tokens: 5, tokens_per_second: 2, timeout: Load::STEADY.timeout };
/// Connections of each worker after a fault: one that is refused, and one that lasts.
const CONNECTIONS: u64 = 2;
/// Commands of each worker after a fault, beside those of checks: those of handshakes, and those that read overrides.
const COMMANDS: u64 = 20;
/// Commands of a check: the script and what it calls.
const PER_CHECK: u64 = 4;

/// The faults after which all workers connect anew.
pub(super) fn faults() -> impl Iterator<Item = Entry> {
    entries().into_iter().filter(|entry| {
        ["kill -9", "SIGSTOP", "`CLIENT KILL`", "`maxclients`", "`WRONGPASS`"]
            .iter()
            .any(|name| entry.name.starts_with(name))
    })
}

weir::on_both_hosts! {
    fifty_workers_recover_without_a_storm
}

async fn fifty_workers_recover_without_a_storm(host: HostKind) {
    let Some(stage) = Stage::start(host, WORKERS, LOAD).await else { return };
    for entry in faults().filter(|entry| entry.name == "kill -9 and a start") {
        let row = stage.run(&entry).await;
        println!("{host:?}, {WORKERS} workers: {row}");
        let Row { trial, since, .. } = &row;
        trial.as_asked();
        assert!(trial.failed > 0 && trial.over_admitted == 0, "{row}");
        assert!(trial.mostly_decided_after <= entry.recovers_within, "{row}");
        let (connections, commands) = since.expect("statistics");
        assert!(connections <= CONNECTIONS * u64::from(WORKERS), "{row}");
        assert!(commands <= PER_CHECK * trial.requests as u64 + COMMANDS * u64::from(WORKERS), "{row}");
    }
    // More than half of the workers are connected.
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut stage.mesh.redis_connection()).unwrap();
    let connected = clients.lines().filter(|line| line.contains(" user=weir ")).count();
    assert!(connected > WORKERS as usize / 2, "{connected} of {WORKERS} workers are connected");
}

//! Losses of Redis' data under load, with and without heals by the workers: what buckets admit beyond their promise.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use weir::{HostKind, Mesh, Phases, Trial};
use weir_provision::or_skip;
use weir_provision::redis::{RedisOptions, RedisServer};

use crate::durability::{LOAD, until_buckets_are_empty};
use crate::stage::until_decided;

/// Losses on the page, and whether workers heal them.
pub(super) const ROWS: [(Loss, bool, &str); 4] = [
    (Loss::Restart, true, "memory alone, kill -9, workers heal"),
    (Loss::Flush, true, "memory alone, `FLUSHALL`, workers heal"),
    (Loss::StaleReplica, false, "a replica 2 s behind takes over"),
    (Loss::StaleReplica, true, "a replica 2 s behind takes over, workers heal"),
];

/// Time for recovery: the start of Redis, and a few attempts to connect.
const SOON: Duration = Duration::from_secs(2);
/// Time for which a replica has had no data of its master when it takes over.
const STALE_FOR: Duration = Duration::from_secs(2);
/// Time for a replica to have its master's data.
const SYNCED_WITHIN: Duration = Duration::from_secs(30);

/// Way in which Redis loses data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// `FLUSHALL`, on connections that stay.
    Flush,
    /// kill -9 and a start of a Redis that keeps its data in memory alone.
    Restart,
    /// The data of a replica that had been parted from its master for a time takes over.
    StaleReplica,
}

impl Loss {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Flush, "`FLUSHALL`"),
        (Self::Restart, "restart of a memory-only Redis"),
        (Self::StaleReplica, "a replica 2 s behind takes over"),
    ];
}

weir::on_both_hosts! {
    workers_heal_a_redis_that_has_lost_data
}

async fn workers_heal_a_redis_that_has_lost_data(host: HostKind) {
    for (loss, name) in Loss::ALL {
        let Some(without) = lose(host, loss, false).await else { return };
        let Some(with) = lose(host, loss, true).await else { return };
        for (heals, trial) in [("without", &without), ("with", &with)] {
            println!("{host:?}: {name}, {heals} heals: over-admitted {:?}; {trial}", trial.over_admitted_of);
            trial.as_asked();
            assert!(trial.mostly_decided_after < SOON, "{name}: {trial}");
        }
        let sum = |trial: &Trial| trial.over_admitted_of.iter().sum::<u64>();
        assert!(sum(&without) > LOAD.tokens_per_second, "{name}: the measure sees no loss: {without}");
        // Requests in flight at the loss are decided before a worker knows of it.
        assert!(with.over_admitted <= in_flight(), "{name}: {with}");
        assert!(sum(&with) < sum(&without) / 2, "{name}: {with}");
    }
}

/// Requests of one user in flight at a time, twice: those before the loss is seen, and those before it is healed.
fn in_flight() -> u64 {
    2 * LOAD.connections as u64
}

pub(super) async fn lose(host: HostKind, loss: Loss, heals: bool) -> Option<Trial> {
    let mesh = LOAD
        .configure(Mesh::on(host, "envoy/quickstart.yaml").redis(RedisOptions::default()))
        .configure(|filter| filter["heal"] = json!({"max_keys": if heals { 10_000 } else { 0 }}))
        .start()
        .await?;
    let replica = match loss {
        Loss::StaleReplica => Some(or_skip(RedisServer::start(RedisOptions::default()))?),
        _ => None,
    };
    if let Some(replica) = &replica {
        follow(replica, Some(mesh.redis()));
    }
    until_decided(&mesh).await;
    let begin = async || {
        until_buckets_are_empty(&mesh).await;
        match (loss, &replica) {
            (Loss::Flush, _) => redis::cmd("FLUSHALL").exec(&mut mesh.redis_connection()).expect("Redis runs"),
            (Loss::StaleReplica, Some(replica)) => {
                follow(replica, None);
                sleep(STALE_FOR).await;
                // The master gets the data of the replica, as if that had been promoted.
                tokio::task::block_in_place(|| follow(mesh.redis(), Some(replica)));
                follow(mesh.redis(), None);
            }
            _ => mesh.redis().kill(),
        }
    };
    let end = async || {
        if loss == Loss::Restart {
            tokio::task::block_in_place(|| mesh.redis().restart().expect("Redis starts"));
        }
    };
    let phases = Phases { before: Duration::from_millis(500), fault: Duration::ZERO, after: SOON };
    Some(LOAD.run(&mesh, phases, begin, end).await)
}

/// Makes a Redis the replica of another, and waits until it has its data; or makes it a master.
fn follow(redis: &RedisServer, master: Option<&RedisServer>) {
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let (host, port) = match master {
        Some(master) => (master.addr().ip().to_string(), master.addr().port().to_string()),
        None => ("NO".to_owned(), "ONE".to_owned()),
    };
    redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut connection).unwrap();
    let begin = std::time::Instant::now();
    while master.is_some() {
        let text: String = redis::cmd("INFO").arg("replication").query(&mut connection).unwrap();
        if text.contains("master_link_status:up") {
            return;
        }
        assert!(begin.elapsed() < SYNCED_WITHIN, "the replica has no data: {text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

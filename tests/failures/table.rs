//! Page of documentation with what was measured.

use std::fmt::Write as _;
use std::process::Command;

use weir::{HostKind, Load, Trial};
use weir_provision::{checkout, envoy};

use crate::catalogue::entries;
use crate::dns::Answer;
use crate::durability::{self, CASES, FULL_DISK};
use crate::stage::{Row, Stage, redis_version};
use crate::{changes, clocks, fleet, healing, names, tls};

const PAGE: &str = "docs/src/failures.md";
const WORKERS: u32 = 2;

/// Runs every fault on both hosts and the rest on Envoy, and writes the page. On a machine with other work, waits are
/// those of the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes docs/src/failures.md"]
async fn the_page_has_what_was_measured() {
    let mut page = introduction();
    let faults = async |host| faults(host).await.expect("all components are there");
    for (title, text, rows) in [
        ("Envoy", String::new(), faults(HostKind::Envoy).await),
        ("The embedded host", String::new(), faults(HostKind::Embedded).await),
        ("Lost state", lost_state(), durability().await.expect("all components are there")),
        ("50 workers", fifty_workers(), fleet().await.expect("all components are there")),
        ("Changes of the proxy", changes_of_the_proxy(), changed().await.expect("all components are there")),
    ] {
        let table = table(&rows);
        println!("{title}\n{table}");
        write!(page, "\n## {title}\n\n{text}{table}").unwrap();
    }
    std::fs::write(checkout::root().unwrap().join(PAGE), page).unwrap();
}

async fn faults(host: HostKind) -> Option<Vec<Row>> {
    let stage = Stage::start(host, WORKERS, Load::STEADY).await?;
    let mut rows = Vec::new();
    for entry in entries() {
        rows.push(stage.run(&entry).await);
    }
    drop(stage);
    for (seconds, name) in [(3_600, "clock of Redis + 1 h"), (-3_600, "clock of Redis − 1 h")] {
        rows.push(alone(name, clocks::step(host, seconds, None).await?));
    }
    for (seconds, name) in [(3_600, "clock + 1 h, with leases"), (-3_600, "clock − 1 h, with leases")] {
        rows.push(alone(name, clocks::step(host, seconds, Some(10)).await?));
    }
    rows.push(alone(tls::EXPIRED, tls::expire(host).await?));
    if host == HostKind::Envoy {
        let (name, trial) = names::change().await?;
        rows.push(alone(name, trial));
        for (answer, name) in [(Answer::NoSuchName, names::NO_SUCH_NAME), (Answer::Silence, names::SILENCE)] {
            let (name, trial) = names::vanish(answer, name).await?;
            rows.push(alone(name, trial));
        }
    }
    Some(rows)
}

async fn durability() -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    for case in CASES {
        rows.push(alone(case.name, durability::lose(HostKind::Envoy, case).await?.trial));
    }
    for (loss, heals, name) in healing::ROWS {
        rows.push(alone(name, healing::lose(HostKind::Envoy, loss, heals).await?));
    }
    for (fsync, name) in FULL_DISK {
        rows.push(alone(name, durability::fill_disk(HostKind::Envoy, fsync).await?));
    }
    Some(rows)
}

async fn fleet() -> Option<Vec<Row>> {
    let stage = Stage::start(HostKind::Envoy, fleet::WORKERS, fleet::LOAD).await?;
    let mut rows = Vec::new();
    for entry in fleet::faults() {
        rows.push(stage.run(&entry).await);
    }
    Some(rows)
}

async fn changed() -> Option<Vec<Row>> {
    let mut filed = changes::start().await?;
    let mut rows = Vec::new();
    for (change, name) in changes::CHANGES {
        rows.push(alone(name, changes::trial_of(change, &mut filed).await));
    }
    Some(rows)
}

fn alone(name: &'static str, trial: Trial) -> Row {
    Row { name, trial, since: None }
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| fault | requests | decided | failure mode | other | wait ms | over | back s | connections | commands |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for Row { name, trial, since } in rows {
        let Trial { requests, decided, failed, others, worst_wait, recovered_after, over_admitted, .. } = trial;
        let other: usize = others.values().sum();
        let (connections, commands) =
            since.map_or(("".into(), "".into()), |(one, other)| (one.to_string(), other.to_string()));
        let (wait, back) = (worst_wait.as_millis(), recovered_after.as_secs_f64());
        writeln!(
            table,
            "| {name} | {requests} | {decided} | {failed} | {other} | {wait} | {over_admitted} | {back:.2} | \
             {connections} | {commands} |"
        )
        .unwrap();
    }
    table
}

fn introduction() -> String {
    let Load { users, rate, max_tokens, tokens_per_second, timeout, .. } = Load::STEADY;
    let redis = redis_version().expect("a Redis");
    let timeout = timeout.as_millis();
    format!(
        "# Failures under load\n\n\
         `cargo test -p weir --test failures -- --ignored --nocapture` measures this page on your machine. {users} users\n\
         send {rate} requests a second each, of which {tokens_per_second} are admitted (`max_tokens: {max_tokens}`), \
         with {WORKERS} workers,\n`redis.timeout` {timeout} ms and `failure_mode: deny`. A fault begins under this \
         load, lasts for a second or more, and\nends.\n\n\
         | column | meaning |\n|---|---|\n\
         | decided | requests that Redis decided, or the deny cache: 200 and 429 |\n\
         | failure mode | requests that the failure mode answered: 503 |\n\
         | other | requests with any other answer, or none |\n\
         | wait ms | longest time from a request to its answer |\n\
         | over | most requests that a bucket admitted beyond its promise, in any window |\n\
         | back s | time from the end of the fault to the last request that the failure mode answered |\n\
         | connections, commands | of Redis, from the end of the fault on, for 3.5 to 7.5 s; 400 requests a second |\n\n\
         [Decisions without Redis](guarantees.md#decisions-without-redis) has measurements of `failure_mode: local`.\n\n\
         A clock that is set forth by an hour fills a bucket, as an hour does. A resolver without an answer waits for\n\
         seconds before it asks again. [Redis](redis.md) has failovers.\n\n\
         Measured on {}, with Envoy {} and Redis {redis}. Other work on the machine adds to waits.\n",
        today(),
        envoy::VERSION,
    )
}

fn lost_state() -> String {
    let Load { users, rate, max_tokens, tokens_per_second, .. } = durability::LOAD;
    format!(
        "{users} users send {rate} requests a second each, of which {tokens_per_second} are admitted (`max_tokens: \
         {max_tokens}`), until all buckets are\nempty. Then Redis is killed and started again at once, or is told to \
         forget. A bucket admits again what Redis has lost:\n\n\
         - `always` loses nothing. `everysec` loses what was written within the last second, with the machine: for the \
         power\n  cut, the file was cut to its length of a second before. kill -9 leaves what Redis has written.\n\
         - A Redis without a file loses all: once more `max_tokens`, less what would have flowed in meanwhile. Where \
         workers\n  [heal](guarantees.md#lost-data) it, they give it back; in the other rows they do not.\n\
         - On a full disk, the files of Redis cannot grow for 1.5 s; the load is that of the first table. With \
         `everysec`, Redis\n  refuses to write (`MISCONF`) until there is room. With `always`, Redis ends itself: it \
         was started again.\n\n"
    )
}

fn fifty_workers() -> String {
    let Load { users, rate, tokens_per_second, max_tokens, .. } = fleet::LOAD;
    format!(
        "One Envoy with {} workers, each with a connection of its own. {users} users send {rate} requests a second \
         each, of which {tokens_per_second}\nare admitted (`max_tokens: {max_tokens}`).\n\n",
        fleet::WORKERS,
    )
}

fn changes_of_the_proxy() -> String {
    "Envoy reads its listener, its cluster of Redis and the filter from files, which are replaced under the load of the\n\
     first table, with `redis.timeout` 4 s and `--drain-time-s 3`. A cluster with another address loses its connections,\n\
     and the checks in flight with them. In the hot restart, a second process takes over the listener, and 10 requests\n\
     in flight end at the first.\n\n"
        .to_owned()
}

fn today() -> String {
    let output = Command::new("date").arg("+%Y-%m-%d").output().expect("`date` runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

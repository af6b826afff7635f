//! Page of documentation with what was measured.

use std::fmt::Write as _;
use std::process::Command;

use weir::{HostKind, Load, Trial};
use weir_provision::{checkout, envoy};

use crate::catalogue::entries;
use crate::clocks;
use crate::dns::Answer;
use crate::names;
use crate::stage::{Row, Stage, redis_version};

const PAGE: &str = "docs/src/failures.md";
const WORKERS: u32 = 2;

/// Runs every fault on both hosts, and writes the page. On a machine with other work, waits are those of the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes docs/src/failures.md"]
async fn the_page_has_what_was_measured() {
    let mut page = introduction();
    for (host, title) in [(HostKind::Envoy, "Envoy"), (HostKind::Embedded, "The embedded host")] {
        let rows = measure(host).await.expect("all components are there");
        let table = table(&rows);
        println!("{table}");
        write!(page, "\n## {title}\n\n{table}").unwrap();
    }
    std::fs::write(checkout::root().unwrap().join(PAGE), page).unwrap();
}

async fn measure(host: HostKind) -> Option<Vec<Row>> {
    let stage = Stage::start(host, WORKERS).await?;
    let mut rows = Vec::new();
    for entry in entries() {
        rows.push(stage.run(&entry).await);
    }
    drop(stage);
    let alone = |name, trial| Row { name, trial, since: None };
    for (seconds, name) in [(3_600, "clock of Redis + 1 h"), (-3_600, "clock of Redis − 1 h")] {
        rows.push(alone(name, clocks::step(host, seconds, None).await?));
    }
    for (seconds, name) in [(3_600, "clock + 1 h, with leases"), (-3_600, "clock − 1 h, with leases")] {
        rows.push(alone(name, clocks::step(host, seconds, Some(10)).await?));
    }
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
         A clock that is set forth by an hour fills a bucket, as an hour does. A resolver without an answer waits for\n\
         seconds before it asks again. [Redis](redis.md) has failovers and expired certificates.\n\n\
         Measured on {}, with Envoy {} and Redis {redis}. Other work on the machine adds to waits.\n",
        today(),
        envoy::VERSION,
    )
}

fn today() -> String {
    let output = Command::new("date").arg("+%Y-%m-%d").output().expect("`date` runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

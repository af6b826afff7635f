//! Any number of workers.

use std::time::Duration;

use serde_json::json;
use weir::{HostKind, Mesh};
use weir_harness::traffic::{self, Pace};

use crate::QUICKSTART;

const TOKENS: usize = 100;

weir::on_both_hosts! {
    any_number_of_workers_admits_what_the_bucket_holds
}

/// 400 connections with one request each reach all workers.
async fn any_number_of_workers_admits_what_the_bucket_holds(host: HostKind) {
    for (workers, lease) in [(1, false), (2, false), (8, false), (8, true)] {
        let mesh = Mesh::on(host, QUICKSTART).patient().workers(workers).bucket(TOKENS as u64, 1, "86400s");
        let mesh = mesh.configure(|filter| {
            if lease {
                filter["limits"][0]["lease"] = json!({"max": 4, "ttl": "60s"});
            }
        });
        let Some(mesh) = mesh.start().await else { return };
        let mut plan = mesh.plan(0);
        plan.timeout = Duration::from_secs(60);
        plan.users = vec![Mesh::user("alice", Pace::Closed).connections(4 * TOKENS)];
        let report = traffic::at_once(plan).await.together();
        let what = format!("{host:?}, {workers} workers, lease: {lease}: {:?}", report.failures());
        assert_eq!(report.admitted() + report.denied(), 4 * TOKENS, "{what}");
        // Tokens that workers still hold at the end were not admitted.
        let least = if lease { TOKENS - 4 * workers as usize } else { TOKENS };
        assert!((least..=TOKENS).contains(&report.admitted()), "{what}: {} admitted", report.admitted());
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut mesh.redis_connection()).unwrap();
        assert_eq!(clients.lines().count() - 1, workers as usize, "{what}: connections to Redis");
    }
}

//! Requests in flight that cost more than their estimates, and requests that end while Redis is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use weir::{HostKind, Mesh, Provider};
use weir_provision::redis::RedisOptions;

use crate::spent::{Budget, Spent, budget, charged, key_of, ledger, settled, spent};
use crate::{ask, budgets};

const BUDGET: u64 = 1_000;
const ESTIMATE: u64 = 100;
/// Tokens that each response tells, of request and response.
const COST: [u64; 2] = [70, 80];
const SOON: Duration = Duration::from_secs(30);

weir::on_both_hosts! {
    costs_beyond_the_estimates_exceed_a_budget_by_those_in_flight_alone
    requests_that_end_while_redis_is_away_are_settled_exactly_afterwards
}

/// Starts a mesh whose requests each hold 100 tokens of 1,000.
async fn start(host: HostKind, provider: &Provider) -> Option<Arc<Mesh>> {
    let redis = RedisOptions { appendonly: true, ..RedisOptions::default() };
    let mesh = budgets(host, "envoy/quickstart.yaml", provider).redis(redis).configure(|filter| {
        filter["limits"][0]["fixed_window"]["max_tokens"] = BUDGET.into();
        for limit in 0..2 {
            filter["limits"][limit]["reserve"] = json!({"input": 60, "output": {"default": 40, "json_pointers": []}});
        }
        filter["events"] = json!({"usage": true, "sample": 0.000_001});
    });
    mesh.start().await.map(Arc::new)
}

/// Sends requests whose responses wait for the gate, until `open` of them are in flight. The tasks return statuses.
async fn begin(mesh: &Arc<Mesh>, count: usize, open: usize) -> JoinSet<u16> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let mesh = Arc::clone(mesh);
        tasks.spawn(async move { ask(&mesh, "alice", "gated", COST[0], COST[1]).await.status });
    }
    let deadline = Instant::now() + SOON;
    while budget(mesh, "tokens", "alice").open < open {
        assert!(Instant::now() < deadline, "{:?}", spent(mesh, "alice"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tasks
}

async fn costs_beyond_the_estimates_exceed_a_budget_by_those_in_flight_alone(host: HostKind) {
    let provider = Provider::start().await;
    let Some(mesh) = start(host, &provider).await else { return };
    let mut tasks = begin(&mesh, 13, 10).await;
    for _ in 0..3 {
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 429);
    }
    assert_eq!(budget(&mesh, "tokens", "alice"), Budget { used: 0, held: BUDGET, open: 10, lost: 0 });
    provider.open_gate();
    assert_eq!(tasks.join_all().await, [200; 10]);
    let beyond = 10 * (COST.iter().sum::<u64>() - ESTIMATE);
    assert_eq!(settled(&mesh, "alice").await[0], BUDGET + beyond);
    ask(&mesh, "alice", "json", 1, 1).await.denied();
    assert_eq!(settled(&mesh, "alice").await, [BUDGET + beyond, 10 * (150 * COST[0] + 600 * COST[1])]);
    mesh.counts("weir_usage_overrun", 10).await;
}

async fn requests_that_end_while_redis_is_away_are_settled_exactly_afterwards(host: HostKind) {
    let provider = Provider::start().await;
    let Some(mesh) = start(host, &provider).await else { return };
    let tasks = begin(&mesh, 10, 10).await;
    mesh.redis().stop();
    provider.open_gate();
    assert_eq!(tasks.join_all().await, [200; 10]);
    // Settlements are sent again each second, in vain.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    tokio::task::block_in_place(|| mesh.redis().restart()).unwrap();
    let expected = [10 * (COST[0] + COST[1]), 10 * (150 * COST[0] + 600 * COST[1])];
    assert_eq!(settled(&mesh, "alice").await, expected);
    assert_eq!(spent(&mesh, "alice"), Spent { tokens: [expected[0], 0], money: [expected[1], 0], reservations: 0 });
    let entries = ledger(&mesh);
    let of_ledger = ["tokens", "money"].map(|limit| charged(&entries, &key_of(&mesh, limit, "alice").unwrap()));
    assert_eq!((entries.len(), of_ledger), (10, expected));
    mesh.counts("weir_usage_dropped", 0).await;
}

//! Turn of the month with requests in flight: the old month ends at its true sum, and the new one starts at 0.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use weir::{HostKind, Mesh, Provider, or_skip};
use weir_provision::redis::RedisOptions;
use weir_provision::virtual_clock::VirtualClock;

use crate::spent::{amounts, key_of};
use crate::{ask, begin, budgets};

/// 2027-03-01T00:00Z.
const TURN: i64 = 1_803_859_200;
const SOON: Duration = Duration::from_secs(30);

weir::on_both_hosts! {
    requests_in_flight_at_the_turn_of_the_month_are_settled_in_their_own
}

async fn requests_in_flight_at_the_turn_of_the_month_are_settled_in_their_own(host: HostKind) {
    let folder = tempfile::tempdir().unwrap();
    let Some(clock) = or_skip(tokio::task::block_in_place(|| VirtualClock::new(folder.path()))) else { return };
    let provider = Provider::start().await;
    let redis = RedisOptions { env: clock.env(), ..RedisOptions::default() };
    // The month turns an hour after that of UTC.
    let mesh = budgets(host, "envoy/quickstart.yaml", &provider).redis(redis).configure(|filter| {
        let quota = |limit: &str, max| json!({limit: max, "unit": "month", "utc_offset": "-01:00"});
        filter["limits"][0].as_object_mut().unwrap().remove("fixed_window");
        filter["limits"][0]["quota"] = quota("max_tokens", 100_000);
        filter["limits"][1]["quota"] = quota("max_usd", 10);
        for limit in 0..2 {
            filter["limits"][limit]["reserve"] = json!({"input": 60, "output": {"default": 40, "json_pointers": []}});
        }
    });
    let Some(mesh) = mesh.start().await else { return };
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let to_turn = TURN + 3_600 - now;
    clock.shift(to_turn - 30).unwrap();
    ask(&mesh, "alice", "json", 11, 22).await.admitted();
    // Each holds 100 tokens: two tell theirs after the turn, and one is cut off after it.
    let mesh = std::sync::Arc::new(mesh);
    let mut in_flight = tokio::task::JoinSet::new();
    for (input, output) in [(20, 30), (1, 2)] {
        let mesh = std::sync::Arc::clone(&mesh);
        in_flight.spawn(async move { drop(ask(&mesh, "alice", "gated", input, output).await.admitted()) });
    }
    let to_be_cut_off = begin(&mesh, "alice", "hang", 6).await;
    until(&mesh, "three in flight", [33, 300], [0, 0]).await;
    clock.shift(to_turn + 1).unwrap();
    // The first request of the new month.
    ask(&mesh, "alice", "json", 3, 4).await.admitted();
    until(&mesh, "a new month", [7, 0], [33, 300]).await;
    provider.open_gate();
    in_flight.join_all().await;
    drop(to_be_cut_off);
    // The estimate of its request, and 48 bytes of text.
    let old = 33 + 50 + 3 + (60 + 12);
    until(&mesh, "the old month's true sum", [7, 0], [old, 0]).await;
    ask(&mesh, "alice", "json", 3, 4).await.admitted();
    until(&mesh, "the new month goes on", [14, 0], [old, 0]).await;
    let money = |input: u64, output: u64| 150 * input + 600 * output;
    let (new, old) = months(&mesh, "money");
    assert_eq!(new, [money(6, 8), 0]);
    assert_eq!(old, [money(11 + 20 + 1 + 60, 22 + 30 + 2 + 12), 0]);
    println!("{host:?}: tokens and money at the turn of the month: {:?}, {:?}", months(&mesh, "tokens"), (new, old));
}

/// Amounts used and held in the present month, and in the one before.
fn months(mesh: &Mesh, limit: &str) -> ([u64; 2], [u64; 2]) {
    let Some(key) = key_of(mesh, limit, "alice") else { return ([0; 2], [0; 2]) };
    let (new, old): (String, Option<String>) =
        redis::cmd("HMGET").arg(key).arg("w").arg("p").query(&mut mesh.redis_connection()).unwrap();
    (amounts(&new), amounts(&old.unwrap_or_default()))
}

/// Waits for amounts of tokens in the present month, and in the one before.
async fn until(mesh: &Mesh, what: &str, new: [u64; 2], old: [u64; 2]) {
    let deadline = Instant::now() + SOON;
    while months(mesh, "tokens") != (new, old) {
        assert!(Instant::now() < deadline, "{what}: expected {:?}, found {:?}", (new, old), months(mesh, "tokens"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

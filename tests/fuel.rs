//! Fuel: the instructions that a request costs in the filter, compared with `benches/fuel.json`. The count is the same
//! on every machine.
//!
//! wasmtime counts fuel, about one per instruction, on a request's path through the limiter and the bridge, on the
//! embedded host with a real Redis. Ticks are not counted: their number depends on time. Another compiler makes another
//! wasm, which may explain a difference without a change of the filter.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use hyper::header::{HeaderMap, HeaderValue};
use serde_json::json;
use weir_harness::serving::compiled_modules;
use weir_host::{Bootstrap, Host, HostOptions, Running, Stats, scenario::Scenario};
use weir_provision::{
    checkout,
    client::Client,
    filter_wasm, or_skip,
    redis::{RedisOptions, RedisServer},
};

const ACCEPT: &str = "WEIR_FUEL=accept cargo test --test fuel";
/// Relative difference from `benches/fuel.json` that passes.
const TOLERANCE: f64 = 0.05;
/// Number of requests that an average is taken of.
const REQUESTS: u32 = 200;

/// Average instructions per request, by kind of request and callback; `sum` is over all callbacks.
type Costs = BTreeMap<String, BTreeMap<String, u64>>;

#[tokio::test]
async fn a_request_costs_as_many_instructions_as_in_fuel_json() {
    let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut costs = Costs::new();
    // A worker remembers buckets that are not nearly full.
    for (kind, limits, tokens, status) in [
        ("admitted", 1, 1_000_000, 200),
        ("admitted by three limits", 3, 1_000_000, 200),
        ("used buckets", 3, 300, 200),
        ("denied", 1, 1, 429),
    ] {
        let proxy = proxy(redis.addr(), kind, limits, tokens);
        costs.insert(kind.into(), cost(&proxy, status).await);
    }
    let file = checkout::root().unwrap().join("benches/fuel.json");
    if std::env::var("WEIR_FUEL").is_ok_and(|it| it == "accept") {
        std::fs::write(&file, format!("{:#}\n", json!(costs))).unwrap();
        return;
    }
    let written: Costs = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let apart = apart(&written, &costs);
    assert!(
        apart.is_empty(),
        "the cost of a request differs from benches/fuel.json:\n{apart}\
         If the change is intended, accept it: {ACCEPT}\n"
    );
}

/// Starts the embedded host with fuel counting and a number of equal limits, all keyed by the user.
fn proxy(redis: SocketAddr, prefix: &str, limits: usize, tokens: u64) -> Running {
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    scenario.listener("ingress", anywhere).unwrap().admin(anywhere).unwrap().endpoint("redis", redis).unwrap();
    let wasm: PathBuf = filter_wasm::find_or_build().unwrap();
    scenario.wasm(&wasm).unwrap();
    let configured = scenario.filter_configuration(|filter| {
        filter["redis"]["key_prefix"] = format!("{prefix}:").into();
        filter["redis"]["timeout"] = "1s".into();
        // The number of refreshes depends on time.
        filter["overrides"] = json!({"enabled": false});
        let mut limit = filter["limits"][0].clone();
        limit["token_bucket"] = json!({"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "3600s"});
        let named = (0..limits).map(|nth| {
            limit["name"] = format!("limit_{nth}").into();
            limit.clone()
        });
        filter["limits"] = named.collect();
    });
    configured.unwrap();
    let bootstrap = Bootstrap::parse(&scenario.to_yaml(), "quickstart").unwrap();
    Host::start(
        bootstrap,
        HostOptions { counts_fuel: true, compiled_modules: compiled_modules(), ..HostOptions::default() },
    )
    .unwrap()
}

/// Returns the average instructions of a request that is answered with `status`, by callback, once Redis is connected.
async fn cost(proxy: &Running, status: u16) -> BTreeMap<String, u64> {
    let mut client = Client::new(proxy.listener("ingress").unwrap(), Duration::from_secs(10));
    let user = HeaderMap::from_iter([("x-user-id".parse().unwrap(), HeaderValue::from_static("alice"))]);
    let until = Instant::now() + Duration::from_secs(20);
    let mut in_a_row = 0;
    // Until Redis is connected, the failure mode admits requests. The first requests spend the tokens of the bucket.
    while in_a_row < 20 {
        let answer = client.get("/", &user).await.unwrap();
        let decided = answer.headers.contains_key("x-ratelimit-remaining");
        in_a_row = if answer.status == status && decided { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < until, "expected status {status}, found {}", answer.status);
    }
    let before = fuel(&proxy.stats());
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/", &user).await.unwrap().status, status);
    }
    let after = fuel(&proxy.stats());
    let mut cost: BTreeMap<String, u64> = after
        .into_iter()
        .map(|(name, fuel)| {
            let spent = fuel - before.get(&name).copied().unwrap_or(0);
            (name, (spent + u64::from(REQUESTS / 2)) / u64::from(REQUESTS))
        })
        .filter(|(_, fuel)| *fuel > 0)
        .collect();
    cost.insert("sum".into(), cost.values().sum());
    cost
}

/// Returns the instructions so far, by callback, without ticks.
fn fuel(stats: &Stats) -> BTreeMap<String, u64> {
    let of_callbacks = stats.values.iter().filter_map(|(name, fuel)| {
        let callback = name.strip_prefix("wasm.fuel.proxy_").filter(|name| *name != "on_tick")?;
        Some((callback.to_owned(), *fuel))
    });
    of_callbacks.collect()
}

/// Describes each kind of request whose sum differs by more than [`TOLERANCE`] or whose callbacks differ: a line for
/// the sum, and one for each callback that has changed. Empty: no difference.
fn apart(written: &Costs, found: &Costs) -> String {
    let sum = |costs: &BTreeMap<String, u64>| costs.get("sum").copied().unwrap_or(0);
    let mut text = String::new();
    for (kind, costs) in found {
        let old = written.get(kind).cloned().unwrap_or_default();
        let change = sum(costs) as f64 / sum(&old).max(1) as f64 - 1.0;
        // A different set of callbacks is a different path through the filter, whatever its cost.
        if change.abs() > TOLERANCE || !costs.keys().eq(old.keys()) {
            text += &format!("  {kind}: {} instructions, was {} ({:+.1} %)\n", sum(costs), sum(&old), change * 100.0);
            for (callback, fuel) in costs.iter().filter(|(name, fuel)| *name != "sum" && old.get(*name) != Some(fuel)) {
                text += &format!("    {callback}: {fuel}, was {}\n", old.get(callback).copied().unwrap_or(0));
            }
        }
    }
    text
}

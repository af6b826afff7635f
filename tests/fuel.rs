//! What a request costs in instructions of the filter: the same on every machine, and so comparable with what is
//! written down in `benches/fuel.json`.
//!
//! Counted by wasmtime (its fuel is about one an instruction) over a request's way through the limiter and the bridge,
//! on the embedded host with a real Redis; without ticks, whose number depends on time. Another compiler makes another
//! wasm: a difference that no change of the filter explains may be its.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use hyper::header::{HeaderMap, HeaderValue};
use serde_json::json;
use weir_harness::{
    Bootstrap, Host, HostOptions, Running, Stats,
    load::Client,
    provision::{
        checkout, filter_wasm, or_skip,
        redis::{RedisOptions, RedisServer},
    },
    scenario::Scenario,
};

const ACCEPT: &str = "WEIR_FUEL=accept cargo test --test fuel";
/// How far a cost may be from the one that is written down.
const TOLERANCE: f64 = 0.05;
/// Averages are over as many.
const REQUESTS: u32 = 200;

/// What each callback of a request executes on average; a sum for each kind of request.
type Costs = BTreeMap<String, BTreeMap<String, u64>>;

#[tokio::test]
async fn a_request_costs_as_many_instructions_as_written_down() {
    let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut costs = Costs::new();
    for (kind, limits, tokens, status) in
        [("admitted", 1, 1_000_000, 200), ("admitted by three limits", 3, 1_000_000, 200), ("denied", 1, 1, 429)]
    {
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
        "a request's cost is no longer what benches/fuel.json says:\n{apart}\
         If that is meant, or is what a faster filter costs, accept it: {ACCEPT}\n"
    );
}

/// The embedded host, counting, with so many limits alike, all with a key of the request's user.
fn proxy(redis: SocketAddr, prefix: &str, limits: usize, tokens: u64) -> Running {
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    scenario.listener("ingress", anywhere).unwrap().admin(anywhere).unwrap().endpoint("redis", redis).unwrap();
    let wasm: PathBuf = filter_wasm::find_or_build().unwrap();
    scenario.wasm(&wasm).unwrap();
    let configured = scenario.filter_configuration(|filter| {
        filter["redis"]["key_prefix"] = format!("{prefix}:").into();
        filter["redis"]["timeout"] = "1s".into();
        // Whose refreshing depends on time.
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
    Host::start(bootstrap, HostOptions { counts_fuel: true, ..HostOptions::default() }).unwrap()
}

/// What a request that is answered with `status` costs on average, by callback, once everything is connected.
async fn cost(proxy: &Running, status: u16) -> BTreeMap<String, u64> {
    let mut client = Client::new(proxy.listener("ingress").unwrap(), Duration::from_secs(10));
    let user = HeaderMap::from_iter([("x-user-id".parse().unwrap(), HeaderValue::from_static("alice"))]);
    let until = Instant::now() + Duration::from_secs(20);
    let mut in_a_row = 0;
    // Until Redis is connected, the failure mode admits; and the first requests are admitted where others are not.
    while in_a_row < 20 {
        let answer = client.get("/", &user).await.unwrap();
        let decided = answer.headers.contains_key("x-ratelimit-remaining");
        in_a_row = if answer.status == status && decided { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < until, "{status} was expected, {} is answered", answer.status);
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

/// By callback, ticks aside.
fn fuel(stats: &Stats) -> BTreeMap<String, u64> {
    let of_callbacks = stats.values.iter().filter_map(|(name, fuel)| {
        let callback = name.strip_prefix("wasm.fuel.proxy_").filter(|name| *name != "on_tick")?;
        Some((callback.to_owned(), *fuel))
    });
    of_callbacks.collect()
}

/// A line for each kind whose sum is further away than tolerated or whose callbacks are others, and what of it has
/// changed; empty: all is well.
fn apart(written: &Costs, found: &Costs) -> String {
    let sum = |costs: &BTreeMap<String, u64>| costs.get("sum").copied().unwrap_or(0);
    let mut text = String::new();
    for (kind, costs) in found {
        let old = written.get(kind).cloned().unwrap_or_default();
        let change = sum(costs) as f64 / sum(&old).max(1) as f64 - 1.0;
        // Another callback is another way through the filter, whatever it costs.
        if change.abs() > TOLERANCE || !costs.keys().eq(old.keys()) {
            text += &format!("  {kind}: {} instructions, was {} ({:+.1} %)\n", sum(costs), sum(&old), change * 100.0);
            for (callback, fuel) in costs.iter().filter(|(name, fuel)| *name != "sum" && old.get(*name) != Some(fuel)) {
                text += &format!("    {callback}: {fuel}, was {}\n", old.get(callback).copied().unwrap_or(0));
            }
        }
    }
    text
}

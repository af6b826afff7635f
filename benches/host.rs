//! Latency of one request on the embedded host with a real Redis: one client, one connection on loopback.
//! Run it with `cargo bench --bench host`.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use weir_host::{Bootstrap, Host, HostOptions, scenario::Scenario};
use weir_provision::{
    checkout,
    client::Client,
    filter_wasm, or_skip,
    redis::{RedisOptions, RedisServer},
};

const QUICKSTART: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";
const USER: HeaderName = HeaderName::from_static("x-user-id");
const PLENTY: u64 = 1_000_000;
const SOON: Duration = Duration::from_secs(20);

/// The filter's module and a Redis, shared by all measurements of a group.
struct Parts {
    wasm: PathBuf,
    redis: RedisServer,
}

fn request(c: &mut Criterion) {
    let Some(parts) = Parts::provide() else { return };
    let mut group = group(c, "one request");
    let bare = without_filter(parts.scenario(QUICKSTART, "bare", PLENTY));
    measure(&mut group, "without the filter", &bare, |answer| answer == (200, false));
    let admitted = parts.scenario(QUICKSTART, "admitted", PLENTY);
    measure(&mut group, "admitted", &admitted, |answer| answer == (200, true));
    let denied = parts.scenario(QUICKSTART, "denied", 1);
    measure(&mut group, "denied", &denied, |answer| answer == (429, true));
}

fn transport(c: &mut Criterion) {
    let Some(parts) = Parts::provide() else { return };
    let mut group = group(c, "callout against stream");
    for (name, file) in [("stream", QUICKSTART), ("callout", CALLOUT)] {
        measure(&mut group, name, &parts.scenario(file, name, PLENTY), |answer| answer == (200, true));
    }
}

impl Parts {
    /// Finds, builds or starts both. `None` if one is missing; the reason is then on stderr.
    fn provide() -> Option<Self> {
        let wasm = or_skip(filter_wasm::find_or_build())?;
        let redis = or_skip(RedisServer::start(RedisOptions::default()))?;
        Some(Self { wasm, redis })
    }

    /// A scenario of the checkout with `tokens` tokens per user, under its own key prefix.
    fn scenario(&self, file: &str, prefix: &str, tokens: u64) -> Scenario {
        let file = checkout::root().expect("benches run in their checkout").join(file);
        let mut scenario = Scenario::load(file).expect("the scenario is there");
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let configure = |filter: &mut Value| {
            filter["redis"]["key_prefix"] = format!("{prefix}:").into();
            filter["redis"]["timeout"] = "1s".into();
            filter["overrides"] = json!({"enabled": false});
            filter["limits"][0]["token_bucket"] =
                json!({"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "3600s"});
        };
        let adapt = |scenario: &mut Scenario| {
            scenario.listener("ingress", any_port)?.admin(any_port)?.endpoint("redis", self.redis.addr())?;
            scenario.wasm(&self.wasm)?.filter_configuration(configure).map(drop)
        };
        adapt(&mut scenario).expect("the scenario has a listener, an admin, a cluster and the filter");
        scenario
    }
}

/// The scenario without the filter in its HTTP filter chain.
fn without_filter(mut scenario: Scenario) -> Scenario {
    let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    scenario.edit(|document| {
        let filters = document.pointer_mut(filters).and_then(Value::as_array_mut).expect("the listener has filters");
        filters.retain(|filter| filter["name"] != "weir");
    });
    scenario
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group
}

/// Measures requests of one user. Panics if a response is not as expected: its status, and whether a limit decided it.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    scenario: &Scenario,
    is_expected: impl Fn((u16, bool)) -> bool,
) {
    let bootstrap = Bootstrap::parse(&scenario.to_yaml(), scenario.origin()).expect("the harness knows the scenario");
    let host = Host::start(bootstrap, HostOptions::default()).expect("the host starts");
    let runtime = Builder::new_current_thread().enable_all().build().expect("an event loop");
    let mut client = Client::new(host.listener("ingress").expect("it listens"), Duration::from_secs(10));
    warm_up(&runtime, &mut client, &is_expected);
    group.bench_function(name, |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..times {
                    let answer = ask(&mut client).await;
                    assert!(is_expected(answer), "{name}: {answer:?}");
                }
                start.elapsed()
            })
        });
    });
}

/// Sends requests until 20 responses in a row are as expected: the failure mode admits requests until Redis is
/// connected, and a bucket of one token admits the first request.
fn warm_up(runtime: &Runtime, client: &mut Client, is_expected: impl Fn((u16, bool)) -> bool) {
    let until = Instant::now() + SOON;
    let mut in_a_row = 0;
    while in_a_row < 20 {
        let answer = runtime.block_on(ask(client));
        in_a_row = if is_expected(answer) { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < until, "still answered with {answer:?}");
    }
}

/// Sends a request. Returns the response's status, and whether a limit decided it.
async fn ask(client: &mut Client) -> (u16, bool) {
    let user = HeaderMap::from_iter([(USER, HeaderValue::from_static("alice"))]);
    let answer = client.get("/", &user).await.expect("every request is answered");
    (answer.status, answer.headers.contains_key("x-ratelimit-remaining"))
}

criterion_group!(host, request, transport);
criterion_main!(host);

//! The tests of overrides of keys share these: limits of every kind, an operator, and requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use redis::Connection;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use weir::{Answer, Mesh, MeshBuilder};
use weir_filter::overrides::{SET_SCRIPT, hash_key, override_key};
use weir_harness::traffic::Flood;

pub(crate) const TRANSPORTS: [&str; 2] = ["envoy/quickstart.yaml", "envoy/callout.yaml"];
/// Front ends of Redis: callouts that carry the same script calls in another form.
pub(crate) const FRONT_ENDS: [&str; 2] = ["envoy/webdis.yaml", "envoy/upstash.yaml"];
pub(crate) const KINDS: [&str; 10] = [
    "bucket",
    "leased",
    "shaped",
    "exact",
    "approximate",
    "fixed",
    "quota",
    "slots",
    "bucket_and_quota",
    "two_buckets",
];
/// Time for which a worker believes an override that leaves nothing to ask: a second, and some for a slow machine.
pub(crate) const BELIEVED_FOR: Duration = Duration::from_millis(1_200);

/// Sets overrides as `weir limits set` does.
pub(crate) struct Operator {
    pub(crate) redis: Connection,
    prefix: String,
}

impl Operator {
    pub(crate) fn of(mesh: &Mesh) -> Self {
        Self { redis: mesh.redis_connection(), prefix: mesh.key_prefix().to_owned() }
    }

    /// Sets the override of alice's key, or removes it if `text` is empty.
    pub(crate) fn set(&mut self, limit: &str, text: &str) {
        self.set_key(limit, "alice", text);
    }

    pub(crate) fn set_key(&mut self, limit: &str, user: &str, text: &str) {
        self.run(limit, user, text, 0);
    }

    pub(crate) fn set_until(&mut self, limit: &str, text: &str, span: Duration) {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut self.redis).unwrap();
        self.run(limit, "alice", text, seconds * 1_000 + micros / 1_000 + span.as_millis() as u64);
    }

    fn run(&mut self, limit: &str, user: &str, text: &str, until_ms: u64) {
        let field = format!("{limit}:{user}");
        let bucket = format!("{}{field}", self.prefix);
        redis::cmd("EVAL")
            .arg(SET_SCRIPT)
            .arg(3)
            .arg(&bucket)
            .arg(override_key(bucket.as_bytes()))
            .arg(hash_key(&self.prefix))
            .arg(text)
            .arg(until_ms)
            .arg(field)
            .exec(&mut self.redis)
            .unwrap();
    }
}

pub(crate) fn every_kind(mesh: MeshBuilder) -> MeshBuilder {
    let limit = |name: &str, fields: Value| {
        let mut limit = json!({
            "name": name, "when": [{"header": {"name": "x-case", "exact": name}}],
            "descriptor": [{"request_header": {"name": "x-user-id"}}],
        });
        limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        limit
    };
    let bucket = json!({"max_tokens": 10, "tokens_per_fill": 1, "fill_interval": "3600s"});
    let large = json!({"max_tokens": 1_000, "tokens_per_fill": 1_000, "fill_interval": "1s"});
    let quota = json!({"max_requests": 10, "unit": "month", "utc_offset": weir::offset_at_noon()});
    mesh.patient().configure(|filter| {
        filter["overrides"] = json!({"refresh_interval": "1s"});
        filter["limits"] = json!([
            limit("bucket", json!({"token_bucket": bucket})),
            limit("leased", json!({"token_bucket": large, "lease": {"max": 100, "ttl": "5s"}})),
            limit("shaped", json!({"token_bucket": large, "max_delay": "5s"})),
            limit("exact", json!({"sliding_window": {"max_requests": 10, "window": "3600s", "mode": "exact"}})),
            limit("approximate", json!({"sliding_window": {"max_requests": 10, "window": "315360000s"}})),
            limit("fixed", json!({"fixed_window": {"max_requests": 10, "window": "315360000s"}})),
            limit("quota", json!({ "quota": quota })),
            limit("slots", json!({"concurrency": {"max_requests": 10, "lease": "60s"}})),
            limit(
                "two_buckets",
                json!({"windows": [
                    {"token_bucket": bucket}, {"token_bucket": {"max_tokens": 10, "fill_interval": "7200s"}},
                ]})
            ),
            limit(
                "bucket_and_quota",
                json!({"windows": [
                    {"token_bucket": bucket}, {"quota": quota},
                ]})
            ),
        ]);
    })
}

/// Runs a test for limits of all these kinds at once: most of it is waiting.
pub(crate) async fn of_each<const N: usize, F>(
    mesh: &Arc<Mesh>,
    kinds: [&'static str; N],
    test: fn(Arc<Mesh>, &'static str) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tests: JoinSet<()> = kinds.into_iter().map(|kind| test(Arc::clone(mesh), kind)).collect();
    while let Some(ended) = tests.join_next().await {
        ended.unwrap();
    }
}

/// Waits until workers heed a change: one with leased tokens may go on spending them for a second.
pub(crate) async fn until_heeded(kind: &str) {
    if kind == "leased" {
        sleep(BELIEVED_FOR).await;
    }
}

pub(crate) async fn ask(mesh: &Mesh, kind: &str) -> Answer {
    mesh.ask("/").header("x-case", kind).user("alice").send().await
}

/// Asks until the answer is as expected.
pub(crate) async fn until(mesh: &Mesh, kind: &str, is_expected: impl Fn(&Answer) -> bool) {
    let deadline = Instant::now() + 10 * BELIEVED_FOR;
    loop {
        let answer = ask(mesh, kind).await;
        if is_expected(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{kind}: {} {:?}", answer.status, answer.headers);
        sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn of_case(kind: &str, user: &str) -> HeaderMap {
    let name = |name: &'static str| HeaderName::from_static(name);
    HeaderMap::from_iter([
        (name("x-case"), HeaderValue::from_str(kind).unwrap()),
        (name("x-user-id"), HeaderValue::from_str(user).unwrap()),
    ])
}

pub(crate) async fn flood(mesh: &Mesh, requests: usize, headers: impl Fn(usize) -> HeaderMap) -> BTreeMap<u16, usize> {
    let connections = 4;
    let flood = Flood {
        target: mesh.ingress()[0],
        connections,
        streams: requests.div_ceil(connections),
        limit: Duration::from_secs(60),
    };
    flood.send(headers).await.unwrap()
}

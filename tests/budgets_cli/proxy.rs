//! `weir budgets` beside a running proxy with a provider.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use weir::{Answer, HostKind, Mesh, Provider};

use crate::{file, objects, sums, types, used};

/// Maximum that requests state.
const MAX_TOKENS: u64 = 100;

/// Mesh with budgets and a ledger, and an operator with its configuration.
struct Scene {
    mesh: Mesh,
    provider: Provider,
    config: NamedTempFile,
}

impl Scene {
    async fn start(max_tokens: u64) -> Option<Self> {
        let provider = Provider::start().await;
        let mesh = Mesh::on(HostKind::Embedded, "envoy/quickstart.yaml").patient().that_sees_bodies();
        let mut written = Value::Null;
        let mesh = mesh.configure(|filter| {
            let descriptor = json!([{"request_header": {"name": "x-user-id"}}]);
            let input = json!({"request_body_bytes": {"bytes_per_token": 1}});
            let reserve = json!({"input": input, "output": {"default": MAX_TOKENS}});
            filter["request_body"] = json!({"timeout": "10s"});
            filter["usage"] = json!({"prices": [{"model": {"prefix": "gpt-4o"}, "input": 0.15, "output": 0.6}]});
            filter["events"] = json!({"usage": true, "max_len": 100_000});
            filter["limits"] = json!([
                {"name": "tokens", "descriptor": descriptor, "charge": "total_tokens", "reserve": reserve,
                    "fixed_window": {"max_tokens": max_tokens, "window": "86400s"}},
                {"name": "money", "descriptor": descriptor, "charge": "cost", "reserve": reserve,
                    "quota": {"max_usd": 10, "unit": "month"}},
            ]);
            written = filter.clone();
        });
        let mesh = mesh.edit(|bootstrap| provider.serve_all(bootstrap)).start().await?;
        written["redis"]["key_prefix"] = mesh.key_prefix().into();
        Some(Self { config: file(&written), mesh, provider })
    }

    fn types(&self, words: &[&str]) -> String {
        let done = tokio::task::block_in_place(|| types(words, &self.mesh.redis().url(), &self.config));
        done.unwrap_or_else(|error| panic!("{words:?}: {error}")).0
    }

    fn reads(&self, words: &[&str]) -> Vec<Value> {
        objects(&self.types(&[words, &["--format", "json"]].concat()))
    }

    fn got(&self, user: &str) -> [u64; 2] {
        let got = &self.reads(&["get", user, "--limit", "tokens"])[0];
        ["used", "held"].map(|name| got[name].as_u64().unwrap())
    }

    async fn ask(&self, user: &str, kind: &str, input: u64, output: u64) -> Answer {
        let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string();
        let ask = self.mesh.ask("/v1/chat/completions").method(Method::POST).user(user).header("x-answer", kind);
        let ask = ask.header("x-input", input.to_string()).header("x-output", output.to_string());
        ask.header("content-type", "application/json").body(&body).send().await
    }

    /// Waits until nothing is held.
    async fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.reads(&["list"]).iter().any(|row| row["held"] != 0) {
            assert!(Instant::now() < deadline, "{}", self.types(&["list"]));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_get_and_export_agree_with_the_provider_after_a_storm() {
    let Some(scene) = Scene::start(1_000_000).await else { return };
    let scene = Arc::new(scene);
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..120_u64 {
        let scene = Arc::clone(&scene);
        let kind = ["json", "stream", "headers", "error", "anthropic", "reset"][usize::try_from(nth % 6).unwrap()];
        tasks.spawn(async move {
            scene.ask(["alice", "bob", "carol"][usize::try_from(nth % 3).unwrap()], kind, 10 + nth, 3 * nth).await;
        });
    }
    tasks.join_all().await;
    scene.settled().await;
    scene.types(&["credit", "bob", "11", "--limit", "tokens", "--yes"]);
    scene.types(&["reset", "carol", "--limit", "money", "--yes"]);
    let [input, output] = scene.provider.seen().told;
    let rows = scene.reads(&["list"]);
    let total = |limit: &str| -> u64 {
        rows.iter().filter(|row| row["limit"] == limit).map(|row| row["used"].as_u64().unwrap()).sum()
    };
    assert_eq!(total("tokens"), input + output - 11);
    let records = objects(&scene.types(&["export", "--group", "billing"]));
    assert_eq!(sums(&records), used(&rows), "to the unit");
    let reset: i64 =
        records.iter().filter(|it| it["source"] == "reset").map(|it| it["charged"].as_i64().unwrap()).sum();
    assert_eq!(i64::try_from(total("money")).unwrap() - reset, i64::try_from(150 * input + 600 * output).unwrap());
    // The records of requests tell the same tokens.
    let of_money = records.iter().filter(|it| it["limit"] == "money" && it["source"] == "usage");
    let told: u64 =
        of_money.map(|it| it["input_tokens"].as_u64().unwrap() + it["output_tokens"].as_u64().unwrap()).sum();
    assert_eq!(told, input + output);
    for row in rows.iter().filter(|row| row["limit"] == "tokens") {
        assert_eq!(scene.got(row["key"].as_str().unwrap())[0], row["used"].as_u64().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credit_admits_at_once_and_no_worker_undoes_it() {
    let Some(scene) = Scene::start(2_000).await else { return };
    while scene.ask("alice", "json", 100, 100).await.status == 200 {}
    scene.ask("bob", "json", 20, 20).await.admitted();
    scene.settled().await;
    let [spent, _] = scene.got("alice");
    assert!(spent > 1_800, "{spent}");
    // In flight during the credit.
    let slow = scene.ask("bob", "slow", 7, 9);
    let credit = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let reset = scene.types(&["reset", "bob", "--limit", "tokens", "--yes"]);
        assert_eq!(reset, "tokens bob: gave back 40 tokens; 0 tokens used now\n");
        assert!(scene.got("bob")[1] > 0, "still reserved");
    };
    tokio::join!(slow, credit);
    scene.types(&["credit", "alice", "1000", "--limit", "tokens", "--yes"]);
    // A worker that has denied a request remembers the denial for 1 s at most.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.ask("alice", "json", 100, 100).await.admitted();
    scene.settled().await;
    assert_eq!(scene.got("alice"), [spent - 1_000 + 200, 0]);
    assert_eq!(scene.got("bob"), [16, 0]);
    // On new connections, workers heal what Redis may have lost.
    for _ in 0..3 {
        let mut redis = scene.mesh.redis_connection();
        let _: u64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query(&mut redis).unwrap();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        scene.ask("bob", "json", 1, 1).await;
    }
    scene.settled().await;
    assert_eq!(scene.got("alice"), [spent - 800, 0]);
    let rows = scene.reads(&["list"]);
    assert_eq!(sums(&objects(&scene.types(&["export"]))), used(&rows));
}

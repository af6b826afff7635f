//! Budgets of tokens and of money, on both hosts, against a provider that tells usage in every way.
//!
//! | what holds | tests |
//! |---|---|
//! | no estimate is too low: used and held together are never above the budget | `storm`, `a_budget_is_never_exceeded` |
//! | estimates are too low: above it by the excess of what was in flight | `in_flight` |
//! | afterwards, the ledger, Redis and what the provider told are the same to the unit; nothing is held | `storm` |
//! | a settlement that is sent again, or cut at any byte, counts once | `cut`; `host-harness/virtual` |
//! | clients that leave at any time, upstreams that fail, errors, answers of the proxy: nothing stays held | `storm`; here |
//! | at the turn of the month, requests in flight are settled in the old month | `turn` |
//! | `kill -9` of a proxy: charged as `on_lost` says | `killed` |
//! | Redis away during settlements: exact afterwards; what is dropped is counted | `in_flight`; `host-harness/virtual` |
//! | pieces of a response do not matter, and nothing panics | `filter/src/usage/tests.rs`; fuzz target `usage` |
//! | each provider's usage has its normal form | `filter/src/usage/tests/fixtures.rs` |
//! | a denial by one limit takes nothing of another | `tests/model/budgets/in_redis.rs` |
//! | settled in any time: at most a token bucket's capacity and what flows in | `filter/src/limit/algorithm/budget_state` |
//! | `take_rest` exceeds by one request at most; excess is paid before anything is admitted | as above |
//! | the deny cache forgets within a second | `host-harness/virtual` |
//! | a clock of Redis that is set back | `tests/model/budgets`: pauses of histories are negative, too |
//! | a maximum is never read as less than its largest reading | `filter/src/limiter/estimates.rs` |
//! | the bytes of a response pass unchanged | `the_access_log_has_the_usage_of_each_response`, `tests/sdks` |
//! | the cost of a body does not grow with its length | `benches/bodies.rs` |

mod cut;
mod in_flight;
mod killed;
mod settings;
mod spent;
mod storm;
mod turn;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::mesh::MeshBuilder;
use weir::{Answer, HostKind, Mesh, Provider};

use self::settings::{
    a_budget_that_is_nearly_spent_tells_it, a_response_that_is_cut_off_leaves_its_usage_in_the_access_log,
    formats_of_ones_own_are_read, prices_change_at_run_time,
};
use self::spent::{settled, spent};

weir::on_both_hosts! {
    the_access_log_has_the_usage_of_each_response
    budgets_count_what_the_provider_has_told
    clients_that_leave_are_charged_what_was_seen
    a_budget_is_never_exceeded
    members_that_are_missing_are_added_to_requests
    responses_of_the_proxy_cost_nothing
    a_budget_that_is_nearly_spent_tells_it
    prices_change_at_run_time
    formats_of_ones_own_are_read
    a_response_that_is_cut_off_leaves_its_usage_in_the_access_log
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const FILE: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
/// Maximum that requests state.
const MAX_TOKENS: u64 = 100;

/// Builds a mesh with a budget of tokens and one of money for each user, in front of the provider.
pub(crate) fn budgets(host: HostKind, scenario: &str, provider: &Provider) -> MeshBuilder {
    answering(host, scenario).edit(|bootstrap| provider.serve_all(bootstrap))
}

/// Builds the same mesh without a provider: the proxy answers itself.
fn answering(host: HostKind, scenario: &str) -> MeshBuilder {
    Mesh::on(host, scenario).patient().that_sees_bodies().configure(|filter| {
        let descriptor = json!([{"request_header": {"name": "x-user-id"}}]);
        // 1 token for each of the 30 bytes.
        let reserve = json!({"input": {"request_body_bytes": {"bytes_per_token": 1}}});
        filter["request_body"] = json!({"timeout": "10s"});
        filter["usage"] = json!({"prices": [{"model": {"prefix": "gpt-4o"}, "input": 0.15, "output": 0.6}]});
        filter["limits"] = json!([
            {"name": "tokens", "descriptor": descriptor, "charge": "total_tokens", "reserve": reserve,
                "fixed_window": {"max_tokens": 100_000, "window": "86400s"}},
            {"name": "money", "descriptor": descriptor, "charge": "cost", "reserve": reserve,
                "quota": {"max_usd": 10, "unit": "month"}},
        ]);
    })
}

/// Asks for a response of a kind that tells these tokens.
pub(crate) async fn ask(mesh: &Mesh, user: &str, kind: &str, input: u64, output: u64) -> Answer {
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string();
    let ask = mesh.ask("/v1/chat/completions").method(Method::POST).user(user).header("x-answer", kind);
    let ask = ask.header("x-input", input.to_string()).header("x-output", output.to_string());
    ask.header("content-type", "application/json").header("accept-encoding", "gzip").body(&body).send().await
}

/// Asks for a response of this kind, and returns the connection once its head and so many line feeds of its body have
/// come.
pub(crate) async fn begin(mesh: &Mesh, user: &str, kind: &str, lines: usize) -> TcpStream {
    let mut client = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: weir\r\nx-user-id: {user}\r\nx-answer: {kind}\r\nx-input: 7\r\nx-output: 9\r\n\
        content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut piece) = (Vec::new(), [0; 4_096]);
    // Those of the head and between chunks stand behind carriage returns.
    while read.is_empty() || read.windows(2).filter(|two| two[1] == b'\n' && two[0] != b'\r').count() < lines {
        let size = client.read(&mut piece).await.unwrap();
        assert!(size > 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..size]);
    }
    client
}

/// Asks for a response of this kind, and leaves once its head has come and `after` has passed.
async fn leave(mesh: &Mesh, user: &str, kind: &str, after: Duration) {
    let _client = begin(mesh, user, kind, 0).await;
    tokio::time::sleep(after).await;
}

async fn the_access_log_has_the_usage_of_each_response(host: HostKind) {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let file = folder.path().join("access.log");
    let mesh = budgets(host, "envoy/access-log.yaml", &provider).edit(|bootstrap| log_to(&file, bootstrap));
    let Some(mesh) = mesh.start().await else { return };
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string().len();
    let estimated = format!("{body}/100/{}/estimate/-", body * 150 + 60_000);
    let mut expected = Vec::new();
    for (kind, log) in [
        ("json", "11/22/14850/usage/-"),
        ("stream", "11/22/14850/usage/-"),
        ("headers", "11/22/14850/usage/-"),
        ("missing", &estimated),
        ("gzip", &estimated),
        ("error", "0/0/0/zero/-"),
        // 48 bytes of text, as it is escaped.
        ("failed", &format!("{body}/12/{}/seen/-", body * 150 + 7_200)),
    ] {
        let answer = ask(&mesh, "alice", kind, 11, 22).await;
        let seen = provider.seen();
        assert_eq!(answer.body, seen.response, "{kind}: the body passes unchanged");
        assert!(!seen.head.contains("accept-encoding"), "{kind}: {}", seen.head);
        expected.push(format!("{} {log}", answer.status));
    }
    // A local reply.
    let unknown = mesh.ask("/").method(Method::POST).user("alice").body(r#"{"model": "unknown"}"#).send().await;
    assert_eq!((unknown.status, unknown.body.as_str()), (400, "expected a model with a price\n"));
    expected.push("400 -/-/-/-/-".to_owned());
    assert_eq!(lines(&mesh, &file, expected.len()), expected);
}

async fn budgets_count_what_the_provider_has_told(host: HostKind) {
    let provider = Provider::start().await;
    let Some(mesh) = budgets(host, "envoy/quickstart.yaml", &provider).start().await else { return };
    let mut tasks = tokio::task::JoinSet::new();
    let mesh = std::sync::Arc::new(mesh);
    for nth in 0..60_u64 {
        let mesh = std::sync::Arc::clone(&mesh);
        let kind = ["json", "stream", "headers", "error", "anthropic", "reset"][usize::try_from(nth % 6).unwrap()];
        tasks.spawn(async move {
            ask(&mesh, "alice", kind, 10 + nth, 3 * nth).await;
        });
    }
    tasks.join_all().await;
    let [tokens, money] = settled(&mesh, "alice").await;
    let [input, output] = provider.seen().told;
    // Anthropic's model has no price: its usage has the price of the requested one.
    assert_eq!([tokens, money], [input + output, 150 * input + 600 * output]);
    assert_eq!(provider.seen().requests, 50);
    mesh.counts("weir_usage_settled", 60).await;
}

async fn clients_that_leave_are_charged_what_was_seen(host: HostKind) {
    let provider = Provider::start().await;
    let Some(mesh) = budgets(host, "envoy/quickstart.yaml", &provider).start().await else { return };
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string().len() as u64;
    // Before the usage: the estimate of the request, and 48 bytes of text.
    leave(&mesh, "early", "slow", Duration::from_millis(500)).await;
    assert_eq!(settled(&mesh, "early").await, [body + 12, body * 150 + 7_200]);
    // After it.
    leave(&mesh, "late", "late", Duration::from_millis(500)).await;
    assert_eq!(settled(&mesh, "late").await, [7 + 9, 7 * 150 + 9 * 600]);
    // The provider leaves.
    ask_and_lose(&mesh, "cut").await;
    assert_eq!(settled(&mesh, "cut").await, [body + 12, body * 150 + 7_200]);
    mesh.counts("weir_usage_disconnected", 3).await;
}

/// Asks for a response that the provider cuts off.
async fn ask_and_lose(mesh: &Mesh, user: &str) {
    leave(mesh, user, "cut", Duration::from_millis(300)).await;
}

async fn a_budget_is_never_exceeded(host: HostKind) {
    const BUDGET: u64 = 2_000;
    let provider = Provider::start().await;
    let mesh = budgets(host, "envoy/quickstart.yaml", &provider).configure(|filter| {
        filter["limits"][0]["fixed_window"]["max_tokens"] = BUDGET.into();
        filter["limits"][0]["reserve"]["output"] = json!({"default": MAX_TOKENS});
    });
    let Some(mesh) = mesh.start().await else { return };
    let mesh = std::sync::Arc::new(mesh);
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..80_u64 {
        let mesh = std::sync::Arc::clone(&mesh);
        tasks.spawn(async move { ask(&mesh, "bob", "stream", 20, 10 + nth).await.status });
    }
    while !tasks.is_empty() {
        let now = spent(&mesh, "bob");
        assert!(now.tokens.iter().sum::<u64>() <= BUDGET, "{now:?}");
        tokio::select! {
            Some(status) = tasks.join_next() => assert!(matches!(status.unwrap(), 200 | 429)),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    let [tokens, _] = settled(&mesh, "bob").await;
    assert_eq!(tokens, provider.seen().told.iter().sum::<u64>());
    // Each request was estimated at 141 tokens: as long as so many are left, one is admitted.
    while spent(&mesh, "bob").tokens[0] + 200 <= BUDGET {
        ask(&mesh, "bob", "stream", 20, 50).await.admitted();
        settled(&mesh, "bob").await;
    }
    for _ in 0..3 {
        ask(&mesh, "bob", "stream", 20, 20).await;
        settled(&mesh, "bob").await;
    }
    ask(&mesh, "bob", "stream", 20, 20).await.denied();
    ask(&mesh, "carol", "json", 20, 20).await.admitted();
}

async fn members_that_are_missing_are_added_to_requests(host: HostKind) {
    let provider = Provider::start().await;
    let mesh = budgets(host, "envoy/quickstart.yaml", &provider).configure(|filter| {
        filter["usage"]["include_usage"] = "inject".into();
        filter["request_body"]["max_bytes"] = 1_048_576.into();
        for limit in 0..2 {
            let output = json!({"json_pointers": ["/max_tokens"], "default": 64, "enforce": true});
            filter["limits"][limit]["reserve"] = json!({"input": 10, "output": output});
        }
    });
    let Some(mesh) = mesh.start().await else { return };
    let usage = json!({"include_usage": true});
    for text in [1, 300_000] {
        let text = "x".repeat(text);
        let mut body = json!({"model": "gpt-4o-mini", "stream": true, "text": text});
        for stated in [None, Some(500)] {
            if let Some(stated) = stated {
                body["max_tokens"] = stated.into();
            }
            let ask = mesh.ask("/v1/chat/completions").method(Method::POST).user("alice").header("x-answer", "stream");
            ask.header("x-input", "5").header("x-output", "6").body(&format!(" {body} \n")).send().await.admitted();
            let mut expected = body.clone();
            expected["max_tokens"] = stated.unwrap_or(64).into();
            expected["stream_options"] = usage.clone();
            let seen: Value = serde_json::from_str(&provider.seen().body).unwrap();
            assert!(seen == expected, "{} bytes on {host:?}", text.len());
        }
    }
    assert_eq!(settled(&mesh, "alice").await[0], 4 * 11);
}

async fn responses_of_the_proxy_cost_nothing(host: HostKind) {
    let Some(mesh) = answering(host, "envoy/quickstart.yaml").start().await else { return };
    for _ in 0..3 {
        let answer = ask(&mesh, "alice", "", 0, 0).await.admitted();
        assert_eq!(answer.body, "hello\n");
    }
    assert_eq!(settled(&mesh, "alice").await, [0, 0]);
    mesh.counts("weir_usage_settled", 3).await;
    mesh.counts("weir_usage_encoded", 0).await;
}

/// Changes the first access log to a file log of usage.
fn log_to(file: &Path, bootstrap: &mut Value) {
    let log = bootstrap.pointer_mut(&format!("{MANAGER}/access_log/0/typed_config")).expect("an access log");
    let state = |name: &str| format!("%FILTER_STATE(wasm.weir.{name}:PLAIN)%");
    let format = ["input_tokens", "output_tokens", "cost_nano_usd", "usage_source", "soft_limit"].map(state).join("/");
    let format = format!("%RESPONSE_CODE% {format}\n");
    *log = json!({"@type": FILE, "path": file.display().to_string(),
        "log_format": {"text_format_source": {"inline_string": format}}});
}

/// Stops Envoy, waits for `count` lines in the log, and returns them. Envoy buffers lines for seconds and writes them
/// when it exits.
fn lines(mesh: &Mesh, file: &Path, count: usize) -> Vec<String> {
    mesh.hosts().iter().filter_map(|host| host.envoy()).for_each(|envoy| envoy.stop());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') && text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "expected {count} lines, found:\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

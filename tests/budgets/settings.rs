//! Settings of budgets: soft limits, prices at run time, formats of responses.

use std::time::{Duration, Instant};

use hyper::Method;
use redis::Commands;
use serde_json::{Value, json};
use weir::{Answer, HostKind, Mesh, Provider};

use super::{MAX_TOKENS, ask, budgets, leave, lines, log_to, settled};

pub(super) async fn a_budget_that_is_nearly_spent_tells_it(host: HostKind) {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let file = folder.path().join("access.log");
    let mesh = budgets(host, "envoy/access-log.yaml", &provider).edit(|bootstrap| log_to(&file, bootstrap));
    let mesh = mesh.configure(|filter| {
        filter["events"] = json!({"max_len": 1_000});
        filter["emit_metadata"] = true.into();
        filter["limits"][0]["fixed_window"]["max_tokens"] = 1_000.into();
        filter["limits"][0]["soft_limit"] = 0.5.into();
        filter["limits"][0]["reserve"]["output"] = json!({"default": MAX_TOKENS});
    });
    let Some(mesh) = mesh.start().await else { return };
    let soft = |answer: &Answer| answer.header("x-weir-soft-limit").map(str::to_owned);
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string().len() as u64;
    let mut answers = Vec::new();
    for spent in [0, 300, 600] {
        answers.push(soft(&ask(&mesh, "alice", "json", 100, 200).await.admitted()));
        assert_eq!(settled(&mesh, "alice").await[0], spent + 300);
    }
    // 300 spent and the estimate are no half; 600 are.
    let used = (600 + body + MAX_TOKENS) / 10;
    assert_eq!(answers, [None, None, Some(format!("tokens;used=0.{used}"))], "{host:?}");
    let denied = ask(&mesh, "alice", "json", 1, 1).await;
    assert_eq!((denied.status, soft(&denied).as_deref()), (429, Some("tokens;used=0.90")));
    let mut redis = mesh.redis_connection();
    let entries: redis::streams::StreamRangeReply = redis.xrange_all(format!("{}events", mesh.key_prefix())).unwrap();
    let events: Vec<Vec<String>> = entries
        .ids
        .iter()
        .filter(|entry| entry.contains_key("source"))
        .map(|entry| ["source", "settled", "soft_limit"].map(|name| entry.get(name).unwrap()).to_vec())
        .collect();
    assert_eq!(events, [["soft_limit", "600", "501"]], "{host:?}");
    mesh.counts("weir_limit_tokens_tokens", 900).await;
    mesh.counts("weir_limit_money_cost_nano_usd", 3 * (100 * 150 + 200 * 600)).await;
    let lines = lines(&mesh, &file, 4);
    let soft = lines.iter().map(|line| line.rsplit_once('/').unwrap().1).collect::<Vec<_>>();
    let third = format!("tokens;used=0.{used}");
    assert_eq!(soft, ["-", "-", third.as_str(), "tokens;used=0.90"], "{host:?}");
}

pub(super) async fn prices_change_at_run_time(host: HostKind) {
    let provider = Provider::start().await;
    let mesh = budgets(host, "envoy/quickstart.yaml", &provider).configure(|filter| {
        filter["overrides"] = json!({"refresh_interval": "0.2s"});
    });
    let Some(mesh) = mesh.start().await else { return };
    let prices = format!("{}prices", mesh.key_prefix());
    let mut redis = mesh.redis_connection();
    // Each user asks once; each worker has its own prices.
    let mut user = 0;
    let mut costs = async |expected: u64| {
        let (deadline, mut in_a_row) = (Instant::now() + Duration::from_secs(30), 0);
        while in_a_row < 8 {
            user += 1;
            let user = format!("user{user}");
            ask(&mesh, &user, "json", 1_000, 100).await.admitted();
            let [tokens, money] = settled(&mesh, &user).await;
            assert_eq!(tokens, 1_100);
            in_a_row = if money == expected { in_a_row + 1 } else { 0 };
            assert!(Instant::now() < deadline, "expected {expected}, found {money}");
        }
    };
    let configured = 1_000 * 150 + 100 * 600;
    costs(configured).await;
    let _: () = redis.hset(&prices, "prefix:gpt-4o", r#"{"input": 2, "output": 3}"#).unwrap();
    costs(1_000 * 2_000 + 100 * 3_000).await;
    let _: () = redis.hset(&prices, "exact:gpt-4o-mini", r#"{"input": 1}"#).unwrap();
    costs(1_000 * 1_000).await;
    let _: () = redis.hset(&prices, "exact:gpt-4o-mini", r#"{"input": "free"}"#).unwrap();
    costs(1_000 * 2_000 + 100 * 3_000).await;
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        let log = envoy.log();
        assert!(log.contains("price ignored: field exact:gpt-4o-mini: input: expected dollars from 0"), "{log}");
    }
    let _: () = redis.del(&prices).unwrap();
    costs(configured).await;
}

pub(super) async fn formats_of_ones_own_are_read(host: HostKind) {
    let provider = Provider::start().await;
    let with = |usage: Value| {
        budgets(host, "envoy/quickstart.yaml", &provider).configure(move |filter| {
            for (name, value) in usage.as_object().unwrap() {
                filter["usage"][name] = value.clone();
            }
            for limit in 0..2 {
                filter["limits"][limit]["reserve"]["input"] = json!({"request_header": {"name": "x-tokens"}});
            }
        })
    };
    let ask = async |mesh: &Mesh, kind: &str, headers: &[(&str, &str)]| {
        let ask = mesh.ask("/").method(Method::POST).user("alice").header("x-answer", kind);
        let ask = ask.header("x-input", "70").header("x-output", "7");
        headers.iter().fold(ask, |ask, (name, value)| ask.header(name, *value)).body("{}").send().await
    };
    let mesh = with(json!({"format": {"pointers": {"input": ["/meter/in"], "output": ["/meter/out"]}},
        "model": {"request_header": {"name": "x-model"}}, "provider_cost": "prefer"}));
    let Some(mesh) = mesh.start().await else { return };
    let model = ("x-model", "gpt-4o-mini");
    ask(&mesh, "own", &[model, ("x-tokens", "90")]).await.admitted();
    assert_eq!(settled(&mesh, "alice").await, [77, 1_230_000]);
    for (tokens, status) in [("97000", 200), ("100000", 429), ("many", 429), ("-1", 429), ("1e9", 429)] {
        assert_eq!(ask(&mesh, "own", &[model, ("x-tokens", tokens)]).await.status, status, "{tokens} on {host:?}");
        settled(&mesh, "alice").await;
    }
    let two = ask(&mesh, "own", &[model, ("x-model", "gpt-4o")]).await;
    assert_eq!((two.status, two.body.as_str()), (400, "expected one model, found several\n"));
    drop(mesh);
    let headers = json!({"input": "x-in", "output": "x-out", "cache_read": "x-cached"});
    let mesh = with(json!({"format": {"headers": headers}, "model": {"path": {"template": "/m/{model}"}}}));
    let Some(mesh) = mesh.start().await else { return };
    let path = mesh.ask("/m/gpt-4o-mini").method(Method::POST).user("alice").header("x-answer", "own_headers");
    path.header("x-input", "70").header("x-output", "7").body("{}").send().await.admitted();
    assert_eq!(settled(&mesh, "alice").await, [77, 70 * 150 + 7 * 600]);
    mesh.counts("weir_usage_malformed", 1).await;
}

pub(super) async fn a_response_that_is_cut_off_leaves_its_usage_in_the_access_log(host: HostKind) {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let file = folder.path().join("access.log");
    let mesh = budgets(host, "envoy/access-log.yaml", &provider).edit(|bootstrap| log_to(&file, bootstrap));
    let Some(mesh) = mesh.start().await else { return };
    for kind in ["slow", "late", "cut"] {
        leave(&mesh, kind, kind, Duration::from_millis(500)).await;
        settled(&mesh, kind).await;
    }
    let lines = lines(&mesh, &file, 3);
    let logged: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(logged, ["-/-/-/-/-", "7/9/6450/usage/-", "-/-/-/-/-"], "{host:?}");
}

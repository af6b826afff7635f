//! Budgets: the keys that have spent most, as `weir budgets` says it, to programs and in Chromium.

use redis::Commands as _;
use serde_json::{Value, json};
use weir::{HostKind, Mesh, Provider};

use crate::browser::Browser;
use crate::desk::{Desk, configuration};

const HOSTILE: &str = "<img src=x onerror=hacked=1>";

/// Mesh with a budget of tokens and one of money for each user, and a console about it.
struct Scene {
    mesh: Mesh,
    desk: Desk,
    provider: Provider,
}

impl Scene {
    async fn start() -> Option<Self> {
        let provider = Provider::start().await;
        let user = json!([{"request_header": {"name": "x-user-id"}}]);
        let reserve = json!({"input": 10, "output": {"default": 20, "json_pointers": []}});
        let limits = json!([
            {"name": "tokens", "descriptor": user, "charge": "total_tokens", "reserve": reserve, "soft_limit": 0.5,
                "fixed_window": {"max_tokens": 100, "window": "86400s"}},
            {"name": "money", "descriptor": user, "charge": "cost", "reserve": reserve,
                "quota": {"max_usd": 10, "unit": "month"}},
            {"name": "requests", "descriptor": user, "quota": {"max_requests": 1_000, "unit": "day"}},
        ]);
        let prices = json!([{"model": {"prefix": "gpt-4o"}, "input": 0.15, "output": 0.6}]);
        let usage = json!({"prices": prices, "unknown_model": "dearest", "when": []});
        let mesh = Mesh::on(HostKind::Embedded, "envoy/quickstart.yaml").patient().configure(|filter| {
            filter["limits"] = limits.clone();
            filter["usage"] = usage.clone();
        });
        let mesh = mesh.edit(|bootstrap| provider.serve_all(bootstrap)).start().await?;
        let mut configuration = configuration(mesh.key_prefix());
        configuration["limits"] = limits;
        configuration["usage"] = usage;
        let desk = Desk::of(&configuration, &["--redis", &mesh.redis().url()]).await;
        Some(Self { mesh, desk, provider })
    }

    async fn ask(&self, user: &str, kind: &str, [input, output]: [u64; 2]) {
        let ask = self.mesh.ask("/").user(user).header("x-answer", kind);
        ask.header("x-input", input.to_string()).header("x-output", output.to_string()).send().await.admitted();
    }
}

/// The rows of a limit: keys, and these figures of each.
fn rows(state: &Value, limit: &str) -> Vec<Value> {
    let rows = state["budgets"]["rows"].as_array().cloned().unwrap_or_default();
    let figures = ["key", "used", "share", "held", "max", "soft_limit_passed"];
    let of_limit = rows.iter().filter(|row| row["limit"] == limit && row["window"] == limit);
    of_limit.map(|row| figures.map(|name| row[name].clone()).into()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_that_have_spent_most_are_first() {
    let Some(scene) = Scene::start().await else { return };
    scene.ask("bob", "json", [10, 20]).await;
    scene.ask("alice", "json", [40, 20]).await;
    let expected = json!([
        ["alice", "60 tokens", "60.0 %", "0 tokens", "100 tokens", true],
        ["bob", "30 tokens", "30.0 %", "0 tokens", "100 tokens", false],
    ]);
    let state = scene.desk.until(|state| json!(rows(state, "tokens")) == expected).await;
    let expected = json!([
        ["alice", "0.000018 USD", "0.0 %", "0.00 USD", "10.00 USD", null],
        ["bob", "0.0000135 USD", "0.0 %", "0.00 USD", "10.00 USD", null],
    ]);
    assert_eq!(json!(rows(&state, "money")), expected);
    assert_eq!(rows(&state, "requests"), [Value::Null; 0], "a limit without a charge has no budgets");
    let charged = state["limits"].as_array().unwrap().iter().map(|limit| limit["has_charge"].clone());
    assert_eq!(charged.collect::<Vec<_>>(), [true, true, false]);
    let (now, row) = (state["now"].as_u64().unwrap(), &state["budgets"]["rows"][0]);
    let resets_at = row["resets_at"].as_u64().unwrap();
    assert!((now..=now + 32 * 86_400_000).contains(&resets_at), "{row}");

    // A request in flight holds its estimate; then its cost is spent.
    let (desk, asked) = (&scene.desk, scene.ask("bob", "gated", [30, 41]));
    let seen = async {
        let holds = |state: &Value| rows(state, "tokens").iter().any(|row| row[0] == "bob" && row[3] == "30 tokens");
        desk.until(holds).await;
        scene.provider.open_gate();
    };
    tokio::join!(asked, seen);
    let is_first = |state: &Value| {
        let rows = rows(state, "tokens");
        rows.first() == Some(&json!(["bob", "101 tokens", "101.0 %", "0 tokens", "100 tokens", true]))
    };
    desk.until(is_first).await;

    let path = format!("/api/bucket?key_prefix={}&limit=tokens&key=alice", scene.mesh.key_prefix());
    let bucket = desk.until_answer(&path, |answer| answer["bucket"]["peek"].is_object()).await;
    assert_eq!(bucket["bucket"]["peek"]["windows"][0]["remaining"], 40, "{bucket}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn budgets_are_rows_of_the_page_that_lead_to_their_buckets() {
    let Some(scene) = Scene::start().await else { return };
    let Some(mut browser) = tokio::task::block_in_place(Browser::start) else { return };
    scene.ask("alice", "json", [40, 20]).await;
    scene.desk.until(|state| rows(state, "tokens").first().is_some_and(|row| row[1] == "60 tokens")).await;
    let mut redis = scene.mesh.redis_connection();
    let keys: Vec<String> = redis.keys(format!("{}tokens:alice*", scene.mesh.key_prefix())).unwrap();
    let copied: bool = redis.copy(&keys[0], keys[0].replace("alice", HOSTILE), Default::default()).unwrap();
    assert!(copied);
    browser.look(1180, "light");
    browser.open(&scene.desk.console.url());
    browser.until("document.querySelectorAll('#budgets .row').length === 3");
    let text = browser.value("document.querySelector('#budgets').innerText");
    let text = text.as_str().unwrap();
    for part in [HOSTILE, "tokens", "60 tokens", "60.0 %", "100 tokens", "passed", "0.000018 USD", "10.00 USD"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for width in [1180, 420] {
        browser.look(width, "light");
        let overflow = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert_eq!(overflow, 0, "at a width of {width} nothing is cut off");
    }
    assert!(browser.picture("budgets", "#budgets").len() > 10_000);
    let row = "[...document.querySelectorAll('#budgets .row')].find(row => /^alice\\s+tokens/.test(row.innerText))";
    browser.value(&format!("{row}.querySelector('.link').click()"));
    browser.until("document.querySelector('#bucket-facts').innerText.includes('40 of 100')");
    assert_eq!(browser.value("document.querySelectorAll('img').length + (window.hacked || 0)"), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

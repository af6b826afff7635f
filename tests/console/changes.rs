//! Changes of overrides by the page.

use hyper::Method;
use redis::Commands;
use serde_json::{Value, json};

use crate::desk::{Desk, mesh, override_of};

fn block(mesh: &weir::Mesh, user: &str) -> Value {
    json!({
        "action": "set", "key_prefix": mesh.key_prefix(), "limit": "per_user", "key": user, "word": "blocked",
        "lasting": "10m", "reason": "abuse", "by": "carol",
    })
}

fn stored(mesh: &weir::Mesh, user: &str) -> Option<String> {
    mesh.redis_connection().get(format!("{}per_user:{user}#override", mesh.key_prefix())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_is_read_only_unless_told() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &Value::Null, &[]).await;
    for path in ["/api/change", "/api/preview"] {
        let (status, answer) = desk.post(path, &block(&mesh, "alice")).await;
        assert_eq!(status, 403, "{answer}");
        assert_eq!(answer["error"], "read-only: start `weir console` with --allow-changes");
    }
    let remove = json!({ "action": "unset", "key_prefix": mesh.key_prefix(), "limit": "per_user", "key": null });
    assert_eq!(desk.post("/api/change", &remove).await.0, 403);
    assert_eq!(stored(&mesh, "alice"), None);
    mesh.get("alice").await.admitted();
    assert_eq!(desk.get("/api/state").await.1["console"]["allows_changes"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_is_shown_before_it_is_set_and_holds_at_once() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &Value::Null, &["--allow-changes"]).await;
    mesh.get("alice").await.admitted();

    let (status, preview) = desk.post("/api/preview", &block(&mesh, "alice")).await;
    assert_eq!(status, 200, "{preview}");
    assert_eq!(preview["target"], "per_user alice");
    assert_eq!(preview["text"], "blocked, for 10m; reason: abuse; by carol");
    assert_eq!(preview["now"], Value::Null);
    assert_eq!(preview["notes"], json!([format!("redis: {}/0", mesh.redis().addr())]));
    assert_eq!(stored(&mesh, "alice"), None, "a preview changes nothing");

    // Neither a page of another origin nor a form can send the change.
    for absent in ["x-weir-console", "content-type"] {
        let mut forged = desk.headers();
        forged.remove(absent);
        let refused = desk.sends(Method::POST, "/api/change", &forged, &block(&mesh, "alice").to_string()).await;
        assert_eq!(refused.status, 403, "without {absent}");
    }
    assert_eq!(desk.get("/api/change").await.0, 405);
    assert_eq!(stored(&mesh, "alice"), None);

    let (status, done) = desk.post("/api/change", &block(&mesh, "alice")).await;
    assert_eq!((status, &done["done"]), (200, &json!("per_user alice: blocked, for 10m; reason: abuse; by carol\n")));
    mesh.get("alice").await.denied();
    let hash = format!("{}overrides", mesh.key_prefix());
    let announced: Option<String> = mesh.redis_connection().hget(hash, "@per_user:alice").unwrap();
    assert!(announced.is_some(), "workers that decide without Redis are told");
    let state = desk.until(|state| override_of(state, "alice").is_some()).await;
    assert_eq!(override_of(&state, "alice").unwrap()["state"], "in_force");

    let remove = json!({ "action": "unset", "key_prefix": mesh.key_prefix(), "limit": "per_user", "key": "alice" });
    let (_, preview) = desk.post("/api/preview", &remove).await;
    assert!(preview["now"].as_str().unwrap().starts_with("blocked, for "), "{preview}");
    assert_eq!(preview["text"], Value::Null);
    let (_, done) = desk.post("/api/change", &remove).await;
    assert_eq!(done["done"], "per_user alice: no override any more\n");
    assert_eq!(stored(&mesh, "alice"), None);
    desk.until(|state| override_of(state, "alice").is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_of_the_whole_limit_says_whom_it_concerns() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &Value::Null, &["--allow-changes"]).await;
    let mut change = json!({
        "action": "set", "key_prefix": mesh.key_prefix(), "limit": "per_user", "key": null, "times": "2",
    });
    let (_, preview) = desk.post("/api/preview", &change).await;
    assert_eq!(preview["target"], "per_user (every key)");
    assert!(preview["notes"][0].as_str().unwrap().starts_with("for every key of the limit but those"), "{preview}");
    let (status, _) = desk.post("/api/change", &change).await;
    assert_eq!(status, 200);
    desk.until(|state| state["limits"][0]["override"]["value"]["times"] == 2).await;
    change["action"] = "unset".into();
    assert_eq!(desk.post("/api/change", &change).await.0, 200);
    desk.until(|state| state["limits"][0]["override"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_weir_limits_refuses_is_refused_in_its_words() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &Value::Null, &["--allow-changes"]).await;
    let with = |fields: Value| {
        let mut change = json!({ "action": "set", "key_prefix": "", "limit": "per_user", "key": "alice" });
        change.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        change
    };
    for (fields, why) in [
        (json!({ "max": "many" }), "invalid value 'many' for '--max"),
        (json!({ "times": "2000" }), "--times: expected a number from 0 to 1000"),
        (json!({ "word": "blocked", "lasting": "soon" }), "--for: expected a time such as 90s"),
        (json!({ "quota": "10/moon" }), "--quota: expected requests per minute, hour"),
        (json!({ "word": "sometimes" }), "expected unlimited, blocked, shadow or off"),
        (json!({}), "expected unlimited, blocked, shadow or off"),
        (json!({ "limit": "--redis=redis://127.0.0.1:1", "word": "blocked" }), "no limit"),
        (json!({ "key": "a b", "word": "blocked" }), "expected one key"),
        (json!({ "word": "blocked", "reason": "x".repeat(2_000) }), "expected a value of at most 1024 bytes"),
    ] {
        let (status, answer) = desk.post("/api/change", &with(fields.clone())).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 422 && error.contains(why), "{fields}: {status} {answer}");
    }
    let keys: Vec<String> = mesh.redis_connection().keys(format!("{}*override*", mesh.key_prefix())).unwrap();
    assert_eq!(keys, Vec::<String>::new());
}

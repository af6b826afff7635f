//! Figures under traffic: rates, limited keys, levels and overrides.

use redis::Commands;
use serde_json::{Value, json};
use weir_harness::limits::Limits;

use crate::desk::{Desk, configuration, limited, mesh, override_of};

/// Runs `weir limits` on another terminal.
fn weir_limits(mesh: &weir::Mesh, words: &[&str]) {
    let (url, prefix) = (mesh.redis().url(), mesh.key_prefix().to_owned());
    let arguments = [words, &["--redis", &url, "--key-prefix", &prefix]].concat();
    Limits::parse(&arguments).unwrap().perform(&mut Vec::new(), &mut Vec::new()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_key_is_shown_with_its_denials_and_since_when() {
    let events = json!({});
    let Some(mesh) = mesh(&events).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &events, &[]).await;
    // The first request of the page begins the reading of counters.
    desk.until(|state| state["requests"].is_object()).await;
    for _ in 0..12 {
        mesh.get("alice").await;
    }
    mesh.get("bob").await.admitted();
    let state = desk.until(|state| limited(state, "alice").is_some_and(|row| row["denied_last_minute"] == 7)).await;
    let alice = limited(&state, "alice").unwrap();
    assert_eq!(alice["peek"]["windows"][0]["remaining"], 0, "{alice}");
    assert!(alice["peek"]["answer"].as_str().unwrap().starts_with("in "), "{alice}");
    assert_eq!(alice["is_limited"], true);
    let (now, episode) = (state["now"].as_u64().unwrap(), &alice["episode"]);
    let since = episode["since"].as_u64().unwrap();
    assert!(since <= now && now - since < 60_000, "{alice}");
    assert_eq!(episode["is_open"], false, "the stream has shown all from its beginning: {alice}");
    assert!(limited(&state, "bob").is_none(), "{state:#}");

    let has_counted = |state: &Value| {
        let figures = &state["limits"][0]["figures"];
        figures["totals"]["denied"] == 7 && figures["totals"]["admitted"] == 6 && figures["rates"]["denied"] != 0.0
    };
    let state = desk.until(has_counted).await;
    assert_eq!(state["limits"][0]["figures"]["source"], "metrics");
    assert_eq!(state["requests"]["totals"]["denied"], 7);
    assert_eq!(state["metrics"][0]["error"], Value::Null);
    assert_eq!(state["events"][0]["error"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_events_and_counters_a_scan_finds_limited_keys() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    for _ in 0..6 {
        mesh.get("alice").await;
    }
    mesh.get("bob").await;
    let url = mesh.redis().url();
    let desk = Desk::of(&configuration(mesh.key_prefix()), &["--redis", &url]).await;
    let state = desk.until(|state| limited(state, "alice").is_some()).await;
    let alice = limited(&state, "alice").unwrap();
    assert_eq!((&alice["denied_last_minute"], &alice["episode"]["is_open"]), (&Value::Null, &json!(true)), "{alice}");
    assert!(limited(&state, "bob").is_none());
    assert_eq!(state["limits"][0]["figures"], Value::Null, "nothing tells rates");
    let state = desk.until(|state| state["scan"]["completed"].is_u64()).await;
    assert_eq!(state["scan"]["empty"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_alone_give_rates_of_denials() {
    let events = json!({ "only": "all" });
    let Some(mesh) = mesh(&events).start().await else { return };
    let mut configuration = configuration(mesh.key_prefix());
    configuration["events"] = events;
    let desk = Desk::of(&configuration, &["--redis", &mesh.redis().url()]).await;
    for _ in 0..12 {
        mesh.get("alice").await;
    }
    let is_counted = |state: &Value| {
        let rates = &state["limits"][0]["figures"]["rates"];
        rates["denied"].as_f64() > Some(0.0) && rates["admitted"].as_f64() > Some(0.0)
    };
    let state = desk.until(is_counted).await;
    assert_eq!(state["limits"][0]["figures"]["source"], "events");
    let denied = state["limits"][0]["figures"]["rates"]["denied"].as_f64().unwrap();
    assert!(denied <= 0.7, "at most 7 in 10 s: {denied}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opened_bucket_has_its_past_while_it_is_watched() {
    let events = json!({});
    let Some(mesh) = mesh(&events).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &events, &[]).await;
    let path = format!("/api/bucket?key_prefix={}&limit=per_user&key=alice", mesh.key_prefix());
    let full = desk.until_answer(&path, |answer| answer["bucket"]["peek"].is_object()).await;
    assert_eq!(full["bucket"]["peek"]["windows"][0]["remaining"], 5);
    for _ in 0..7 {
        mesh.get("alice").await;
    }
    let seen = desk.until_answer(&path, |answer| {
        let denied = answer["bucket"]["denials"]["denied"].as_array();
        let denied: u64 = denied.into_iter().flatten().filter_map(Value::as_u64).sum();
        answer["bucket"]["peek"]["windows"][0]["remaining"] == 0 && denied == 2
    });
    let seen = seen.await;
    let left = seen["bucket"]["samples"]["left"][0].as_array().unwrap();
    assert_eq!((left.first(), left.last()), (Some(&json!(5)), Some(&json!(0))), "{seen}");
    assert_eq!(seen["bucket"]["samples"]["at"].as_array().unwrap().len(), left.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_of_others_appear_and_vanish() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of(&configuration(mesh.key_prefix()), &["--redis", &mesh.redis().url()]).await;
    desk.until(|state| state["scan"]["completed"].is_u64()).await;
    weir_limits(&mesh, &["set", "per_user", "alice", "blocked", "--for", "1h", "--reason", "<b>abuse</b>"]);
    weir_limits(&mesh, &["set", "per_user", "--times", "2"]);
    weir_limits(&mesh, &["set", "former", "unlimited"]);
    let state = desk.until(|state| override_of(state, "alice").is_some()).await;
    let text = override_of(&state, "alice").unwrap()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("blocked, for ") && text.ends_with("; reason: <b>abuse</b>"), "{text}");
    let state = desk.until(|state| !state["limits"][0]["override"].is_null()).await;
    assert_eq!(state["limits"][0]["override"]["value"]["times"], 2);
    let is_former = |row: &Value| row["limit"] == "former" && row["exists"] == false && row["key"].is_null();
    desk.until(|state| state["overrides"]["rows"].as_array().unwrap().iter().any(is_former)).await;
    weir_limits(&mesh, &["unset", "per_user", "alice"]);
    desk.until(|state| override_of(state, "alice").is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_all_kinds_are_shown_as_they_are() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    for _ in 0..6 {
        mesh.get("alice").await;
    }
    let hostile = "<script>alert(1)</script>";
    let mut redis = mesh.redis_connection();
    let bucket = format!("{}per_user:", mesh.key_prefix());
    let copied: bool = redis.copy(format!("{bucket}alice"), format!("{bucket}{hostile}"), Default::default()).unwrap();
    assert!(copied);
    let _: () = redis.set(format!("{bucket}{hostile}#override"), "<img src=x onerror=alert(1)>").unwrap();
    let _: () = redis.set(format!("{bucket}bob#override"), r#"{"is": "blocked", "by": "<i>carol</i>"}"#).unwrap();
    let _: () = redis.lpush(format!("{bucket}list"), 1).unwrap();
    let _: () = redis.set(format!("{bucket}garbage\u{1}\n"), b"\xff\x00".to_vec()).unwrap();
    let desk = Desk::of(&configuration(mesh.key_prefix()), &["--redis", &mesh.redis().url()]).await;
    let state = desk.until(|state| limited(state, hostile).is_some() && override_of(state, "bob").is_some()).await;
    assert_eq!(state["redis"]["is_connected"], true, "{state:#}");
    assert!(limited(&state, "alice").is_some());
    assert_eq!(override_of(&state, hostile).unwrap()["state"], "malformed");
    assert_eq!(override_of(&state, "bob").unwrap()["by"], "<i>carol</i>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashed_keys_stay_hashed() {
    let mut configuration = configuration("weir:");
    configuration["hash_key"] = json!({ "inline": "a key of 32 bytes, at least: 0123456789" });
    configuration["limits"][0]["descriptor"][0]["request_header"]["hash"] = true.into();
    let desk = Desk::of(&configuration, &["--redis", "redis://127.0.0.1:1"]).await;
    let (status, found) = desk.post("/api/find", &json!({ "limit": "per_user", "values": ["sk-secret"] })).await;
    let key = found["key"].as_str().unwrap();
    assert_eq!((status, key.len()), (200, 32), "{found}");
    assert!(!found.to_string().contains("secret"), "{found}");
    assert_eq!(desk.get("/api/state").await.1["limits"][0]["hashed_values"], json!([true]));
}

//! Redis and proxies that are away, and back.

use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::{Value, json};

use crate::desk::{Desk, configuration, limited, mesh, override_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_says_that_redis_is_away_and_recovers() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &Value::Null, &["--allow-changes"]).await;
    for _ in 0..6 {
        mesh.get("alice").await;
    }
    desk.until(|state| limited(state, "alice").is_some()).await;

    mesh.redis().kill();
    let state = desk.until(|state| state["redis"]["is_connected"] == false).await;
    let error = state["redis"]["error"].as_str().unwrap();
    assert!(error.starts_with(&format!("redis at {}: ", mesh.redis().addr())), "{error}");
    assert!(state["redis"]["since"].is_u64());
    assert!(limited(&state, "alice").is_some(), "the last figures stay");
    let block = json!({
        "action": "set", "key_prefix": mesh.key_prefix(), "limit": "per_user", "key": "alice", "word": "blocked",
    });
    let (status, answer) = desk.post("/api/change", &block).await;
    assert_eq!((status, answer["error"].as_str().unwrap().starts_with("redis at ")), (502, true), "{answer}");

    mesh.redis().restart().unwrap();
    // Workers may have healed the bucket: whether it is still limited is not the console's matter.
    desk.until(|state| state["redis"]["is_connected"] == true).await;
    assert_eq!(desk.post("/api/change", &block).await.0, 200);
    desk.until(|state| override_of(state, "alice").is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_holds_up_no_page() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of_mesh(&mesh, &Value::Null, &[]).await;
    desk.until(|state| state["redis"]["is_connected"] == true).await;
    mesh.redis().pause().unwrap();
    for _ in 0..20 {
        let began = Instant::now();
        desk.get("/api/state").await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let state = desk.until(|state| state["redis"]["is_connected"] == false).await;
    assert!(state["redis"]["error"].as_str().unwrap().ends_with("no answer within 10 s"), "{state}");
    mesh.redis().resume().unwrap();
    desk.until(|state| state["redis"]["is_connected"] == true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_away_is_named_and_the_others_count() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    mesh.get("alice").await;
    let desk = Desk::of_mesh(&mesh, &Value::Null, &["--metrics", "http://127.0.0.1:1"]).await;
    let state = desk.until(|state| state["requests"]["totals"]["admitted"] == 1).await;
    assert_eq!(state["metrics"][0]["error"], Value::Null);
    assert_eq!(state["metrics"][1]["url"], "http://127.0.0.1:1");
    assert!(state["metrics"][1]["error"].as_str().unwrap().contains("refused"), "{state}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_permission_for_events_still_has_the_scan() {
    let events = json!({});
    let Some(mesh) = mesh(&events).start().await else { return };
    for _ in 0..6 {
        mesh.get("alice").await;
    }
    let mut redis = mesh.redis_connection();
    let _: () = redis::cmd("ACL")
        .arg(&["SETUSER", "viewer", "on", ">secret", "~*", "+eval", "+evalsha", "+time", "+scan", "+dbsize", "+get"])
        .arg(&["+mget", "+hget", "+hmget", "+hscan", "+pttl", "+lindex", "+llen", "+zcount", "+exists", "+ping"])
        .query(&mut redis)
        .unwrap();
    let mut configuration = configuration(mesh.key_prefix());
    configuration["events"] = events;
    let url = format!("redis://viewer:secret@{}", mesh.redis().addr());
    let desk = Desk::of(&configuration, &["--redis", &url]).await;
    let state = desk.until(|state| limited(state, "alice").is_some()).await;
    let error = state["events"][0]["error"].as_str().unwrap();
    assert!(error.contains("this Redis user needs also: +xrevrange"), "{error}");
    assert!(!state.to_string().contains("secret"), "{state}");
    assert_eq!(limited(&state, "alice").unwrap()["denied_last_minute"], Value::Null);
    let calls: String = redis::cmd("INFO").arg("commandstats").query(&mut redis).unwrap();
    assert!(!calls.contains("cmdstat_keys:"), "KEYS blocks Redis");
    let _: bool = redis.exists("any").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_left_alone_while_no_page_is_open() {
    let Some(mesh) = mesh(&Value::Null).start().await else { return };
    let desk = Desk::of(&configuration(mesh.key_prefix()), &["--redis", &mesh.redis().url()]).await;
    let mut redis = mesh.redis_connection();
    let mut commands = || -> u64 {
        let info: String = redis::cmd("INFO").arg("stats").query(&mut redis).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
        line.trim().parse().unwrap()
    };
    let scans = |state: &Value| state["scan"]["completed"].is_u64();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = commands();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The mesh's own workers read overrides and answer pings meanwhile.
    let idle = commands() - before;
    desk.until(scans).await;
    let busy = commands();
    tokio::time::sleep(Duration::from_secs(18)).await;
    let before = commands();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = commands() - before;
    assert!(busy > 0 && after <= idle + 5, "{idle} commands in 2 s before a page was open, {after} afterwards");
}

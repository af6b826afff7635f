//! The console of a Redis Cluster.

use serde_json::json;
use weir::RedisCluster;

use crate::desk::{Desk, configuration, override_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_of_all_masters_are_shown_and_changed() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let mut configuration = configuration("weir:");
    configuration["redis"]["topology"] = "cluster".into();
    configuration["events"] = json!({});
    let desk = Desk::of(&configuration, &["--redis", &cluster.url(), "--allow-changes"]).await;
    let users: Vec<String> = (0..12).map(|number| format!("user{number}")).collect();
    let change = |user: &str, action: &str| {
        let word = "blocked";
        json!({ "action": action, "key_prefix": "weir:", "limit": "per_user", "key": user, "word": word })
    };
    for user in &users {
        let (status, done) = desk.post("/api/change", &change(user, "set")).await;
        assert_eq!(status, 200, "{done}");
    }
    let state = desk.until(|state| users.iter().all(|user| override_of(state, user).is_some())).await;
    assert!(state["redis"]["place"].as_str().unwrap().starts_with("cluster of "), "{state}");
    assert!(state["events"][0]["error"].is_null(), "{state}");
    let path = "/api/bucket?key_prefix=weir:&limit=per_user&key=user3";
    let seen = desk.until_answer(path, |answer| answer["bucket"]["peek"].is_object()).await;
    assert_eq!(seen["bucket"]["peek"]["answer"], "never: the override denies every request");
    desk.post("/api/change", &change("user3", "unset")).await;
    desk.until(|state| override_of(state, "user3").is_none()).await;
    // A scan of all masters finds the others, too: these were not told by this console.
    let desk = Desk::of(&configuration, &["--redis", &cluster.url()]).await;
    let state = desk.until(|state| state["scan"]["completed"].is_u64()).await;
    assert_eq!(state["overrides"]["rows"].as_array().unwrap().len(), 11, "{state}");
}

//! Budgets in a Redis Cluster: each key on its own master, without a ledger.

use serde_json::json;
use weir::RedisCluster;
use weir_filter::limit::{Check, Scripts, SlotOwner};
use weir_filter::units::Tokens;

use crate::{PREFIX, configuration, file, limits, objects, run, types};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_on_all_masters_are_listed_and_credited() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let mut configuration = configuration(&limits("86400s"), &json!({}));
    configuration["redis"]["topology"] = "cluster".into();
    let config = file(&configuration);
    let parsed = weir_filter::config::parse(configuration.to_string().as_bytes(), &|_| None).unwrap();
    let limit = parsed.limits.iter().find(|limit| limit.name == "tokens").unwrap();
    let scripts = Scripts::default();
    let users = ["alice", "bob", "carol", "dave", "erin", "frank"];
    for (nth, user) in (0..).zip(users) {
        let key = format!("{PREFIX}{{tokens:{user}}}");
        let mut redis = cluster.connection_for(&key);
        let check = Check::new(limit.windows.checks(0, key, Tokens(100), true).collect(), SlotOwner::new(7, nth));
        let verdict = check.read(&run(&mut redis, &check.call(&scripts))).unwrap();
        let own = check.reservations(&verdict).unwrap();
        run(&mut redis, &own.settle_call(&|_| 10 + nth, false, None, &scripts));
    }
    let url = cluster.url();
    let words = |words: &[&str]| tokio::task::block_in_place(|| types(words, &url, &config));
    let rows = objects(&words(&["list", "--limit", "tokens", "--format", "json"]).unwrap().0);
    let mut used: Vec<_> =
        rows.iter().map(|row| (row["key"].as_str().unwrap(), row["used"].as_u64().unwrap())).collect();
    used.sort_unstable();
    assert_eq!(used, users.into_iter().zip(10..).collect::<Vec<_>>());
    for user in users {
        let (credit, _) = words(&["credit", user, "3", "--limit", "tokens", "--yes"]).unwrap();
        assert!(credit.starts_with(&format!("tokens {user}: gave back 3 tokens; ")), "{credit}");
        let got = objects(&words(&["get", user, "--limit", "tokens", "--format", "json"]).unwrap().0);
        let before = used.iter().find(|(key, _)| *key == user).unwrap().1;
        assert_eq!(got[0]["used"], before - 3);
    }
    let refused = words(&["export"]).unwrap_err();
    assert!(refused.starts_with("expected a ledger, found events.usage off"), "{refused}");
}

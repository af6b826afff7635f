//! Overrides of keys that are odd: long, of another type, ended, or unknown to a crowd.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::json;
use tokio::time::sleep;
use weir::{HostKind, Mesh};

use super::shared::{KINDS, Operator, TRANSPORTS, ask, every_kind, flood, of_case, until, until_heeded};

weir::on_both_hosts! {
    long_overrides_of_a_crowd_hold
    a_crowd_of_one_key_gets_what_its_override_admits
    a_key_prefix_like_a_suffix_hides_no_override
    leased_tokens_of_a_key_with_an_override_are_returned
    a_denial_tells_when_the_override_ends
    an_override_that_has_ended_is_ignored
    an_override_holds_beside_a_proxy_that_reads_none_of_keys
    a_value_that_is_no_override_is_ignored_and_counted
}

/// A reply tells no texts where they would be too long together; workers ask again one by one.
async fn long_overrides_of_a_crowd_hold(host: HostKind) {
    for scenario in TRANSPORTS {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).workers(1).start().await else { return };
        let mut operator = Operator::of(&mesh);
        let text = json!({"is": "blocked", "reason": "x".repeat(990)}).to_string();
        for kind in ["bucket", "fixed"] {
            for nth in 0..300 {
                operator.set_key(kind, &format!("user-{nth}"), &text);
            }
            for _ in 0..2 {
                let statuses = flood(&mesh, 300, |nth| of_case(kind, &format!("user-{nth}"))).await;
                assert_eq!(statuses, BTreeMap::from([(429, 300)]), "{kind}");
            }
        }
        mesh.counts("weir_redis_protocol", 0).await;
    }
}

async fn a_crowd_of_one_key_gets_what_its_override_admits(host: HostKind) {
    for scenario in TRANSPORTS {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).workers(1).start().await else { return };
        let mut operator = Operator::of(&mesh);
        for kind in ["bucket", "approximate", "fixed", "quota", "bucket_and_quota"] {
            ask(&mesh, kind).await.admitted();
            operator.set(kind, r#"{"max": 1000}"#);
            let statuses = flood(&mesh, 400, |_| of_case(kind, "alice")).await;
            assert_eq!(statuses, BTreeMap::from([(200, 400)]), "{kind}");
        }
    }
}

/// Buckets beside the first of a key have names that end in `#` and a word.
async fn a_key_prefix_like_a_suffix_hides_no_override(host: HostKind) {
    for namespace in ["team#a", "#token", "#override:", "a%l#b."] {
        let mesh = every_kind(Mesh::on(host, TRANSPORTS[0])).namespace(namespace).workers(1);
        let Some(mesh) = mesh.start().await else { return };
        let mut operator = Operator::of(&mesh);
        for kind in KINDS {
            ask(&mesh, kind).await.admitted();
            operator.set(kind, "blocked");
            ask(&mesh, kind).await.denied();
            operator.set(kind, "");
            until(&mesh, kind, |answer| answer.status == 200).await;
        }
    }
}

/// The reply to the call that returns them tells the override, and settles nothing: the worker returns them again.
async fn leased_tokens_of_a_key_with_an_override_are_returned(host: HostKind) {
    for scenario in TRANSPORTS {
        let mesh = every_kind(Mesh::on(host, scenario)).workers(1).configure(|filter| {
            let leased = filter["limits"].as_array_mut().unwrap().iter_mut().find(|limit| limit["name"] == "leased");
            let leased = leased.unwrap();
            leased["token_bucket"] = json!({"max_tokens": 10_000, "tokens_per_fill": 1, "fill_interval": "3600s"});
            leased["lease"] = json!({"max": 100, "ttl": "3s"});
            // Tokens of a refill whose reply comes after the timeout are lost.
            filter["redis"]["timeout"] = "10s".into();
        });
        let Some(mesh) = mesh.start().await else { return };
        let mut operator = Operator::of(&mesh);
        for _ in 0..3 {
            flood(&mesh, 200, |_| of_case("leased", "alice")).await;
        }
        assert!(mesh.counter("weir_leases_hits").await > 0, "no request was served from a lease");
        operator.set("leased", r#"{"max": 9000}"#);
        // No request comes: the call that returns the tokens is the first to learn of the override.
        sleep(Duration::from_secs(4)).await;
        let mut spent: u64 = 600;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            sleep(Duration::from_millis(500)).await;
            let answer = ask(&mesh, "leased").await.admitted();
            spent += 1;
            let [limit, remaining] =
                ["limit", "remaining"].map(|it| answer.number(&format!("x-ratelimit-{it}")).unwrap());
            assert!(remaining <= limit - spent, "more than there is: {remaining} of {limit} after {spent}");
            if (limit, remaining) == (9_000, 9_000 - spent) {
                break;
            }
            assert!(Instant::now() < deadline, "{remaining} of {limit} remain after {spent}");
        }
    }
}

async fn a_denial_tells_when_the_override_ends(host: HostKind) {
    let Some(mesh) = every_kind(Mesh::on(host, TRANSPORTS[0])).workers(1).start().await else { return };
    let mut operator = Operator::of(&mesh);
    let (now, _): (u64, u64) = redis::cmd("TIME").query(&mut operator.redis).unwrap();
    for kind in KINDS {
        mesh.ask("/").header("x-case", kind).user("bob").send().await.admitted();
        operator.set(kind, &json!({"is": "blocked", "until": now + 60}).to_string());
        let wait: u64 = ask(&mesh, kind).await.denied().number("retry-after").unwrap();
        assert!((1..=60).contains(&wait), "{kind}: {wait}");
    }
}

/// Whoever wrote the override has not let its key expire.
async fn an_override_that_has_ended_is_ignored(host: HostKind) {
    let Some(mesh) = every_kind(Mesh::on(host, TRANSPORTS[0])).workers(1).start().await else { return };
    let mut operator = Operator::of(&mesh);
    for kind in KINDS {
        mesh.ask("/").header("x-case", kind).user("bob").send().await.admitted();
        operator.set(kind, r#"{"is": "blocked", "until": 1000}"#);
        assert!(ask(&mesh, kind).await.admitted().header("x-ratelimit-limit").is_some(), "{kind}");
    }
}

/// Whether the key's bucket has a state before its override is set, and whichever proxy has written that.
async fn an_override_holds_beside_a_proxy_that_reads_none_of_keys(host: HostKind) {
    // Each bucket takes hours to fill, so that its state lives on.
    let every_kind = |mesh| {
        every_kind(mesh).workers(1).configure(|filter| {
            for limit in filter["limits"].as_array_mut().unwrap() {
                if limit.get("token_bucket").is_some() {
                    limit["token_bucket"] = json!({"max_tokens": 10, "tokens_per_fill": 1, "fill_interval": "3600s"});
                }
            }
        })
    };
    let Some(reader) = every_kind(Mesh::on(host, TRANSPORTS[0])).start().await else { return };
    let other = every_kind(Mesh::on(host, TRANSPORTS[0])).sharing_buckets_of(&reader);
    let other = other.configure(|filter| filter["overrides"] = json!({"per_key": false})).start().await;
    let Some(other) = other else { return };
    let mut operator = Operator::of(&reader);
    for kind in KINDS {
        let ask = async |mesh: &Mesh, user| mesh.ask("/").header("x-case", kind).user(user).send().await;
        ask(&reader, "of-reader").await.admitted();
        ask(&other, "of-other").await.admitted();
        for user in ["of-reader", "of-other", "of-none"] {
            operator.set_key(kind, user, "blocked");
        }
        until_heeded(kind).await;
        for user in ["of-reader", "of-other", "of-none"] {
            ask(&other, user).await.admitted();
            ask(&reader, user).await.denied();
        }
    }
}

async fn a_value_that_is_no_override_is_ignored_and_counted(host: HostKind) {
    let Some(mesh) = every_kind(Mesh::on(host, TRANSPORTS[0])).workers(1).start().await else { return };
    let mut operator = Operator::of(&mesh);
    for kind in KINDS {
        let key = |user: &str| format!("{}{kind}:{user}#override", mesh.key_prefix());
        let _: () = operator.redis.rpush(key("list"), "blocked").unwrap();
        let _: () = operator.redis.set(key("long"), "blocked ".repeat(9_000)).unwrap();
        let _: () = operator.redis.set(key("binary"), [0_u8, 255, 13, 10].as_slice()).unwrap();
        for user in ["list", "long", "binary"] {
            let answer = mesh.ask("/").header("x-case", kind).user(user).send().await.admitted();
            assert!(answer.header("x-ratelimit-limit").is_some(), "{kind} {user}");
        }
    }
    mesh.counts("weir_overrides_ignored", 3 * KINDS.len() as u64).await;
    mesh.counts("weir_redis_protocol", 0).await;
}

//! Redis Cluster behind Envoy's `redis_proxy`: three masters, three replicas, under load.
//!
//! `cargo test --test redis_cluster -- --nocapture` prints what a failover and a slot that moves cost. The embedded
//! host has no `redis_proxy`: `weir serve --host envoy` runs the scenario.

mod operator;

use std::{sync::Arc, time::Duration};

use hyper::header::{HeaderName, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir::redis_cluster::NODE_TIMEOUT;
use weir::{HostKind, Load, Mesh, Phases, RedisCluster, Trial};
use weir_harness::limits::Limits;
use weir_harness::traffic::{self, Pace, User, UserReport};

const SCENARIO: &str = "envoy/redis-cluster.yaml";
/// Header of the limit whose overrides an operator changes.
const OPERATED: &str = "x-operated";
/// Time for the promotion of a replica, and for Envoy to find it, on a busy machine.
const FOUND_WITHIN: Duration = Duration::from_secs(25);
/// Decided requests in a row after which both workers are connected, and Envoy knows all masters.
const CONNECTED: usize = 30;
/// The most that a bucket admits beyond its promise when its state is lost: once what it holds.
const A_BUCKET: u64 = Load::STEADY.max_tokens;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_admit_exactly_their_capacity_in_one_slot_or_in_several_also_while_slots_move() {
    let Some(cluster) = RedisCluster::start().await else { return };
    // Each has headers of its own, so that a request has limits of one of these only.
    let all = [
        Together { name: "one", is_tagged: true, first: "tenant" },
        Together { name: "tenant_first", is_tagged: false, first: "tenant" },
        Together { name: "user_first", is_tagged: false, first: "user" },
    ];
    let limits = all.iter().flat_map(Together::limits).chain(steady_pair());
    let limits: Vec<Value> = limits.chain([per_header("operated", OPERATED)]).collect();
    let mesh = Load::STEADY.configure(Mesh::on(HostKind::Envoy, SCENARIO).clustered(&cluster)).patient();
    let mesh = mesh.edit(patient_proxy).configure(|filter| filter["limits"] = limits.clone().into());
    let Some(mesh) = mesh.start().await else { return };
    mesh.until_decided(CONNECTED).await;
    for together in &all {
        admits_exactly(&cluster, &mesh, together).await;
    }
    operators_are_obeyed(&cluster, &mesh).await;
    let key = format!("{}per_user:{{user%200}}", mesh.key_prefix());
    let moves = async || {
        tokio::task::block_in_place(|| {
            let from = cluster.owner(&key).unwrap();
            for step in 1..=3 {
                cluster.move_slot(&key, (from + step) % 3, Duration::from_millis(300));
            }
        });
    };
    let trial = run(&mesh, "a slot of two buckets moves three times", moves, async || ()).await;
    trial.as_asked();
    assert!(trial.over_admitted == 0 && trial.failed == 0, "{trial}");
}

/// The replica may lack the last admissions of its master: replication is asynchronous. No other bucket is concerned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_or_frozen_master_is_replaced_by_its_replica() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let mesh = Load::STEADY.configure(Mesh::on(HostKind::Envoy, SCENARIO).clustered(&cluster));
    let Some(mesh) = mesh.configure(|filter| filter["limits"] = vec![per_user()].into()).start().await else { return };
    mesh.until_decided(CONNECTED).await;
    let keys: Vec<String> =
        (0..Load::STEADY.users).map(|nth| format!("{}{{per_user:user%20{nth}}}", mesh.key_prefix())).collect();
    let of = |node: usize| keys.iter().map(|key| cluster.owner(key) == Some(node)).collect::<Vec<bool>>();
    let promoted = |from| tokio::task::block_in_place(|| cluster.until_promoted(&keys[0], from));

    let killed = cluster.owner(&keys[0]).unwrap();
    let lost = of(killed);
    let kill = async || cluster.nodes()[killed].kill();
    let trial = run(&mesh, "kill -9", kill, async || promoted(killed)).await;
    found_in_time(&trial, &lost);
    let returns = async || {
        tokio::task::block_in_place(|| {
            cluster.nodes()[killed].restart().unwrap();
            cluster.until_replica(killed);
        });
    };
    let trial = run(&mesh, "kill -9, the old master is back", returns, async || ()).await;
    found_in_time(&trial, &lost);

    let frozen = cluster.owner(&keys[0]).unwrap();
    let lost = of(frozen);
    let freeze = async || cluster.nodes()[frozen].pause().unwrap();
    let trial = run(&mesh, "SIGSTOP", freeze, async || promoted(frozen)).await;
    found_in_time(&trial, &lost);
    let resume = async || {
        tokio::task::block_in_place(|| {
            cluster.nodes()[frozen].resume().unwrap();
            cluster.until_replica(frozen);
        });
    };
    let trial = run(&mesh, "SIGSTOP, the old master is back", resume, async || ()).await;
    found_in_time(&trial, &lost);
}

/// Two limits that a request has together: 400 requests of a tenant, 100 of each user.
struct Together {
    name: &'static str,
    is_tagged: bool,
    /// The limit that the configuration has first.
    first: &'static str,
}

impl Together {
    fn limits(&self) -> Vec<Value> {
        let header = |whose: &str| json!({"request_header": {"name": self.header(whose)}});
        let limit = |whose: &str, entries: Vec<Value>, tokens: u64| {
            let bucket = json!({"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "36000s"});
            let mut limit = json!({"name": self.limit(whose), "descriptor": entries, "token_bucket": bucket});
            if self.is_tagged {
                limit["hash_tag"] = json!({"entry": 0});
            }
            limit
        };
        let tenant = limit("tenant", vec![header("tenant")], 400);
        let user = limit("user", vec![header("tenant"), header("user")], 100);
        if self.first == "tenant" { vec![tenant, user] } else { vec![user, tenant] }
    }

    fn limit(&self, whose: &str) -> String {
        format!("{}.{whose}", self.name)
    }

    fn header(&self, whose: &str) -> String {
        format!("x-{}-{whose}", self.name.replace('_', "-"))
    }

    /// The bucket of the tenant or the user.
    fn key(&self, prefix: &str, whose: &str) -> String {
        let limit = self.limit(whose);
        let user = if whose == "user" { ":alice" } else { "" };
        if self.is_tagged {
            format!("{prefix}{limit}:{{acme}}{user}")
        } else {
            format!("{prefix}{{{limit}:acme{user}}}")
        }
    }

    fn user(&self, name: &str) -> User {
        let header = |whose: &str| HeaderName::try_from(self.header(whose)).unwrap();
        let user = User::new(name, Pace::Closed).header(header("tenant"), HeaderValue::from_static("acme"));
        user.header(header("user"), HeaderValue::try_from(name).unwrap())
    }
}

/// Two users ask for more than they have, then many users for more than the tenant has.
async fn admits_exactly(cluster: &RedisCluster, mesh: &Mesh, together: &Together) {
    let many = (0..320).map(|nth| format!("user {nth}")).collect();
    let all = [(vec!["alice".to_owned(); 320], 100, 100), (vec!["bob".to_owned(); 320], 100, 200), (many, 200, 400)];
    for (users, expected, spent) in all {
        let all = ask_at_once(mesh, together, &users).await;
        println!("{}: {} of 320 admitted", together.name, all.admitted());
        let found = (all.admitted(), all.denied());
        assert_eq!(found, (expected, 320 - expected), "{}: {:?}", together.name, all.failures());
        // What requests get back arrives after their answers, and makes room for the next users.
        until_spent(cluster, &together.key(mesh.key_prefix(), "tenant"), spent).await;
    }
    until_spent(cluster, &together.key(mesh.key_prefix(), "user"), 100).await;
}

/// `weir limits` changes limits of keys in any hash slot, and the proxy obeys: at once, or within a second where a worker
/// denies without asking Redis.
async fn operators_are_obeyed(cluster: &RedisCluster, mesh: &Mesh) {
    let limits = |words: &str| limits(cluster, mesh.key_prefix(), &words.split(' ').collect::<Vec<_>>());
    let is_answered = async |key: &str, status| _ = mesh.ask("/").header(OPERATED, key).send().await.status(status);
    for key in (0..6).map(|nth| format!("key-{nth}")) {
        is_answered(&key, 200).await;
        limits(&format!("set operated {key} blocked"));
        is_answered(&key, 429).await;
        limits(&format!("unset operated {key}"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while mesh.ask("/").header(OPERATED, &key).send().await.status != 200 {
            assert!(Instant::now() < deadline, "{key} is blocked");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn limits(cluster: &RedisCluster, prefix: &str, words: &[&str]) -> String {
    let url = cluster.url();
    let limits = Limits::parse(&[words, &["--redis", &url, "--key-prefix", prefix]].concat()).unwrap();
    let mut out = Vec::new();
    tokio::task::block_in_place(|| limits.perform(&mut out, &mut std::io::sink())).unwrap();
    String::from_utf8(out).unwrap()
}

/// A bucket for each user, in a hash slot of its own.
fn per_user() -> Value {
    per_header("per_user", "x-user-id")
}

fn per_header(name: &str, header: &str) -> Value {
    let Load { max_tokens, tokens_per_second, .. } = Load::STEADY;
    json!({
        "name": name,
        "descriptor": [{"request_header": {"name": header}}],
        "token_bucket": {"max_tokens": max_tokens, "tokens_per_fill": tokens_per_second, "fill_interval": "1s"},
    })
}

/// Two buckets for each user, in one hash slot.
fn steady_pair() -> [Value; 2] {
    let mut first = per_user();
    first["hash_tag"] = json!({"entry": 0});
    let mut second = first.clone();
    second["name"] = "per_user_and_hour".into();
    second["token_bucket"] = json!({"max_tokens": 100_000, "tokens_per_fill": 100_000, "fill_interval": "3600s"});
    [first, second]
}

/// Lets `redis_proxy` wait for a busy machine. All nodes answer.
fn patient_proxy(bootstrap: &mut Value) {
    let settings = "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config/settings";
    bootstrap.pointer_mut(settings).expect("redis_proxy has settings")["op_timeout"] = "4s".into();
}

/// `is_lost` says which users have their buckets on the master that is replaced.
#[track_caller]
fn found_in_time(trial: &Trial, is_lost: &[bool]) {
    trial.as_asked();
    assert!(trial.failing < NODE_TIMEOUT + FOUND_WITHIN, "{trial}");
    for (over_admitted, is_lost) in trial.over_admitted_of.iter().zip(is_lost) {
        assert!(*over_admitted <= if *is_lost { A_BUCKET } else { 0 }, "{trial} {:?}", trial.over_admitted_of);
    }
}

async fn run(mesh: &Mesh, name: &str, begin: impl AsyncFnOnce(), end: impl AsyncFnOnce()) -> Trial {
    let phases = Phases { before: Duration::from_secs(1), fault: Duration::ZERO, after: Duration::from_secs(3) };
    let trial = Load::STEADY.run(mesh, phases, begin, end).await;
    println!("{name}: {trial}; over-admitted of each user {:?}", trial.over_admitted_of);
    trial
}

/// Sends a request for each of these users of the tenant `acme`, 64 at a time.
async fn ask_at_once(mesh: &Mesh, together: &Together, users: &[String]) -> UserReport {
    let mut all = UserReport { name: "all".into(), outcomes: Vec::new(), elapsed: Duration::ZERO };
    for users in users.chunks(64) {
        let mut plan = mesh.plan(0);
        (plan.duration, plan.timeout) = (Duration::from_secs(60), Duration::from_secs(30));
        plan.users = users.iter().map(|name| together.user(name).requests(1)).collect();
        all.outcomes.extend(traffic::run(plan, Arc::default()).await.together().outcomes);
    }
    all
}

/// Waits until a token bucket has spent as many tokens: what it gets back arrives after the last answer.
async fn until_spent(cluster: &RedisCluster, key: &str, expected: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let state: Vec<u8> = cluster.connection_for(key).get(key).unwrap();
        let number = |place: usize| i64::from_be_bytes(state[8 * place..8 * place + 8].try_into().unwrap());
        let spent = (number(1) + number(2) - 1) / number(2);
        if spent == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{key}: expected {expected} tokens spent, found {spent}");
        sleep(Duration::from_millis(50)).await;
    }
}

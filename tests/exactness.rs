//! Exactness: a bucket does not admit a single request too many, with any number of workers, connections and hosts.

use std::sync::Arc;

use serde_json::{Value, json};
use weir::{HostKind, Mesh};
use weir_harness::traffic::{self, Pace, UserReport};

const QUICKSTART: &str = "envoy/quickstart.yaml";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_of_envoy_admit_exactly_the_capacity() {
    two_workers_admit_exactly_the_capacity(HostKind::Envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_of_the_embedded_host_admit_exactly_the_capacity() {
    two_workers_admit_exactly_the_capacity(HostKind::Embedded).await;
}

async fn two_workers_admit_exactly_the_capacity(host: HostKind) {
    let Some(mesh) = hundred_an_age(Mesh::on(host, QUICKSTART)).start().await else { return };
    let report = five_thousand(&mesh, 0, 5_000).await;
    assert_eq!((report.admitted(), report.denied()), (100, 4_900), "{:?}", report.failures());
}

weir::on_both_hosts! {
    limiter_and_bridge_in_separate_vms_admit_exactly_the_capacity
}

async fn limiter_and_bridge_in_separate_vms_admit_exactly_the_capacity(host: HostKind) {
    let apart = |document: &mut Value| {
        let plugins = vm_ids(document);
        assert_eq!(plugins.len(), 2, "one limiter and one bridge");
        for (nth, vm_id) in plugins.into_iter().enumerate() {
            *vm_id = format!("weir_{nth}").into();
        }
    };
    let mesh = hundred_an_age(Mesh::on(host, QUICKSTART)).edit(apart);
    let Some(mesh) = mesh.start().await else { return };
    let report = five_thousand(&mesh, 0, 5_000).await;
    assert_eq!((report.admitted(), report.denied()), (100, 4_900), "{:?}", report.failures());
}

/// Returns every `vm_id` of a document.
fn vm_ids(document: &mut Value) -> Vec<&mut Value> {
    match document {
        Value::Object(fields) => {
            let of_field = |(name, value)| if name == "vm_id" { vec![value] } else { vm_ids(value) };
            fields.iter_mut().flat_map(|(name, value)| of_field((name.as_str(), value))).collect()
        }
        Value::Array(items) => items.iter_mut().flat_map(vm_ids).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_envoys_on_one_redis_admit_exactly_the_capacity_together() {
    let Some(mesh) = hundred_an_age(Mesh::on(HostKind::Envoy, QUICKSTART)).hosts(2).start().await else { return };
    // Each host admits at least one request: on a busy machine, the requests to one host may all be answered before the
    // other host has connected.
    for host in [0, 1] {
        mesh.ask("/").user("alice").via(host).send().await.admitted();
    }
    let (one, other) = tokio::join!(five_thousand(&mesh, 0, 2_500), five_thousand(&mesh, 1, 2_500));
    assert_eq!(one.admitted() + other.admitted(), 98);
    assert_eq!((one.failed(), other.failed()), (0, 0), "{:?} {:?}", one.failures(), other.failures());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_requests_at_once_are_all_answered_and_envoy_does_not_trap() {
    let Some(mesh) = hundred_an_age(Mesh::on(HostKind::Envoy, QUICKSTART)).start().await else { return };
    for user in ["alice", "bob", "carol"] {
        let mut plan = mesh.plan(0);
        plan.timeout = std::time::Duration::from_secs(30);
        plan.users = vec![Mesh::user(user, Pace::Closed).connections(2_000)];
        let crowd = traffic::at_once(plan).await.together();
        assert_eq!((crowd.admitted(), crowd.denied()), (100, 1_900), "{:?}", crowd.failures());
    }
    let envoy = mesh.hosts()[0].envoy().expect("the host is an Envoy");
    assert!(envoy.is_alive());
    for trouble in ["Maximum call stack", "Function: ", "proxy_on_", "[error]", "[critical]"] {
        assert!(!envoy.log().contains(trouble), "{trouble}: {}", envoy.log());
    }
}

/// Sets a bucket of 100 tokens with a refill of one in 12 hours, and no deny cache: Redis decides every request.
fn hundred_an_age(mesh: weir::MeshBuilder) -> weir::MeshBuilder {
    mesh.patient().bucket(100, 2, "86400s").configure(|filter| filter["deny_cache"] = json!({"max_entries": 0}))
}

/// Sends `requests` of one user over 64 connections, each as soon as the one before it is answered.
async fn five_thousand(mesh: &Mesh, host: usize, requests: u64) -> UserReport {
    let mut plan = mesh.plan(host);
    plan.duration = std::time::Duration::from_secs(60);
    plan.users = vec![Mesh::user("alice", Pace::Closed).connections(64).requests(requests)];
    traffic::run(plan, Arc::default()).await.together()
}

//! No bucket over-admits by a single request: any number of workers, connections and hosts.

use std::sync::Arc;

use serde_json::{Value, json};
use weir::{HostKind, Mesh};
use weir_harness::load::{self, Pace, UserReport};

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
    limiter_and_bridge_may_have_vms_of_their_own
}

async fn limiter_and_bridge_may_have_vms_of_their_own(host: HostKind) {
    let apart = |document: &mut Value| {
        let plugins = vm_ids(document);
        assert_eq!(plugins.len(), 2, "one of each");
        for (nth, vm_id) in plugins.into_iter().enumerate() {
            *vm_id = format!("weir_{nth}").into();
        }
    };
    let mesh = hundred_an_age(Mesh::on(host, QUICKSTART)).edit(apart);
    let Some(mesh) = mesh.start().await else { return };
    let report = five_thousand(&mesh, 0, 5_000).await;
    assert_eq!((report.admitted(), report.denied()), (100, 4_900), "{:?}", report.failures());
}

/// Every `vm_id` of a document.
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
    // Each has a share for certain: on a busy machine, one crowd may be through before the other has connected.
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
        let crowd = load::at_once(plan).await.together();
        assert_eq!((crowd.admitted(), crowd.denied()), (100, 1_900), "{:?}", crowd.failures());
    }
    let envoy = mesh.hosts()[0].envoy().expect("it is an Envoy");
    assert!(envoy.is_alive());
    for trouble in ["Maximum call stack", "Function: ", "proxy_on_", "[error]", "[critical]"] {
        assert!(!envoy.log().contains(trouble), "{trouble}: {}", envoy.log());
    }
}

/// 100 tokens, and the next in half a day; every request decided by Redis.
fn hundred_an_age(mesh: weir::MeshBuilder) -> weir::MeshBuilder {
    mesh.patient().bucket(100, 2, "86400s").configure(|filter| filter["deny_cache"] = json!({"max_entries": 0}))
}

/// One user's requests over 64 connections, as fast as they are answered.
async fn five_thousand(mesh: &Mesh, host: usize, requests: u64) -> UserReport {
    let mut plan = mesh.plan(host);
    plan.duration = std::time::Duration::from_secs(60);
    plan.users = vec![Mesh::user("alice", Pace::Closed).connections(64).requests(requests)];
    load::run(plan, Arc::default()).await.together()
}

//! Manifests of `weir render`, on real Envoy and Redis.

use serde_json::json;
use weir_harness::texts;

use super::{PASSWORD, exhausts, provide, reads_bodies, secured, served, shares_one_vm};
use crate::{
    envoy_gateway,
    istio::{self, Proxy},
    manifest::Manifest,
    plain,
    running::{Running, Surroundings},
};

/// The shipped file, in the namespace of the tests.
const FILE: &str = include_str!("../../envoy/kubernetes/limits.yaml");
const PASSWORD_AND_TLS: &str = "  username: weir\n  password_env: REDIS_PASSWORD\n  tls: true\n";
const PASSWORD_ALONE: &str = "  username: weir\n  password_env: REDIS_PASSWORD\n";

/// Renders the file with these changes.
fn rendered(form: &str, changes: &[(&str, &str)]) -> Manifest {
    let text = changes.iter().fold(FILE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "there is no {from:?}");
        text.replacen(from, to, 1)
    });
    let made = texts::render(form, &text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let checked = texts::check("made.yaml", made.as_bytes()).text;
    assert!(checked.ends_with("1 limiter, 1 bridge: all is well\n"), "{checked}");
    Manifest::parse(&made)
}

/// Manifests of all forms and workloads: with and without password, TLS, and limits that read bodies.
pub fn each_form() -> Vec<(String, Manifest)> {
    let workloads = [("istio", "gateway: ingress"), ("istio", "waypoint: ingress"), ("istio", "labels: {app: orders}")];
    let forms = [("envoy-gateway", "gateway: ingress"), ("envoy", "gateway: ingress")];
    let mut all = Vec::new();
    for (form, workload) in workloads.into_iter().chain(forms) {
        for (fields, reads_bodies) in [("", false), (PASSWORD_AND_TLS, false), (PASSWORD_ALONE, true)] {
            let (redis, bodies) = (redis(fields), of_bodies());
            let changes = [("gateway: ingress", workload), ("  timeout: 0.1s\n", &*redis)];
            let changes = [&changes[..], if reads_bodies { &bodies } else { &[] }].concat();
            all.push((format!("weir render {form} {workload} {fields:?} {reads_bodies}"), rendered(form, &changes)));
        }
    }
    all
}

/// Adds fields to `redis`.
fn redis(fields: &str) -> String {
    format!("  timeout: 0.1s\n{fields}")
}

/// Limits of five requests per `/model` of the body.
fn of_bodies() -> [(&'static str, &'static str); 3] {
    [
        ("request_header: {name: x-user-id}", "request_body: {json_pointer: /model, default: none}"),
        ("max_tokens: 20, tokens_per_fill: 100", "max_tokens: 5, tokens_per_fill: 60"),
        ("# A burst of 20 requests, and 100 a minute.", "# A burst of 5 requests, and 60 a minute."),
    ]
}

/// Adds the Gateway, which is the user's, with what the comment in the manifests says.
fn with_gateway(mut manifest: Manifest, kind: &str, name: &str) -> Manifest {
    manifest.documents.push(json!({
        "kind": "Gateway", "metadata": {"name": "ingress", "namespace": "apps"},
        "spec": {
            "infrastructure": {"parametersRef": {"kind": kind, "name": name}},
            "listeners": [{"name": "http", "port": 80}],
        },
    }));
    manifest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_istio_reaches_redis_by_tls_as_a_user() {
    let manifest = rendered("istio", &[("  timeout: 0.1s\n", &redis(PASSWORD_AND_TLS))]);
    let manifest = with_gateway(manifest, "ConfigMap", "ingress-weir");
    let rendered = istio::render(&manifest, Proxy::Gateway);
    let Some((proxy, _secured)) = secured(rendered, "/etc/weir/redis-tls", None).await else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_limits() {
    let Some((wasm, redis)) = provide() else { return };
    let manifest = rendered("istio", &[("gateway: ingress", "waypoint: ingress")]);
    let rendered = istio::render(&manifest, Proxy::Waypoint);
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_and_waypoints_read_bodies() {
    for (workload, proxy) in [("labels: {app: orders}", Proxy::Sidecar), ("waypoint: ingress", Proxy::Waypoint)] {
        let Some((wasm, redis)) = provide() else { return };
        let changes = [&[("gateway: ingress", workload)][..], &of_bodies()].concat();
        let rendered = istio::render(&rendered("istio", &changes), proxy);
        let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
        reads_bodies(&proxy).await;
        shares_one_vm(&proxy);
        proxy.accepts_everything();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_of_envoy_gateway_limits() {
    let Some((wasm, server)) = provide() else { return };
    weir::add_user(&server, PASSWORD);
    let (sha256, modules) = served(&wasm).await;
    let manifest = rendered("envoy-gateway", &[("  timeout: 0.1s\n", &redis(PASSWORD_ALONE))]);
    let manifest = with_gateway(manifest, "EnvoyProxy", "weir");
    let variables = vec![("REDIS_PASSWORD", PASSWORD.to_owned())];
    let surroundings = Surroundings { modules: Some(modules), variables, ..Surroundings::new(wasm, server.addr()) };
    let Some(proxy) = Running::start(envoy_gateway::render(&manifest, &sha256), surroundings) else { return };
    exhausts(&proxy, "alice", 20).await;
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_envoy_gateway_read_bodies_and_reach_redis_by_tls() {
    let redis = redis(PASSWORD_AND_TLS);
    let changes = [&[("  timeout: 0.1s\n", &*redis)][..], &of_bodies()].concat();
    let manifest = with_gateway(rendered("envoy-gateway", &changes), "EnvoyProxy", "weir");
    let rendered = envoy_gateway::render(&manifest, "");
    let Some((proxy, _secured)) = secured(rendered, "/etc/weir-redis-tls", None).await else { return };
    reads_bodies(&proxy).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_of_envoy_reaches_redis_by_tls_as_a_user() {
    let manifest = rendered("envoy", &[("  timeout: 0.1s\n", &redis(PASSWORD_AND_TLS))]);
    let Some((proxy, _secured)) = secured(plain::render(&manifest), "/etc/weir/redis-tls", None).await else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
}

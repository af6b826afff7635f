//! Manifests of `weir render`, on real Envoy and Redis.

use serde_json::json;
use weir::{RedisCluster, RedisGroup};
use weir_harness::texts;
use weir_provision::webdis::WebdisOptions;

use super::{
    PASSWORD, behind_front_end, exhausts, front_end, limits_without_a_bridge, provide, reads_bodies, served,
    shares_one_vm,
};
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
    assert!(checked.ends_with(": all is well\n"), "{checked}");
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
    for (form, fields) in [
        ("istio", "  address: redis.weir.svc.cluster.local\n  failover: true\n"),
        ("istio", WEBDIS),
        ("istio", UPSTASH),
        ("envoy-gateway", "  address: redis.weir.svc.cluster.local\n  failover: true\n"),
        ("istio", CLUSTER),
        ("envoy-gateway", CLUSTER),
        ("envoy-gateway", WEBDIS),
        ("envoy-gateway", UPSTASH),
        ("envoy", CLUSTER),
        ("envoy", UPSTASH),
    ] {
        let (from, to) = of_redis(fields);
        all.push((format!("weir render {form} {fields:?}"), rendered(form, &[(from, &to)])));
    }
    all
}

const CLUSTER: &str = "  address: redis.weir.svc.cluster.local\n  topology: cluster\n";
const WEBDIS: &str = "  address: webdis.weir.svc.cluster.local\n  transport: webdis\n";
const UPSTASH: &str = "  address: example.upstash.io\n  transport: upstash\n  token_env: UPSTASH_REDIS_REST_TOKEN\n";

/// Manifests of a form with a password and TLS.
pub fn secured(form: &str) -> Manifest {
    rendered(form, &[("  timeout: 0.1s\n", &redis(PASSWORD_AND_TLS))])
}

/// Changes the fields of `redis`.
fn of_redis(fields: &str) -> (&'static str, String) {
    ("  address: redis.weir.svc.cluster.local:6379\n  timeout: 0.1s\n", format!("  timeout: 0.2s\n{fields}"))
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
    let manifest = with_gateway(secured("istio"), "ConfigMap", "ingress-weir");
    let rendered = istio::render(&manifest, Proxy::Gateway);
    let Some((proxy, _secured)) = super::secured(rendered, "/etc/weir/redis-tls", None).await else { return };
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
    let Some((proxy, _secured)) = super::secured(rendered, "/etc/weir-redis-tls", None).await else { return };
    reads_bodies(&proxy).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_of_envoy_reaches_redis_by_tls_as_a_user() {
    let Some((proxy, _secured)) = super::secured(plain::render(&secured("envoy")), "/etc/weir/redis-tls", None).await
    else {
        return;
    };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
}

/// A name of all nodes: the health check finds the master, also the one of a failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_redis_is_found() {
    for form in ["istio", "envoy"] {
        let Some((wasm, _)) = provide() else { return };
        let Some(group) = RedisGroup::start(&[]).await else { return };
        let (from, to) = of_redis("  address: redis.weir.svc.cluster.local\n  failover: true\n");
        let manifest = rendered(form, &[(from, &to)]);
        let rendered =
            if form == "istio" { istio::render(&manifest, Proxy::Gateway) } else { plain::render(&manifest) };
        let surroundings = Surroundings { nodes: group.endpoints(), ..Surroundings::new(wasm, group.endpoints()[0]) };
        let Some(proxy) = Running::start(rendered, surroundings) else { return };
        admits_all(&proxy, "before").await;
        exhausts(&proxy, "alice", 20).await;
        group.nodes()[0].redis.kill();
        group.until_promoted(0);
        admits_all(&proxy, "after").await;
        exhausts(&proxy, "bob", 20).await;
        proxy.accepts_everything();
    }
}

/// Waits until several new users in a row are admitted: each worker finds the master for itself.
async fn admits_all(proxy: &Running, when: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let (mut admitted, mut user) = (0, 0);
    while admitted < 12 {
        assert!(std::time::Instant::now() < deadline, "not all are admitted {when} the failover");
        user += 1;
        admitted = if proxy.get(&format!("{when}-{user}")).await.status == 200 { admitted + 1 } else { 0 };
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Renders a form for proxies of a Gateway, and starts it.
async fn start(form: &str, changes: &[(&str, &str)], surroundings: Surroundings) -> Option<Running> {
    let manifest = rendered(form, changes);
    let (sha256, modules) = served(&surroundings.wasm).await;
    let mut rendered = match form {
        "istio" => istio::render(&manifest, Proxy::Gateway),
        "envoy-gateway" => envoy_gateway::render(&with_gateway(manifest, "EnvoyProxy", "weir"), &sha256),
        _ => plain::render(&manifest),
    };
    // The pods of Istio are the user's, unless a Gateway names their ConfigMap.
    rendered.pod.variables.insert("REDIS_PASSWORD".to_owned());
    Running::start(rendered, Surroundings { modules: Some(modules), ..surroundings })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_is_reached_through_its_proxy_in_each_form() {
    let Some(cluster) = RedisCluster::start().await else { return };
    for node in cluster.nodes() {
        weir::add_user(node, PASSWORD);
        weir::change_user(node, "weir", &["+cluster|slots", "+asking"]);
        weir::change_user(node, "default", &["-evalsha", "-eval", "-cluster"]);
    }
    let (from, to) = of_redis(&format!("{CLUSTER}{PASSWORD_ALONE}"));
    for form in ["istio", "envoy-gateway", "envoy"] {
        let Some((wasm, _)) = provide() else { return };
        let surroundings = Surroundings {
            nodes: cluster.endpoints(),
            variables: vec![("REDIS_PASSWORD", PASSWORD.to_owned())],
            ..Surroundings::new(wasm, cluster.endpoints()[0])
        };
        let Some(proxy) = start(form, &[(from, &to)], surroundings).await else { return };
        admits_all(&proxy, &format!("{form}-before")).await;
        for user in ["alice", "bob", "carol", "dave"] {
            exhausts(&proxy, &format!("{form}-{user}"), 20).await;
        }
        proxy.accepts_everything();
    }
}

/// Webdis over plain HTTP; `chart_redis` has TLS for Upstash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn front_ends_limit_without_a_bridge() {
    let (from, to) = of_redis(WEBDIS);
    let bodies = [&[(from, &*to)][..], &of_bodies()].concat();
    for (form, changes) in [("envoy-gateway", &[(from, &*to)][..]), ("envoy-gateway", &bodies), ("envoy", &bodies)] {
        let behind = behind_front_end("envoy/webdis.yaml", WebdisOptions::default()).await;
        let Some((surroundings, _front_end)) = behind else { return };
        let Some(proxy) = start(form, changes, surroundings).await else { return };
        limits_without_a_bridge(proxy, changes.len() > 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn front_ends_limit_without_an_envoy_filter() {
    for (fields, scenario) in [(WEBDIS, "envoy/webdis.yaml"), (UPSTASH, "envoy/upstash.yaml")] {
        let (from, to) = of_redis(fields);
        let mut manifest = rendered("istio", &[(from, &to)]);
        // The Service of Webdis is the user's.
        manifest.documents.push(json!({
            "kind": "Service", "metadata": {"name": "webdis", "namespace": "weir"},
            "spec": {"ports": [{"name": "http", "port": 7379}]},
        }));
        front_end(&manifest, scenario).await;
    }
}

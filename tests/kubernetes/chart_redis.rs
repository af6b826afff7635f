//! The Helm chart with a Redis Cluster and with HTTP front ends, on real Envoy, Redis and Webdis.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::block_in_place;
use weir::{
    RedisCluster, or_skip,
    tls_proxy::{Admits, Authority, Side, TlsProxy},
};
use weir_provision::{filter_wasm, helm, port, webdis::WebdisOptions};

use super::{PASSWORD, behind_front_end, exhausts, limits_without_a_bridge, reads_bodies, served, shares_one_vm};
use crate::{
    chart::{self, with_gateway},
    envoy_gateway,
    istio::{self, Proxy},
    manifest::list,
    plain,
    rendered::OF_IMAGE,
    running::{Running, Surroundings},
};

/// Values that exclude each other, each with the message.
const REFUSED: [(&str, &str); 14] = [
    ("redis.topology=cluster,redis.transport=webdis", "redis.transport: expected stream with redis.topology: cluster"),
    ("redis.topology=cluster,istio.proxy=waypoint", "redis.topology: expected single with istio.proxy: waypoint"),
    ("redis.topology=clustered", "redis/topology"),
    ("redis.opTimeout=100", "redis/opTimeout"),
    ("redis.transport=callout", "redis/transport"),
    ("filter.redis.topology=cluster", "filter/redis"),
    ("filter.redis.transport=webdis", "filter/redis"),
    (
        "redis.transport=webdis,istio.proxy=waypoint",
        "istio.proxy: expected gateway or sidecar with redis.transport: webdis",
    ),
    ("redis.transport=webdis,istio.bodies=true", "istio.bodies: expected false with redis.transport: webdis"),
    ("redis.transport=webdis,redis.tls.enabled=true", "redis.tls.enabled: expected false with redis.transport: webdis"),
    ("redis.transport=upstash", "redis.tokenSecret.name: expected the Secret with the token of Upstash, found none"),
    ("redis.transport=upstash,redis.tokenSecret.name=t,redis.username=u", "redis.username: expected none"),
    (
        "redis.transport=upstash,redis.tokenSecret.name=t,networkPolicy.enabled=true",
        "networkPolicy.enabled: expected false",
    ),
    ("redis.tokenSecret.name=t", "redis.tokenSecret.name: expected none with redis.transport: stream, found t"),
];

#[test]
fn values_that_exclude_each_other_are_refused() {
    let Some(helm) = or_skip(helm::binary()) else { return };
    let refusal = |set: &str| {
        let mut command = Command::new(&helm);
        let output = command.args(["template", "weir"]).arg(chart::chart()).args(["--set", set]).output().unwrap();
        assert!(!output.status.success(), "{set} is accepted");
        chart::all(&output)
    };
    for (set, message) in REFUSED {
        let refusal = refusal(set);
        assert!(refusal.contains(message), "{set}: {refusal}");
    }
    let node = |place: u8| format!("redis.nodes[{place}].address=w{place},redis.nodes[{place}].port=7379");
    let two = refusal(&format!("redis.transport=webdis,{},{}", node(0), node(1)));
    assert!(two.contains("redis.nodes: expected one with redis.transport: webdis in mode istio, found 2"), "{two}");
}

#[test]
fn nodes_of_a_redis_cluster_reach_each_other() {
    let Some(manifest) = chart::rendered("gateway-redis-cluster") else { return };
    let policy = manifest.find("NetworkPolicy").unwrap();
    let [proxies, nodes] = list(policy, "/spec/ingress") else { panic!("{policy}") };
    let ports = |rule: &Value| list(rule, "/ports").iter().map(|port| port["port"].clone()).collect::<Vec<_>>();
    assert_eq!((ports(proxies), ports(nodes)), (vec![json!(6379)], vec![json!(6379), json!(16379)]));
    assert_eq!(nodes["from"][0]["podSelector"], policy["spec"]["podSelector"]);
}

/// Nodes whose default user may neither run scripts nor say which node has which slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mode_limits_through_a_redis_cluster_as_a_user() {
    let Some(cluster) = RedisCluster::start().await else { return };
    for node in cluster.nodes() {
        weir::add_user(node, PASSWORD);
        weir::change_user(node, "weir", &["+cluster|slots", "+asking"]);
        weir::change_user(node, "default", &["-evalsha", "-eval", "-cluster"]);
    }
    for form in ["gateway", "extension-policy", "envoy"] {
        let Some(proxy) = start(&format!("{form}-redis-cluster"), &[], of_nodes(&cluster)).await else { return };
        until_admitted(&proxy).await;
        exhausts(&proxy, form, 20).await;
        proxy.accepts_everything();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_and_patches_limit_through_a_redis_cluster() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let Some(proxy) = start("sidecar-redis-cluster", &[], of_nodes(&cluster)).await else { return };
    until_admitted(&proxy).await;
    for user in ["alice", "bob", "carol", "dave"] {
        exhausts(&proxy, user, 20).await;
    }
    shares_one_vm(&proxy);
    proxy.accepts_everything();
    let Some(proxy) = start("patch-policy-redis-cluster", &[], of_nodes(&cluster)).await else { return };
    until_admitted(&proxy).await;
    reads_bodies(&proxy).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_that_is_down_delays_no_start() {
    let Some(wasm) = or_skip(block_in_place(filter_wasm::find_or_build)) else { return };
    let Some(node) = or_skip(port::free_port()) else { return };
    let node = node.release();
    for form in ["sidecar", "envoy"] {
        let variables = vec![("REDIS_PASSWORD", PASSWORD.to_owned())];
        let surroundings = Surroundings { nodes: vec![node], variables, ..Surroundings::new(wasm.clone(), node) };
        let Some(proxy) = start(&format!("{form}-redis-cluster"), &[], surroundings).await else { return };
        proxy.get("alice").await.status(503);
        proxy.accepts_everything();
    }
}

/// Each node behind a proxy that ends TLS, whose port it announces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_a_redis_cluster_speak_tls() {
    let authority = Authority::new();
    let server = authority.sign(Side::Server, "redis.weir.svc.cluster.local", |_| {});
    let files = tempfile::tempdir().unwrap();
    authority.install(files.path(), &authority.sign(Side::Client, "weir", |_| {})).unwrap();
    let proxies = tokio::sync::Mutex::new(Vec::new());
    let front = async |node| {
        let proxy = TlsProxy::start(node, &authority, &server).await.unwrap();
        let announced = proxy.addr();
        proxies.lock().await.push(proxy);
        announced
    };
    let Some(cluster) = RedisCluster::start_behind(front).await else { return };
    for node in cluster.nodes() {
        weir::add_user(node, PASSWORD);
        weir::change_user(node, "weir", &["+cluster|slots", "+asking"]);
    }
    let proxies = proxies.into_inner();
    for form in ["envoy", "gateway"] {
        let surroundings = Surroundings {
            folders: vec![("/etc/weir-redis-tls", files.path().to_owned())],
            nodes: vec![proxies[0].addr()],
            ..of_nodes(&cluster)
        };
        let values = ["--set", "redis.tls.enabled=true"];
        let Some(proxy) = start(&format!("{form}-redis-cluster"), &values, surroundings).await else { return };
        until_admitted(&proxy).await;
        for user in ["alice", "bob", "carol", "dave"] {
            exhausts(&proxy, &format!("{form}-{user}"), 20).await;
        }
        proxy.accepts_everything();
    }
    assert!(proxies.iter().all(|proxy| proxy.handshakes().0 > 0), "each master is reached by TLS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mode_limits_through_webdis() {
    let login = Some(("weir".to_owned(), PASSWORD.to_owned()));
    for (form, login) in [("gateway", None), ("extension-policy", login), ("patch-policy", None), ("envoy", None)] {
        let options = WebdisOptions { login, ..WebdisOptions::default() };
        let Some((surroundings, _front_end)) = behind_front_end("envoy/webdis.yaml", options).await else { return };
        let Some(proxy) = start(&format!("{form}-webdis"), &[], surroundings).await else { return };
        limits_without_a_bridge(proxy, form == "patch-policy").await;
    }
}

/// TLS of Istio, which a DestinationRule has, is left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mode_limits_through_upstash() {
    for form in ["sidecar", "extension-policy", "envoy"] {
        let options = WebdisOptions::default();
        let Some((mut surroundings, _front_end)) = behind_front_end("envoy/upstash.yaml", options).await else {
            return;
        };
        let authority = Authority::new();
        let server = authority.sign(Side::Server, "example.upstash.io", |_| {});
        let tls = TlsProxy::start_for(Admits::Everybody, surroundings.redis, &authority, &server).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        authority.install(files.path(), &server).unwrap();
        fs::copy(files.path().join("ca.crt"), files.path().join("ca-certificates.crt")).unwrap();
        if form != "sidecar" {
            surroundings.redis = tls.addr();
            surroundings.folders = vec![(OF_IMAGE, files.path().join(""))];
        }
        let Some(proxy) = start(&format!("{form}-upstash"), &[], surroundings).await else { return };
        exhausts(&proxy, "alice", 20).await;
        shares_one_vm(&proxy);
        let name = tls.last().map(|client| client.server_name.unwrap_or_default());
        assert_eq!(name.as_deref(), (form != "sidecar").then_some("example.upstash.io"));
        proxy.accepts_everything();
    }
}

/// Starts a proxy with what its control plane makes of the chart, with a file of values and these arguments.
async fn start(name: &str, arguments: &[&str], surroundings: Surroundings) -> Option<Running> {
    let mut manifest = chart::rendered_with(name, arguments)?;
    let (sha256, modules) = served(&surroundings.wasm).await;
    let (form, _) = name.rsplit_once(if name.contains("-redis-") { "-redis-" } else { "-" }).unwrap();
    let mut rendered = match form {
        "gateway" | "sidecar" => {
            // The Service of Webdis is the user's, and so are the pods.
            if name.ends_with("webdis") {
                manifest.documents.push(json!({
                    "kind": "Service", "metadata": {"name": "webdis", "namespace": "weir"},
                    "spec": {"ports": [{"name": "http", "port": 7379}]},
                }));
            }
            istio::render(&manifest, if form == "gateway" { Proxy::Gateway } else { Proxy::Sidecar })
        }
        "envoy" => plain::render(&manifest),
        _ => envoy_gateway::render(&with_gateway(manifest), &sha256),
    };
    if ["gateway", "sidecar"].contains(&form) {
        rendered.pod.variables.insert("REDIS_PASSWORD".to_owned());
        rendered.pod.folders.insert("/etc/weir-redis-tls/".to_owned());
    }
    let modules = (form == "extension-policy").then_some(modules);
    Running::start(rendered, Surroundings { modules, ..surroundings })
}

/// The nodes of a Redis Cluster.
fn of_nodes(cluster: &RedisCluster) -> Surroundings {
    let wasm = block_in_place(filter_wasm::find_or_build).expect("the filter's module");
    let variables = vec![("REDIS_PASSWORD", PASSWORD.to_owned())];
    Surroundings { nodes: cluster.endpoints(), variables, ..Surroundings::new(wasm, cluster.endpoints()[0]) }
}

/// Waits until several new users in a row are admitted: each worker connects for itself.
async fn until_admitted(proxy: &Running) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut admitted, mut user) = (0, 0);
    while admitted < 12 {
        assert!(Instant::now() < deadline, "not all are admitted: {}", proxy.envoy.log());
        user += 1;
        let name = format!("warm-up-{user}");
        let body = json!({"model": name}).to_string();
        let status = proxy.ask(Method::POST, &[("x-user-id", &name)], &body).await.status;
        admitted = if status == 200 { admitted + 1 } else { 0 };
    }
}

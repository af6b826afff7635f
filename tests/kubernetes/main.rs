//! The manifests of `envoy/kubernetes`, rendered into what a control plane would send, on real Envoy and Redis.
//!
//! `istio`, `envoy_gateway`, `consul` and `plain` render, as those control planes do, what concerns the filter, and
//! `ads.py` sends it. `WEIR_ENVOY` runs another version of Envoy.

mod chart;
mod chart_redis;
mod consul;
mod definitions;
mod envoy_gateway;
mod istio;
mod manifest;
mod plain;
mod redis_nodes;
mod render;
mod rendered;
mod running;

use std::{path::PathBuf, sync::Arc};

use hyper::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::task::block_in_place;
use weir::{
    or_skip,
    tls_proxy::{Authority, Side, TlsProxy},
};
use weir_harness::front_end::FrontEnd;
use weir_host::scenario::Scenario;
use weir_provision::{checkout, client, filter_wasm, redis::RedisServer, webdis::WebdisOptions};

use istio::Proxy;
use manifest::Manifest;
use rendered::Rendered;
use running::{Running, Surroundings};

const PASSWORD: &str = "open-sesame";
/// Number of VMs that Envoy has made since its start.
const CREATED: &str = "wasm.envoy.wasm.runtime.v8.created";
const ACTIVE: &str = "wasm.envoy.wasm.runtime.v8.active";
/// VMs of one key: one that is cloned, and the clones of the main thread and of two workers.
const COPIES: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_istio_limits() {
    limits_users("istio/gateway.yaml", Proxy::Gateway, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_istio_limits_by_delta_xds() {
    limits_users("istio/gateway.yaml", Proxy::Gateway, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traffic_extension_limits() {
    limits_users("istio/traffic-extension.yaml", Proxy::Gateway, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_limits() {
    limits_users("istio/sidecar.yaml", Proxy::Sidecar, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_limits() {
    limits_users("istio/waypoint.yaml", Proxy::Waypoint, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_istio_reaches_redis_by_tls_as_a_user_and_keeps_counters() {
    let rendered = istio::render(&Manifest::read("istio/gateway-secured.yaml"), Proxy::Gateway);
    let Some((proxy, _secured)) = secured(rendered, "/etc/weir/redis-tls", None).await else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
    // Counters arrive with a delay. Up to Envoy 1.38, the name begins with that of the cluster.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !proxy.stats().contains("wasmcustom.weir.requests.denied: 3") {
        assert!(std::time::Instant::now() < deadline, "{}", proxy.stats());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_come_from_the_token_that_istio_verifies() {
    let rendered = istio::render(&Manifest::read("istio/jwt-plans.yaml"), Proxy::Gateway);
    let Some((wasm, redis)) = provide() else { return };
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    has_plans(&proxy, 403).await;
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_read_where_an_envoy_filter_inserts_the_limiter() {
    let rendered = istio::render(&Manifest::read("istio/bodies.yaml"), Proxy::Gateway);
    let Some((wasm, redis)) = provide() else { return };
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    reads_bodies(&proxy).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wasm_plugin_alone_limits_through_webdis() {
    front_end(&Manifest::read("istio/webdis.yaml"), "envoy/webdis.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wasm_plugin_alone_limits_through_upstash() {
    front_end(&Manifest::read("istio/upstash.yaml"), "envoy/upstash.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_policy_of_envoy_gateway_limits() {
    let Some((wasm, redis)) = provide() else { return };
    let (sha256, modules) = served(&wasm).await;
    let rendered = envoy_gateway::render(&Manifest::read("envoy-gateway/extension-policy.yaml"), &sha256);
    let surroundings = Surroundings { modules: Some(modules), ..Surroundings::new(wasm, redis.addr()) };
    let Some(proxy) = Running::start(rendered, surroundings) else { return };
    exhausts(&proxy, "alice", 20).await;
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_gateway_reaches_redis_by_tls_as_a_user_and_has_plans() {
    let Some(wasm) = or_skip(block_in_place(filter_wasm::find_or_build)) else { return };
    let (sha256, modules) = served(&wasm).await;
    let rendered = envoy_gateway::render(&Manifest::read("envoy-gateway/secured.yaml"), &sha256);
    let Some((proxy, _secured)) = secured(rendered, "/etc/weir-redis-tls", Some(modules)).await else { return };
    has_plans(&proxy, 401).await;
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_envoy_gateway_share_a_vm_and_read_bodies() {
    let Some((wasm, redis)) = provide() else { return };
    let rendered = envoy_gateway::render(&Manifest::read("envoy-gateway/patch-policy.yaml"), "");
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    reads_bodies(&proxy).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_of_envoy_limits_and_shows_readiness_and_metrics_alone() {
    let Some((wasm, redis)) = provide() else { return };
    weir::add_user(&redis, PASSWORD);
    let rendered = plain::render(&Manifest::read("plain/envoy.yaml"));
    let variables = vec![("REDIS_PASSWORD", PASSWORD.to_owned())];
    let surroundings = Surroundings { variables, ..Surroundings::new(wasm, redis.addr()) };
    let Some(proxy) = Running::start(rendered, surroundings) else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
    let stats = proxy.envoy.listener("stats").expect("the listener");
    let within = std::time::Duration::from_secs(60);
    for (path, status) in [("/ready", 200), ("/stats/prometheus", 200), ("/quitquitquit", 404), ("/config_dump", 404)] {
        assert_eq!(client::get(stats, path, within).await.unwrap().status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_of_consul_limits() {
    let Some((wasm, redis)) = provide() else { return };
    let rendered = consul::render(&Manifest::read("consul/service.yaml"));
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

/// Envoy Gateway makes the VM's id of the policy's name, and Envoy computes the key of a VM before remote code has
/// come: with another image under the same name, the old code stays in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_image_of_envoy_gateway_is_used_under_a_new_policy_name_alone() {
    let Some((wasm, redis)) = provide() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (sha256, modules) = served(&wasm).await;
    let manifest = Manifest::read("envoy-gateway/extension-policy.yaml");
    let surroundings = Surroundings { modules: Some(modules), ..Surroundings::new(wasm.clone(), redis.addr()) };
    let Some(mut proxy) = Running::start(envoy_gateway::render(&manifest, &sha256), surroundings) else { return };
    proxy.get("alice").await.admitted().remaining(19);

    // The same code with a custom section that is named `x`, as another version.
    let newer = folder.path().join("newer.wasm");
    let code = [std::fs::read(&wasm).unwrap(), vec![0, 2, 1, b'x']].concat();
    std::fs::write(&newer, &code).unwrap();
    let (sha256, modules) = served(&newer).await;
    let newer_image = |manifest: &Manifest| {
        let mut rendered = envoy_gateway::render(manifest, &sha256);
        rendered.visit(&mut |value| {
            if value["uri"].is_string() {
                value["cluster"] = "newer".into();
            }
        });
        rendered.add(rendered::CLUSTER, running::at("newer", modules));
        rendered
    };
    let created = proxy.stat(CREATED);
    proxy.update(newer_image(&manifest), wasm.clone());
    proxy.until("listener_manager.lds.update_success", 2).await;
    proxy.until("listener_manager.total_listeners_warming", 0).await;
    proxy.get("alice").await.admitted().remaining(18);
    assert_eq!(proxy.stat(CREATED), created, "the old code is still in use");

    let mut renamed = manifest.clone();
    for document in &mut renamed.documents {
        if document["kind"] == "EnvoyExtensionPolicy" {
            document["metadata"]["name"] = "weir-0-2-0".into();
        }
    }
    proxy.update(newer_image(&renamed), wasm);
    proxy.until(CREATED, created + COPIES).await;
    proxy.get("alice").await.admitted().remaining(17);
    proxy.accepts_everything();
}
/// Checks one limit per user of a manifest for Istio.
async fn limits_users(file: &str, proxy: Proxy, is_delta: bool) {
    let Some((wasm, redis)) = provide() else { return };
    let rendered = istio::render(&Manifest::read(file), proxy);
    let surroundings = Surroundings { is_delta, ..Surroundings::new(wasm, redis.addr()) };
    let Some(proxy) = Running::start(rendered, surroundings) else { return };
    exhausts(&proxy, "alice", 20).await;
    proxy.get("bob").await.admitted().remaining(19);
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

/// Checks a manifest without an EnvoyFilter, with the front end of a scenario.
async fn front_end(manifest: &Manifest, scenario: &str) {
    assert!(manifest.find("EnvoyFilter").is_none());
    let Some((surroundings, _front_end)) = behind_front_end(scenario, WebdisOptions::default()).await else { return };
    let Some(proxy) = Running::start(istio::render(manifest, Proxy::Gateway), surroundings) else { return };
    exhausts(&proxy, "alice", 20).await;
    proxy.accepts_everything();
}

/// Starts a Redis behind the front end of a scenario.
async fn behind_front_end(scenario: &str, options: WebdisOptions) -> Option<(Surroundings, (FrontEnd, RedisServer))> {
    let (wasm, redis) = provide()?;
    let mut scenario = Scenario::load(checkout::root().unwrap().join(scenario)).unwrap();
    let front_end = or_skip(FrontEnd::provide(&scenario, redis.addr(), options).await)?;
    let front_end = front_end.expect("the scenario has a front end");
    front_end.adapt(&mut scenario).unwrap();
    let limiter = scenario.limiter().unwrap();
    let token = limiter.pointer("/redis/token/inline").and_then(Value::as_str).unwrap_or_default().to_owned();
    let variables = vec![("UPSTASH_REDIS_REST_TOKEN", token), ("REDIS_PASSWORD", PASSWORD.to_owned())];
    let surroundings = Surroundings { variables, ..Surroundings::new(wasm, front_end.addr()) };
    Some((surroundings, (front_end, redis)))
}

/// Checks that a user has this many requests and no more.
async fn exhausts(proxy: &Running, user: &str, requests: u64) {
    for left in (0..requests).rev() {
        proxy.get(user).await.admitted().remaining(left);
    }
    for _ in 0..3 {
        proxy.get(user).await.denied().remaining(0);
    }
}

/// Limiter and bridge share the VM of each thread.
fn shares_one_vm(proxy: &Running) {
    assert_eq!(proxy.stat(ACTIVE), COPIES, "copies of one VM");
}

/// Checks the limits of a proxy without a bridge; `reads`: they depend on bodies.
async fn limits_without_a_bridge(proxy: Running, reads: bool) {
    if reads {
        reads_bodies(&proxy).await;
    } else {
        exhausts(&proxy, "alice", 20).await;
    }
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

/// Checks the limits per plan with the tokens that `envoy/jwt-plans.yaml` has for a trial.
async fn has_plans(proxy: &Running, without_token: u16) {
    let scenario = include_str!("../../envoy/jwt-plans.yaml");
    let bearer = |user: &str| {
        let line = scenario.lines().find(|line| line.contains(user)).expect("a token");
        format!("Bearer {}", line.rsplit(' ').next().unwrap())
    };
    let (alice, bob) = (bearer("alice, free:"), bearer("bob, pro:"));
    for left in (0..10).rev() {
        proxy.ask(Method::GET, &[("authorization", &alice)], "").await.admitted().remaining(left);
    }
    proxy.ask(Method::GET, &[("authorization", &alice)], "").await.denied();
    proxy.ask(Method::GET, &[("authorization", &bob)], "").await.admitted().remaining(99);
    proxy.ask(Method::GET, &[("x-user-id", "alice")], "").await.status(without_token);
}

/// Checks a limit of five requests per `/model` of the body.
async fn reads_bodies(proxy: &Running) {
    for left in (0..5).rev() {
        proxy.ask(Method::POST, &[], r#"{"model": "large"}"#).await.admitted().remaining(left);
    }
    proxy.ask(Method::POST, &[], r#"{"model": "large"}"#).await.denied();
    proxy.ask(Method::POST, &[], r#"{"model": "small"}"#).await.admitted().remaining(4);
}

/// Starts a proxy whose Redis speaks TLS alone, to clients with a certificate, and has the user `weir`.
async fn secured(
    rendered: Rendered,
    folder: &'static str,
    modules: Option<std::net::SocketAddr>,
) -> Option<(Running, (TempDir, TlsProxy, RedisServer))> {
    let (wasm, redis) = provide()?;
    weir::add_user(&redis, PASSWORD);
    let authority: Arc<Authority> = Authority::new();
    let server = authority.sign(Side::Server, "redis.weir.svc.cluster.local", |_| {});
    let tls = TlsProxy::start(redis.addr(), &authority, &server).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    authority.install(files.path(), &authority.sign(Side::Client, "weir", |_| {})).unwrap();
    let surroundings = Surroundings {
        modules,
        folders: vec![(folder, files.path().to_owned())],
        variables: vec![("REDIS_PASSWORD", PASSWORD.to_owned())],
        ..Surroundings::new(wasm, tls.addr())
    };
    let proxy = Running::start(rendered, surroundings)?;
    Some((proxy, (files, tls, redis)))
}

/// Finds the filter and starts a Redis.
fn provide() -> Option<(PathBuf, RedisServer)> {
    let wasm = or_skip(block_in_place(filter_wasm::find_or_build))?;
    Some((wasm, running::redis()?))
}

/// Serves a file, and returns its SHA-256 and the address of the server.
async fn served(file: &std::path::Path) -> (String, std::net::SocketAddr) {
    let module = std::fs::read(file).unwrap();
    let sha256 = Sha256::digest(&module).iter().map(|byte| format!("{byte:02x}")).collect();
    (sha256, running::serve(module).await)
}

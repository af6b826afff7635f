//! The Helm chart: `helm lint` and `template` with the values of `envoy/helm/weir/ci`, and what it makes on real
//! Envoy and Redis.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use tokio::task::block_in_place;
use weir::or_skip;
use weir_provision::{checkout, helm};

use super::{COPIES, PASSWORD, exhausts, provide, reads_bodies, served, shares_one_vm};
use crate::{
    ACTIVE, envoy_gateway,
    istio::{self, Proxy},
    manifest::{Manifest, text},
    plain,
    running::{Running, Surroundings},
};

const NAMESPACE: &str = "shop";

#[test]
fn helm_finds_no_fault_in_the_chart() {
    let Some(helm) = or_skip(helm::binary()) else { return };
    for values in values() {
        let output =
            Command::new(&helm).arg("lint").arg(chart()).arg("--strict").arg("-f").arg(&values).output().unwrap();
        assert!(output.status.success(), "{}: {}", values.display(), all(&output));
    }
}

#[test]
fn wrong_values_are_refused() {
    let Some(helm) = or_skip(helm::binary()) else { return };
    for (value, named) in [
        ("mode=consul", "mode"),
        ("istio.failStrategy=RELOAD", "failStrategy"),
        ("filter.redis.cluster=other", "redis"),
        ("envoy.replica=3", "replica"),
    ] {
        let output =
            Command::new(&helm).args(["template", "weir"]).arg(chart()).args(["--set", value]).output().unwrap();
        assert!(!output.status.success(), "{value} is accepted");
        assert!(all(&output).contains(named), "{value}: {}", all(&output));
    }
}

#[test]
fn a_new_version_changes_all_names_that_have_the_version() {
    let Some(helm) = or_skip(helm::binary()) else { return };
    for mode in ["mode=istio", "mode=envoyGateway", "mode=envoyGateway,envoyGateway.form=patchPolicy", "mode=envoy"] {
        let made = template(&helm, &["--set", mode, "--set", "image.tag=0.2.0"]);
        assert!(!made.contains("0.1.0") && !made.contains("0-1-0"), "{mode}: {made}");
        let names = [("mode=istio", "weir-filter:0.2.0"), ("mode=envoy", "vm_id: weir-0-2-0")];
        let expected = names.iter().find(|(of_mode, _)| *of_mode == mode).map_or("name: weir-0-2-0", |(_, name)| name);
        assert!(made.contains(expected), "{mode}: {made}");
    }
}

#[test]
fn a_fail_strategy_is_passed_on() {
    let Some(helm) = or_skip(helm::binary()) else { return };
    let made = template(&helm, &["--set", "mode=istio,istio.failStrategy=FAIL_CLOSE"]);
    assert!(made.contains("failStrategy: FAIL_CLOSE\n"), "{made}");
}

/// The manifests have all of the rules and of the dashboards, whose own tests are in tests/metrics.
#[test]
fn rules_and_dashboards_are_whole() {
    let Some(helm) = or_skip(helm::binary()) else { return };
    let made = Manifest::parse(&template(&helm, &["--set", "rules.enabled=true,dashboard.enabled=true"]));
    let files = chart().join("files/metrics");
    let rules: Value = serde_saphyr::from_str(&fs::read_to_string(files.join("rules.yaml")).unwrap()).unwrap();
    assert_eq!(made.find("PrometheusRule").unwrap()["spec"], rules);
    let config_map = made.documents.iter().find(|it| it["metadata"]["name"] == "weir-dashboards").unwrap();
    for name in ["limit", "overview", "redis"] {
        let file = fs::read_to_string(files.join(format!("dashboards/{name}.json"))).unwrap();
        let shipped = config_map["data"][format!("weir-{name}.json")].as_str().expect(name);
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parsed(shipped), parsed(&file), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_limits() {
    let Some(manifest) = rendered("sidecar") else { return };
    assert_eq!(text(manifest.find("TrafficExtension").unwrap(), "/spec/wasm/failStrategy"), "FAIL_RELOAD");
    let Some((wasm, redis)) = provide() else { return };
    let rendered = istio::render(&manifest, Proxy::Sidecar);
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_has_the_secrets_of_redis() {
    let Some(manifest) = rendered("gateway") else { return };
    let mut rendered = istio::render(&manifest, Proxy::Gateway);
    // The pod of the gateway is not the chart's.
    rendered.pod.folders.insert("/etc/weir-redis-tls/".to_owned());
    let Some((proxy, _secured)) = super::secured(rendered, "/etc/weir-redis-tls", None).await else { return };
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_reads_bodies() {
    let Some(manifest) = rendered("waypoint") else { return };
    let Some((wasm, redis)) = provide() else { return };
    let rendered = istio::render(&manifest, Proxy::Waypoint);
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    reads_bodies(&proxy).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_policy_of_envoy_gateway_limits() {
    let Some(manifest) = rendered("extension-policy") else { return };
    let Some((wasm, redis)) = provide() else { return };
    weir::add_user(&redis, PASSWORD);
    let (sha256, modules) = served(&wasm).await;
    let variables = vec![("REDIS_PASSWORD", PASSWORD.to_owned())];
    let surroundings = Surroundings { modules: Some(modules), variables, ..Surroundings::new(wasm, redis.addr()) };
    let Some(proxy) = Running::start(envoy_gateway::render(&with_gateway(manifest), &sha256), surroundings) else {
        return;
    };
    exhausts(&proxy, "alice", 20).await;
    // The limiter's code is remote and the bridge's a file: their VMs differ.
    assert!(proxy.stat(ACTIVE) > COPIES);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_envoy_gateway_read_bodies() {
    let Some(manifest) = rendered("patch-policy") else { return };
    let Some((wasm, redis)) = provide() else { return };
    let rendered = envoy_gateway::render(&with_gateway(manifest), "");
    let Some(proxy) = Running::start(rendered, Surroundings::new(wasm, redis.addr())) else { return };
    reads_bodies(&proxy).await;
    shares_one_vm(&proxy);
    proxy.accepts_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_of_envoy_limits() {
    let Some(manifest) = rendered("envoy") else { return };
    let Some((wasm, redis)) = provide() else { return };
    weir::add_user(&redis, PASSWORD);
    // The health check of several nodes sends no password.
    let variables = vec![("REDIS_PASSWORD", PASSWORD.to_owned())];
    let surroundings = Surroundings { variables, ..Surroundings::new(wasm, redis.addr()) };
    let Some(proxy) = Running::start(plain::render(&manifest), surroundings) else { return };
    proxy.until("cluster.weir-redis.membership_healthy", 2).await;
    exhausts(&proxy, "alice", 20).await;
    shares_one_vm(&proxy);
}

pub fn chart() -> PathBuf {
    checkout::root().unwrap().join("envoy/helm/weir")
}

/// Files with values: each a way to use the chart.
pub fn values() -> Vec<PathBuf> {
    let files: Vec<PathBuf> = fs::read_dir(chart().join("ci")).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 18, "{files:?}");
    files
}

/// Renders the chart with a file of values.
pub fn rendered(name: &str) -> Option<Manifest> {
    rendered_with(name, &[])
}

/// Renders the chart with a file of values and these arguments of `helm template`.
pub fn rendered_with(name: &str, arguments: &[&str]) -> Option<Manifest> {
    let helm = or_skip(block_in_place(helm::binary))?;
    let values = chart().join(format!("ci/{name}-values.yaml")).display().to_string();
    Some(Manifest::parse(&template(&helm, &[&["-f", &values], arguments].concat())))
}

/// Renders the chart with these arguments of `helm template`.
pub fn template(helm: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = Command::new(helm);
    let command = command.args(["template", "weir", "--namespace", NAMESPACE]).arg(chart()).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", all(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Adds the Gateway, which is the user's.
pub fn with_gateway(mut manifest: Manifest) -> Manifest {
    let gateway = serde_json::json!({
        "kind": "Gateway", "metadata": {"name": "eg", "namespace": NAMESPACE},
        "spec": {
            "infrastructure": {"parametersRef": {"kind": "EnvoyProxy", "name": "weir"}},
            "listeners": [{"name": "http", "port": 80}],
        },
    });
    manifest.documents.push(gateway);
    manifest
}

/// Standard output and standard error of a program.
pub fn all(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

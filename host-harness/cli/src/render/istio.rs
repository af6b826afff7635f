//! Manifests for Istio.

use super::plan::{Plan, Way, Workload};
use super::redis_cluster;
use super::template::{Lines, Template};

const GATEWAY: &str = include_str!("../../../../envoy/kubernetes/istio/gateway.yaml");
const WAYPOINT: &str = include_str!("../../../../envoy/kubernetes/istio/waypoint.yaml");
const SIDECAR: &str = include_str!("../../../../envoy/kubernetes/istio/sidecar.yaml");
const BODIES: &str = include_str!("../../../../envoy/kubernetes/istio/bodies.yaml");
pub(super) const SECURED: &str = include_str!("../../../../envoy/kubernetes/istio/gateway-secured.yaml");
/// Host of Redis in the shipped manifests.
const HOST: &str = "redis.weir.svc.cluster.local";
/// Folder of the certificates in the shipped manifest.
const FOLDER: &str = "/etc/weir/redis-tls";

pub(super) fn render(plan: &Plan) -> Template {
    let mut secured = Template::of(SECURED);
    let mut template = if plan.configuration.reads_bodies { bodies(plan) } else { plugin(plan, &mut secured) };
    {
        let filter = template.document("EnvoyFilter");
        if plan.filter_env().is_some() {
            filter.insert_all("code:", &secured.document("EnvoyFilter").block("environment_variables:"));
        }
        let tls = plan.tls.is_some().then(|| secured.document("EnvoyFilter").block("transport_socket:"));
        if plan.way == Way::Cluster {
            redis_cluster::patch(plan, filter, tls);
        } else if let Some(tls) = tls {
            filter.insert("# Raw TCP", &tls);
        }
    }
    pods(plan, &mut secured, &mut template);
    adapt(plan, &mut template);
    template
}

/// The limiter as a WasmPlugin, and the EnvoyFilter beside it.
pub(super) fn plugin(plan: &Plan, secured: &mut Template) -> Template {
    let mut template = Template::of(match plan.workload {
        Some(Workload::Waypoint(_)) => WAYPOINT,
        Some(Workload::Labels(_)) => SIDECAR,
        _ => GATEWAY,
    });
    let plugin = template.document("WasmPlugin");
    if plan.filter_env().is_some() {
        plugin.insert("pluginConfig:", &secured.document("WasmPlugin").block("vmConfig:"));
    }
    template
}

/// The limiter in the EnvoyFilter.
fn bodies(plan: &Plan) -> Template {
    let mut template = Template::of(BODIES);
    let filter = template.document("EnvoyFilter");
    match plan.workload {
        Some(Workload::Waypoint(_)) => {
            let inner = filter.block("filter:");
            let waypoint: Vec<String> =
                std::iter::once("waypoint:".to_owned()).chain(inner.iter().map(|line| format!("  {line}"))).collect();
            filter.put("listener:", &waypoint);
            filter.replace("context: GATEWAY", "context: WAYPOINT");
        }
        Some(Workload::Labels(_)) => {
            filter.replace_after("- applyTo: CLUSTER", "context: GATEWAY", "context: SIDECAR_OUTBOUND");
            filter.replace_after("- applyTo: HTTP_FILTER", "context: GATEWAY", "context: SIDECAR_INBOUND");
            filter.replace("context: GATEWAY", "context: ANY");
        }
        _ => {}
    }
    template
}

/// Adds the ConfigMap of the pods of a Gateway, which Istio merges into the deployment. Sidecars are the user's.
pub(super) fn pods(plan: &Plan, secured: &mut Template, template: &mut Template) {
    if plan.password_env.is_none() && plan.tls.is_none() {
        return;
    }
    let (Some(Workload::Gateway(name)) | Some(Workload::Waypoint(name))) = &plan.workload else {
        let variable = plan.password_env.as_ref().map(|name| format!("the variable {name}"));
        let files = plan.tls.as_ref().map(|tls| format!("the Secret {} at {FOLDER}", tls.secret));
        let needs: Vec<String> = variable.into_iter().chain(files).collect();
        let comment = format!("# The sidecars of these pods need {}.", needs.join(" and "));
        let kind = if plan.way.is_front_end() { "WasmPlugin" } else { "EnvoyFilter" };
        template.document(kind).prepend(comment);
        return;
    };
    let pods = secured.document("ConfigMap");
    if plan.password_env.is_none() {
        pods.remove("env:");
    }
    if plan.tls.is_none() {
        pods.remove("volumeMounts:");
        pods.remove("volumes:");
    }
    pods.replace("ingress-weir", &format!("{name}-weir"));
    pods.prepend(format!(
        "# The Gateway names it: infrastructure: {{parametersRef: {{group: \"\", kind: ConfigMap, name: {name}-weir}}}}"
    ));
    template.documents.push(pods.clone());
}

/// Replaces the names, the image and the address of the examples.
pub(super) fn adapt(plan: &Plan, template: &mut Template) {
    for namespace in ["istio-ingress", "shop"] {
        let to = plan.namespace(namespace).to_owned();
        template.replace(&format!("namespace: {namespace}}}"), &format!("namespace: {to}}}"));
    }
    template.replace("registry.example.com/weir/weir-filter:0.1.0", &plan.image);
    match &plan.workload {
        Some(Workload::Gateway(name) | Workload::Waypoint(name)) => {
            for example in ["ingress", "waypoint"] {
                template
                    .replace(&format!("kind: Gateway, name: {example}}}"), &format!("kind: Gateway, name: {name}}}"));
                template.replace(&format!("gateway-name: {example}}}"), &format!("gateway-name: {name}}}"));
            }
        }
        Some(Workload::Labels(labels)) => {
            template.replace("{app: orders}", labels);
            template.replace("{gateway.networking.k8s.io/gateway-name: ingress}", labels);
        }
        None => {}
    }
    template.documents.iter_mut().for_each(|lines| redis(plan, lines));
}

/// Replaces the address, the variable and the certificates of Redis.
pub(super) fn redis(plan: &Plan, lines: &mut Lines) {
    let address = |host: &str, port: u16| format!("address: {host}, port_value: {port}");
    // The name in the certificate first: the address may contain the example's.
    if let Some(tls) = &plan.tls {
        lines.replace(&format!("sni: {HOST}"), &format!("sni: {}", tls.server_name));
        lines.replace(&format!("exact: {HOST}"), &format!("exact: {}", tls.server_name));
        lines.replace("secretName: weir-redis-tls", &format!("secretName: {}", tls.secret));
        if !tls.has_client_certificate && lines.has("tls_certificates:") {
            lines.remove("tls_certificates:");
        }
    }
    lines.replace(&address(HOST, 6379), &address(&plan.address.host, plan.address.port));
    if let Some(name) = &plan.password_env {
        lines.replace("REDIS_PASSWORD", name);
    }
}

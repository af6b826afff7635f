//! Manifests for Envoy Gateway.

use super::plan::{Plan, Way, Workload};
use super::template::{Lines, Template, fields_of};
use super::{front_end, istio, redis_cluster};

const POLICY: &str = include_str!("../../../../envoy/kubernetes/envoy-gateway/extension-policy.yaml");
const PATCHES: &str = include_str!("../../../../envoy/kubernetes/envoy-gateway/patch-policy.yaml");
const SECURED: &str = include_str!("../../../../envoy/kubernetes/envoy-gateway/secured.yaml");

pub(super) fn render(plan: &Plan) -> Template {
    let proxy = Template::of(SECURED).document("EnvoyProxy").clone();
    let mut template = if plan.configuration.reads_bodies { patches(plan, &proxy) } else { policy(plan) };
    template.documents.push(self::proxy(plan, proxy));
    if let Some(Workload::Gateway(name)) = &plan.workload {
        template.replace("kind: Gateway, name: eg}", &format!("kind: Gateway, name: {name}}}"));
        template.replace("default/eg/http", &format!("{}/{name}/http", plan.namespace("default")));
    }
    let namespace = plan.namespace("default").to_owned();
    template.replace("namespace: default}", &format!("namespace: {namespace}}}"));
    template.replace("0-1-0", &plan.version);
    template.replace("registry.example.com/weir/weir-filter:0.1.0", &plan.image);
    template.documents.iter_mut().for_each(|lines| istio::redis(plan, lines));
    template
}

/// The limiter as an EnvoyExtensionPolicy. The bridge has a VM of its own, without variables.
fn policy(plan: &Plan) -> Template {
    let mut template = Template::of(POLICY).only(&["EnvoyExtensionPolicy"]);
    let policy = template.document("EnvoyExtensionPolicy");
    if plan.filter_env().is_some() {
        policy.insert("config:", &["env: {hostKeys: [REDIS_PASSWORD]}".to_owned()]);
    }
    template
}

/// Limiter and cluster as an EnvoyPatchPolicy. Limiter and bridge share a VM.
fn patches(plan: &Plan, secured: &Lines) -> Template {
    let mut template = Template::of(PATCHES).only(&["EnvoyPatchPolicy"]);
    let policy = template.document("EnvoyPatchPolicy");
    if plan.filter_env().is_some() {
        policy.insert_all("runtime:", &["environment_variables: {host_env_keys: [REDIS_PASSWORD]}".to_owned()]);
    }
    if plan.way.is_front_end() {
        // All fields of the cluster but its name.
        policy.put_rest("type: STRICT_DNS", &fields_of(&front_end::cluster(plan)).skip(1).collect::<Vec<_>>());
    } else if plan.way == Way::Cluster {
        redis_cluster::lead(policy);
    } else if plan.tls.is_some() {
        policy.insert("# Raw TCP", &secured.block("transport_socket:"));
    }
    template
}

/// The EnvoyProxy: files and variables of the pods, and for an EnvoyExtensionPolicy the cluster.
fn proxy(plan: &Plan, mut proxy: Lines) -> Lines {
    if plan.password_env.is_none() {
        proxy.remove("env:");
    }
    if plan.tls.is_none() {
        proxy.remove("- {name: redis-tls, secret:");
        proxy.remove("- {name: redis-tls, mountPath:");
    }
    let tls = proxy.block("transport_socket:");
    if plan.tls.is_none() || plan.way == Way::Cluster {
        proxy.remove("transport_socket:");
    }
    proxy.remove("stats_config:");
    let is_patched = plan.configuration.reads_bodies;
    if is_patched {
        proxy.remove("- name: weir-redis");
    } else if plan.way.is_front_end() {
        proxy.put("- name: weir-redis", &front_end::cluster(plan));
        // Without a bridge, no pod needs the module.
        proxy.remove(if plan.password_env.is_none() { "provider:" } else { "pod:" });
        if plan.password_env.is_some() {
            proxy.remove("volumeMounts:");
        }
    }
    if plan.way == Way::Cluster {
        redis_cluster::bootstrap(plan, &mut proxy, plan.tls.is_some().then_some(tls));
    } else if is_patched {
        proxy.remove("bootstrap:");
    }
    front_end::token(plan, &mut proxy);
    proxy.prepend("# The Gateway names it in spec.infrastructure.parametersRef.".to_owned());
    proxy
}

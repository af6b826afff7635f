//! A deployment of Envoy.

use super::istio;
use super::plan::{Plan, Way};
use super::template::{Lines, Template};

/// Scenario with the proxy of a Redis Cluster.
const CLUSTER: &str = include_str!("../../../../envoy/redis-cluster.yaml");
const DEPLOYMENT: &str = include_str!("../../../../envoy/kubernetes/plain/envoy.yaml");

pub(super) fn render(plan: &Plan) -> Template {
    let mut template = Template::of(DEPLOYMENT);
    let bootstrap = template.document("ConfigMap");
    if plan.configuration.reads_bodies {
        bootstrap.insert("vm_config:", &["allow_on_headers_stop_iteration: true".to_owned()]);
    }
    if plan.way == Way::Cluster {
        cluster(plan, bootstrap);
    }
    if plan.password_env.is_none() {
        bootstrap.remove("environment_variables:");
        bootstrap.remove("environment_variables:");
        template.document("Deployment").remove("env:");
    }
    if plan.tls.is_some() {
        let socket = Template::of(istio::SECURED).document("EnvoyFilter").block("transport_socket:");
        template.document("ConfigMap").insert("# Raw TCP", &socket);
        let deployment = template.document("Deployment");
        deployment.append("volumeMounts:", "- {name: redis-tls, mountPath: /etc/weir/redis-tls, readOnly: true}");
        deployment.append("volumes:", "- {name: redis-tls, secret: {secretName: weir-redis-tls}}");
    }
    if let Some(upstream) = &plan.upstream {
        let address = format!("address: {}, port_value: {}", upstream.host, upstream.port);
        template.replace("address: orders.shop.svc.cluster.local, port_value: 8080", &address);
    }
    let namespace = plan.namespace("weir").to_owned();
    for end in ["}", ","] {
        template.replace(&format!("namespace: weir{end}"), &format!("namespace: {namespace}{end}"));
    }
    template.document("Deployment").replace("  namespace: weir", &format!("  namespace: {namespace}"));
    template.replace("0-1-0", &plan.version);
    template.documents.iter_mut().for_each(|lines| istio::redis(plan, lines));
    template
}

/// Puts `redis_proxy` between the cluster `weir-redis` and the nodes of a Redis Cluster.
fn cluster(plan: &Plan, bootstrap: &mut Lines) {
    let scenario = Template::of(CLUSTER);
    let block = |start: &str| -> Vec<String> { scenario.documents.iter().flat_map(|it| it.block(start)).collect() };
    let internal = "address: {envoy_internal_address: {server_listener_name: redis_proxy, endpoint_id: redis_proxy}}";
    let outside = "address: {socket_address: {address: redis.weir.svc.cluster.local, port_value: 6379}}";
    bootstrap.replace_after("- name: weir-redis", "type: STRICT_DNS", "type: STATIC");
    bootstrap.replace_after("- name: weir-redis", outside, internal);
    bootstrap.insert("static_resources:", &block("bootstrap_extensions:"));
    let comment = "# The proxy of the Redis Cluster. Nobody outside of this Envoy can connect to it.".to_owned();
    bootstrap.insert("clusters:", &[vec![comment], block("- name: redis_proxy")].concat());
    let seeds = ["port_value: 7001", "port_value: 7002"];
    let mut nodes = block("- name: redis_nodes");
    nodes.retain(|line| !seeds.iter().any(|seed| line.contains(seed)));
    bootstrap.insert("- name: weir-redis", &nodes);
    let seed = format!("address: {}, port_value: {}", plan.address.host, plan.address.port);
    bootstrap.replace("address: 127.0.0.1, port_value: 7000", &seed);
    bootstrap.replace("redis_nodes", "weir-redis-nodes");
}

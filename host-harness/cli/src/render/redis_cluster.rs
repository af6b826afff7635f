//! Redis Cluster: `redis_proxy` behind an internal listener, between the cluster `weir-redis` and the nodes.

use std::time::Duration;

use super::plan::Plan;
use super::template::{Lines, Template, fields_of};

/// Scenario with the proxy of a Redis Cluster.
const SCENARIO: &str = include_str!("../../../../envoy/redis-cluster.yaml");
const COMMENT: &str = "# The proxy of the Redis Cluster. Nobody outside of this Envoy can connect to it.";
/// Address of the proxy.
const INSIDE: &str =
    "address: {envoy_internal_address: {server_listener_name: weir-redis-proxy, endpoint_id: weir-redis-proxy}}";
/// Names in the scenario, each with the name in manifests.
const NAMES: [(&str, &str); 3] = [
    ("redis_nodes", "weir-redis-nodes"),
    ("- name: redis_proxy", "- name: weir-redis-proxy"),
    ("stat_prefix: redis_proxy", "stat_prefix: weir-redis-proxy"),
];

/// Puts the proxy into a bootstrap. `tls` is the `transport_socket` of the nodes.
pub(super) fn bootstrap(plan: &Plan, bootstrap: &mut Lines, tls: Option<Vec<String>>) {
    let scenario = scenario(plan);
    // The cluster first: the name of the listener begins with its name.
    if bootstrap.has("- name: weir-redis") {
        lead(bootstrap);
        bootstrap.insert("- name: weir-redis", &nodes(plan, &scenario, tls));
    } else {
        bootstrap.append("clusters:", &nodes(plan, &scenario, tls));
    }
    bootstrap.insert("static_resources:", &block(&scenario, "bootstrap_extensions:"));
    let listener = [vec![COMMENT.to_owned()], block(&scenario, "- name: weir-redis-proxy")].concat();
    let key = if bootstrap.has("listeners:") { Vec::new() } else { vec!["listeners:".to_owned()] };
    bootstrap.insert("clusters:", &[key, listener].concat());
}

/// Adds the proxy by an EnvoyFilter. `tls` is the `transport_socket` of the nodes.
pub(super) fn patch(plan: &Plan, filter: &mut Lines, tls: Option<Vec<String>>) {
    let scenario = scenario(plan);
    lead(filter);
    let context = filter.block("- applyTo: CLUSTER").swap_remove(1);
    let patch = |kind: &str, item: &[String]| {
        let head = [&format!("- applyTo: {kind}"), &context, "  patch:", "    operation: ADD", "    value:"];
        let value = fields_of(item).map(|line| format!("      {line}"));
        head.iter().map(|line| (*line).to_owned()).chain(value).collect::<Vec<_>>()
    };
    let listener = patch("LISTENER", &block(&scenario, "- name: weir-redis-proxy"));
    let nodes = patch("CLUSTER", &nodes(plan, &scenario, tls));
    filter.insert("- applyTo: CLUSTER", &[vec![COMMENT.to_owned()], listener, nodes].concat());
}

/// Lets the cluster `weir-redis` lead to the proxy.
pub(super) fn lead(lines: &mut Lines) {
    let start = if lines.has("- name: weir-redis") { "- name: weir-redis" } else { "name: weir-redis" };
    let outside = "address: {socket_address: {address: redis.weir.svc.cluster.local, port_value: 6379}}";
    lines.replace_after(start, "type: STRICT_DNS", "type: STATIC");
    lines.replace_after(start, outside, INSIDE);
}

/// The scenario, with the names of manifests and one address in place of its nodes.
fn scenario(plan: &Plan) -> Template {
    let mut scenario = Template::of(SCENARIO);
    for (from, to) in NAMES {
        scenario.replace(from, to);
    }
    let seed = format!("address: {}, port_value: {}", plan.address.host, plan.address.port);
    scenario.replace("address: 127.0.0.1, port_value: 7000", &seed);
    // A node that does not answer is given up before the checks behind it are.
    let half = Duration::from_micros(plan.configuration.timeout.0 / 2).as_secs_f64();
    scenario.replace("op_timeout: 0.1s", &format!("op_timeout: {half}s"));
    scenario
}

/// The cluster of the nodes, with their login and TLS.
fn nodes(plan: &Plan, scenario: &Template, tls: Option<Vec<String>>) -> Vec<String> {
    let mut nodes = block(scenario, "- name: weir-redis-nodes");
    nodes.retain(|line| !["port_value: 7001", "port_value: 7002"].iter().any(|seed| line.contains(seed)));
    if let Some(variable) = &plan.password_env {
        let options = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions";
        nodes.extend([
            "  typed_extension_protocol_options:".to_owned(),
            "    envoy.filters.network.redis_proxy:".to_owned(),
            format!("      \"@type\": {options}"),
        ]);
        let username = plan.username.iter().map(|name| format!("      auth_username: {{inline_string: {name}}}"));
        nodes.extend(username);
        nodes.push(format!("      auth_password: {{environment_variable: {variable}}}"));
    }
    nodes.extend(tls.into_iter().flatten().map(|line| format!("  {line}")));
    nodes
}

fn block(scenario: &Template, start: &str) -> Vec<String> {
    scenario.documents.iter().flat_map(|lines| lines.block(start)).collect()
}

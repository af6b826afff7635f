//! HTTP front ends of Redis: a WasmPlugin of Istio without an EnvoyFilter, and a cluster of HTTP for the other forms.

use super::istio;
use super::plan::{Plan, Way};
use super::template::{Lines, Template};

const WEBDIS: &str = include_str!("../../../../envoy/kubernetes/istio/webdis.yaml");
const UPSTASH: &str = include_str!("../../../../envoy/kubernetes/istio/upstash.yaml");
/// Scenarios, which have the clusters.
const WEBDIS_SCENARIO: &str = include_str!("../../../../envoy/webdis.yaml");
const UPSTASH_SCENARIO: &str = include_str!("../../../../envoy/upstash.yaml");
/// Host of the example.
const HOST: &str = "example.upstash.io";

/// The manifests for Istio.
pub(super) fn render(plan: &Plan) -> Template {
    let (shipped, host, port) = match plan.way {
        Way::Upstash => (UPSTASH, HOST, "number: 443"),
        _ => (WEBDIS, "webdis.weir.svc.cluster.local", "port: 7379"),
    };
    let mut secured = Template::of(istio::SECURED);
    let mut template = istio::plugin(plan, &mut secured).only(&["WasmPlugin"]);
    // The Service of Webdis is the user's.
    let mut others = Template::of(shipped).only(&["ServiceEntry", "DestinationRule"]);
    others.replace(host, &plan.address.host);
    others.replace(port, &format!("number: {}", plan.address.port));
    others.replace("namespace: weir}", &format!("namespace: {}}}", plan.namespace("istio-ingress")));
    if plan.way == Way::Webdis {
        let comment = "# The name of the port in the Service of Webdis begins with `http`.";
        others.document("DestinationRule").prepend(comment.to_owned());
    }
    template.documents.append(&mut others.documents);
    istio::pods(plan, &mut secured, &mut template);
    template.documents.iter_mut().for_each(|lines| token(plan, lines));
    istio::adapt(plan, &mut template);
    template
}

/// The cluster of HTTP for a bootstrap, as the item of a list.
pub(super) fn cluster(plan: &Plan) -> Vec<String> {
    let (scenario, address) = match plan.way {
        Way::Upstash => (UPSTASH_SCENARIO, "address: example.upstash.io, port_value: 443"),
        _ => (WEBDIS_SCENARIO, "address: 127.0.0.1, port_value: 7379"),
    };
    let mut template = Template::of(scenario);
    template.replace(address, &format!("address: {}, port_value: {}", plan.address.host, plan.address.port));
    template.replace(HOST, &plan.address.host);
    for name in ["- name: redis", "cluster_name: redis"] {
        template.replace(name, &name.replace("redis", "weir-redis"));
    }
    template.documents.iter().flat_map(|lines| lines.block("- name: weir-redis")).collect()
}

/// Names the key of a token in its Secret.
pub(super) fn token(plan: &Plan, lines: &mut Lines) {
    if plan.way == Way::Upstash {
        lines.replace("key: password}", "key: token}");
    }
}

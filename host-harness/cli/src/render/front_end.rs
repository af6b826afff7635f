//! Manifests for Istio with an HTTP front end of Redis: a WasmPlugin without an EnvoyFilter.

use super::istio;
use super::plan::{Plan, Way};
use super::template::Template;

const WEBDIS: &str = include_str!("../../../../envoy/kubernetes/istio/webdis.yaml");
const UPSTASH: &str = include_str!("../../../../envoy/kubernetes/istio/upstash.yaml");

pub(super) fn render(plan: &Plan) -> Template {
    let (shipped, host, port) = match plan.way {
        Way::Upstash => (UPSTASH, "example.upstash.io", "number: 443"),
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
    // In the Secret, a token has a key of its own.
    template.replace("key: password}", "key: token}");
    istio::adapt(plan, &mut template);
    template
}

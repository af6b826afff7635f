//! Metrics of Istio's proxies, which show those that a list has.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::At;
use crate::files::{Inventory, Mesh, Role, is_for_gateway};

/// The Gateways of Istio whose proxies keep the counters to themselves, if they have a limiter.
pub(super) fn findings(mesh: &Mesh<'_>, inventory: &Inventory<'_>) -> Vec<Finding> {
    let limiters = || inventory.plugins.iter().filter(|plugin| plugin.role() == Some(Role::Limiter));
    let gateways = mesh.manifests.iter().filter(|manifest| {
        let class = manifest.field("spec").map(|spec| spec.text_of("gateway_class_name")).unwrap_or_default();
        manifest.text_of("kind") == "Gateway" && class.starts_with("istio")
    });
    let has_limiter = |gateway: &&At<'_>| {
        limiters().filter_map(|plugin| mesh.manifest_of(&plugin.at)).any(|manifest| is_for_gateway(manifest, gateway))
    };
    let is_silent = |gateway: &&At<'_>| {
        let owners = [gateway.field("metadata"), gateway.fields(["spec", "infrastructure"])];
        let annotations = owners.into_iter().flatten().filter_map(|at| at.field("annotations"));
        let texts = annotations.filter_map(|at| at.spelled("proxy.istio.io/config")?.text());
        !texts.into_iter().any(|text| text.contains("proxyStatsMatcher") && text.contains("wasm"))
    };
    gateways
        .filter(has_limiter)
        .filter(is_silent)
        .map(|gateway| {
            let help = "add `proxyStatsMatcher: {inclusionRegexps: [\".*wasmcustom.*\"]}` there, as \
                        envoy/kubernetes/istio/gateway-secured.yaml has it: up to Istio 1.30, the proxy shows no counter \
                        of the filter otherwise";
            let expected = "the annotation proxy.istio.io/config with a proxyStatsMatcher for wasmcustom";
            Finding::at(rules::STATS, gateway, expected, "none", help)
        })
        .collect()
}

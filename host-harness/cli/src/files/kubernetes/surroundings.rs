//! Surroundings of plugins: pods with their variables, Services, namespaces, and the workloads that manifests select.

use super::Mesh;
use crate::documents::At;

/// Label of the pods of a Gateway of Istio.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";
/// Namespace of the EnvoyFilters that hold for all namespaces.
const ROOT_NAMESPACE: &str = "istio-system";
/// Kinds with a template of pods.
const WORKLOADS: [&str; 3] = ["Deployment", "DaemonSet", "StatefulSet"];
/// Name of the proxy's container in the pods of Istio.
const PROXY: &str = "istio-proxy";

/// Whether a cluster's name is one that a control plane makes of a Service or of a route.
pub(crate) fn is_of_control_plane(cluster: &str) -> bool {
    cluster.starts_with("outbound|") || cluster.contains("/rule/")
}

/// Workload that a manifest is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Workload<'a> {
    Gateway(&'a str),
    /// Labels of pods, sorted.
    Labels(Vec<(&'a str, &'a str)>),
}

impl<'a> Mesh<'a> {
    /// Whether a Service or a ServiceEntry makes the cluster `outbound|PORT||HOST`.
    pub(crate) fn has_service(&self, cluster: &str) -> bool {
        let mut fields = cluster.split('|').skip(1);
        let (port, host) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        self.manifests.iter().any(|manifest| {
            let Some(spec) = manifest.field("spec") else { return false };
            let (hosts, number) = match manifest.text_of("kind") {
                "Service" => (vec![service_host(manifest)], "port"),
                "ServiceEntry" => {
                    (spec.each("hosts").iter().filter_map(At::text).map(str::to_owned).collect(), "number")
                }
                _ => return false,
            };
            let ports = spec.each("ports");
            let has_port = ports.iter().filter_map(|it| it.field(number)?.integer()).any(|it| it.to_string() == port);
            has_port && hosts.iter().any(|it| it == host)
        })
    }

    /// Whether a variable is missing in the pods of the proxies, as far as they are among the manifests.
    pub(crate) fn lacks_variable(&self, name: &str) -> bool {
        let mut pods = self.manifests.iter().filter(|manifest| has_proxy(manifest)).peekable();
        pods.peek().is_some() && !pods.any(|manifest| has_variable(manifest, name))
    }

    /// Whether a manifest holds for the namespace of another one, and for the workload that the other one selects.
    pub(crate) fn reaches(from: &At<'a>, to: &At<'a>) -> bool {
        let (of, namespace) = (namespace(from), namespace(to));
        let is_near = of.is_empty() || namespace.is_empty() || of == ROOT_NAMESPACE || of == namespace;
        let is_selected = match (workload(from), workload(to)) {
            // Further labels of a plugin select some of the same pods.
            (Some(Workload::Labels(from)), Some(Workload::Labels(to))) => from.iter().all(|label| to.contains(label)),
            (Some(from), Some(to)) => from == to,
            _ => true,
        };
        is_near && is_selected
    }
}

/// Whether a manifest is for the proxies of a Gateway.
pub(crate) fn is_for_gateway(manifest: &At<'_>, gateway: &At<'_>) -> bool {
    let name = gateway.field("metadata").map(|at| at.text_of("name")).unwrap_or_default();
    workload(manifest) == Some(Workload::Gateway(name)) && namespace(manifest) == namespace(gateway)
}

/// The namespace of a manifest; empty if it has none.
fn namespace<'a>(manifest: &At<'a>) -> &'a str {
    manifest.field("metadata").map(|at| at.text_of("namespace")).unwrap_or_default()
}

/// The workload that a manifest of Istio selects; `None` for all of its namespace.
fn workload<'a>(manifest: &At<'a>) -> Option<Workload<'a>> {
    let spec = manifest.field("spec")?;
    if let Some(target) = spec.each("target_refs").first() {
        return (target.text_of("kind") == "Gateway").then(|| Workload::Gateway(target.text_of("name")));
    }
    let labels = spec.fields(["workload_selector", "labels"]).or_else(|| spec.fields(["selector", "match_labels"]))?;
    let mut labels: Vec<_> = labels.entries().filter_map(|(key, at)| Some((key, at.text()?))).collect();
    labels.sort_unstable();
    match labels.as_slice() {
        [(GATEWAY, name)] => Some(Workload::Gateway(name)),
        _ => Some(Workload::Labels(labels)),
    }
}

fn service_host(service: &At<'_>) -> String {
    let name = service.field("metadata").map(|at| at.text_of("name")).unwrap_or_default();
    format!("{name}.{}.svc.cluster.local", namespace(service))
}

/// Whether a manifest has the container of a proxy.
fn has_proxy(manifest: &At<'_>) -> bool {
    match manifest.text_of("kind") {
        "EnvoyProxy" => manifest.fields(["spec", "provider"]).is_some(),
        "ConfigMap" => texts(manifest).iter().any(|text| text.contains(&format!("name: {PROXY}"))),
        kind => {
            let containers = manifest.fields(["spec", "template", "spec"]).map(|at| at.each("containers"));
            let is_proxy = |at: &At<'_>| at.text_of("name") == PROXY || at.text_of("image").contains("envoy");
            WORKLOADS.contains(&kind) && containers.unwrap_or_default().iter().any(is_proxy)
        }
    }
}

/// Whether a container in a manifest has a variable, also in a text that is merged into a deployment.
fn has_variable(at: &At<'_>, name: &str) -> bool {
    if at.each("env").iter().any(|variable| variable.text_of("name") == name) {
        return true;
    }
    match at.text() {
        Some(text) => text.lines().any(|line| {
            let value = line.trim_start_matches(['-', ' ', '{']).strip_prefix("name: ").unwrap_or_default();
            value.trim_matches('"').split([',', '}', '"']).next() == Some(name)
        }),
        None => at.children().iter().any(|at| has_variable(at, name)),
    }
}

fn texts<'a>(config_map: &At<'a>) -> Vec<&'a str> {
    let data = config_map.field("data");
    data.iter().flat_map(At::entries).filter_map(|(_, at)| at.text()).collect()
}

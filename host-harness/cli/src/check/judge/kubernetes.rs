//! Kubernetes manifests: plugins that control planes make, and what is around them.
//!
//! Control planes fill in what a manifest cannot say, and take what it says in ways of their own.

use super::configuration::Findings as _;
use super::limiter::Limiter;
use super::order::{Item, items};
use super::{constraints, enums, fields, keys, redis};
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, quoted};
use crate::files::{
    Cluster, Code, Declaration, Group, Inventory, Kind, Mesh, Part, Plugin, Role, is_bootstrap, is_for_gateway,
    is_of_control_plane,
};

/// Metadata that holds the claims of a verified token.
const CLAIMS: &str = "envoy.filters.http.jwt_authn";
/// Key of the claims in Istio.
const PAYLOAD: &str = "payload";
const EXTENSION: &str = "envoy.config.core.v3.TypedExtensionConfig";
const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const FILTER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";

/// Findings about the messages of Envoy in manifests, and about the metrics of Istio's proxies.
pub(super) fn findings(group: &Group<'_>, inventory: &Inventory<'_>) -> Vec<Finding> {
    let Some(mesh) = &inventory.mesh else { return Vec::new() };
    let mut found = Vec::new();
    for document in &group.documents {
        keys::findings(&At::root(document), None, &mut found);
    }
    for part in &mesh.parts {
        match part {
            Part::Plugin(declaration) => {
                let configuration = declaration.at.field(declaration.configuration_field());
                configuration.iter().for_each(|at| keys::findings(at, Some(&at.path), &mut found));
            }
            Part::Extension(at) => message(at, EXTENSION, &mut found),
            Part::Cluster(at) => message(at, CLUSTER, &mut found),
            Part::Filter(at) => message(at, FILTER, &mut found),
            Part::Value(at) if at.is_root() => text(at.document, &mut found),
            // A value that is merged into another one is no whole message.
            Part::Value(_) => {}
        }
    }
    let agents: Vec<&str> = inventory
        .plugins
        .iter()
        .filter(|plugin| mesh.is_fetched_by_agent(&plugin.at))
        .map(|plugin| plugin.at.path.as_str())
        .collect();
    found.retain(|finding| {
        // The agent replaces the remote code.
        !(constraints::is_constraint(finding)
            && finding.path.contains(".code.remote.")
            && agents.iter().any(|path| finding.path.starts_with(path)))
    });
    found.extend(stats(mesh, inventory));
    found
}

fn message(at: &At<'_>, name: &str, found: &mut Vec<Finding>) {
    keys::findings(at, None, found);
    found.extend(constraints::of_value(at, Some(name)));
    found.extend(enums::of_value(at));
}

/// Findings about a text: the bootstrap of an EnvoyProxy, or resources.
fn text(document: &Document, found: &mut Vec<Finding>) {
    keys::findings(&At::root(document), None, found);
    found.extend(constraints::of_document(document));
    if is_bootstrap(document) {
        found.extend(fields::of_document(document));
        found.extend(enums::of_document(document));
    }
}

/// Findings about a plugin that a control plane makes.
pub(super) fn of_plugin(plugin: &Plugin<'_>, declaration: &Declaration<'_>, is_weir: bool) -> Vec<Finding> {
    if !is_weir {
        return Vec::new();
    }
    let checks =
        [root_id(plugin, declaration), failure_policy(declaration), unversioned(plugin), policy_name(declaration)];
    checks.into_iter().flatten().collect()
}

/// A plugin of Weir that is no limiter: neither kind can put a bridge into a cluster.
fn root_id(plugin: &Plugin<'_>, declaration: &Declaration<'_>) -> Option<Finding> {
    let kind = declaration.kind.name();
    match plugin.role() {
        Some(Role::Limiter) => None,
        Some(Role::Bridge) => {
            let help = "write the bridge into the cluster of Redis, as the manifests in envoy/kubernetes have it";
            let expected = format!("the limiter in a {kind}");
            Some(Finding::at(rules::MISPLACED, &declaration.at, expected, "the bridge", help))
        }
        None => {
            let field = declaration.root_field();
            let found = if plugin.root_id.is_empty() { "nothing".to_owned() } else { quoted(plugin.root_id) };
            let help = format!("write `{field}: limiter`; Weir refuses to start in any other role");
            Some(Finding::at_field(rules::ROOT_ID, &declaration.at, field, "\"limiter\"", found, help))
        }
    }
}

/// A failed VM that stays failed. Envoy Gateway has no other policy.
fn failure_policy(declaration: &Declaration<'_>) -> Option<Finding> {
    let strategy = declaration.at.text_of("failStrategy");
    if !declaration.is_istio() || strategy == "FAIL_RELOAD" {
        return None;
    }
    let found = if strategy.is_empty() { "nothing, which means FAIL_CLOSE".to_owned() } else { quoted(strategy) };
    let help = "write `failStrategy: FAIL_RELOAD`: with any other strategy, a VM that has failed stays failed until its \
                configuration changes";
    Some(Finding::at_field(rules::FAILURE_POLICY, &declaration.at, "failStrategy", "FAIL_RELOAD", found, help))
}

/// An image without a version: a proxy may go on with the one that it has fetched before, and each with another one.
pub(super) fn unversioned(plugin: &Plugin<'_>) -> Option<Finding> {
    let Code::Remote { uri, sha256 } = plugin.code() else { return None };
    let at = match &plugin.declaration {
        Some(declaration) => declaration.url(),
        None => plugin.vm()?.fields(["code", "remote", "http_uri", "uri"]),
    }?;
    let (_, name) = uri.rsplit_once('/').unwrap_or(("", uri));
    let is_image = !["http://", "https://", "file://"].iter().any(|scheme| uri.starts_with(scheme));
    let tag = name.split_once(':').map(|(_, tag)| tag);
    let found = match tag {
        _ if name.contains('@') || (!is_image && !sha256.is_empty()) || uri.starts_with("file://") => return None,
        Some(tag) if is_image && tag.contains(|char: char| char.is_ascii_digit()) => return None,
        _ if !is_image && uri.contains(|char: char| char.is_ascii_digit()) => return None,
        Some(tag) if is_image => format!("the tag {}", quoted(tag)),
        _ => "none".to_owned(),
    };
    let help = "name the version, such as …/weir-filter:0.1.0, or the digest, and change it with the code: under the same \
                name, a proxy goes on with the code that it has, and a new one fetches other code";
    Some(Finding::at(rules::UNVERSIONED, &at, "an image or a URL with a version", found, help))
}

/// A policy of Envoy Gateway whose name is the same for all versions of the code.
fn policy_name(declaration: &Declaration<'_>) -> Option<Finding> {
    let name = declaration.manifest.fields(["metadata", "name"])?;
    let text = name.text()?;
    (!declaration.is_istio() && !text.contains(|char: char| char.is_ascii_digit())).then(|| {
        let help = "put the module's version into the name, such as weir-0-1-0, and change it with the image: Envoy \
                    Gateway makes the vm_id of the name, and Envoy keeps the old module running under the same vm_id";
        let expected = "a name with a version, since the code is remote";
        Finding::at(rules::VM_ID, &name, expected, format!("{} without one", quoted(text)), help)
    })
}

/// The cluster of a limiter. Of several with the name, one that is in the limiter's proxy.
pub(super) fn cluster_of<'f, 'a>(limiter: &Limiter<'f, 'a>) -> Option<(usize, &'f Cluster<'a>)> {
    let name = &limiter.config.redis.cluster;
    let clusters = limiter.inventory.clusters.iter().enumerate();
    let near = limiter.inventory.mesh.as_ref().and_then(|mesh| {
        let from = mesh.manifest_of(&limiter.plugin.at)?;
        let reaches = |cluster: &Cluster<'a>| mesh.manifest_of(&cluster.at).is_none_or(|at| Mesh::reaches(at, from));
        clusters.filter(|(_, cluster)| cluster.name == *name).find(|(_, cluster)| reaches(cluster))
    });
    near.or_else(|| limiter.inventory.cluster(name))
}

/// A cluster in an EnvoyFilter for other proxies.
pub(super) fn scope(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Option<Finding> {
    let mesh = limiter.inventory.mesh.as_ref()?;
    let (from, to) = (mesh.manifest_of(&limiter.plugin.at)?, mesh.manifest_of(&cluster.at)?);
    let is_istio = to.text_of("kind") == "EnvoyFilter" && from.text_of("kind") != "EnvoyExtensionPolicy";
    (is_istio && !Mesh::reaches(to, from)).then(|| {
        let help = "give both manifests the same namespace, and the same Gateway or labels: the proxies of this limiter \
                    do not get the cluster as it is";
        let position = to.node.position;
        let found = format!("it in the manifest at {}:{position} alone, which is for others", to.document.origin);
        let expected = "the cluster in an EnvoyFilter for the proxies of this limiter";
        limiter.written.at_path("redis.cluster", |at| Finding::at(rules::SCOPE, at, expected, found, help))
    })
}

/// Whether another plugin may be in the limiter's proxy.
pub(super) fn are_in_one_proxy(limiter: &Limiter<'_, '_>, other: &Plugin<'_>) -> bool {
    let Some(mesh) = &limiter.inventory.mesh else { return true };
    match (mesh.manifest_of(&limiter.plugin.at), mesh.manifest_of(&other.at)) {
        (Some(from), Some(to)) => Mesh::reaches(to, from),
        _ => true,
    }
}

/// No manifest has the cluster. The name is not shown, because it may be a misplaced password.
pub(super) fn no_cluster(limiter: &Limiter<'_, '_>, mesh: &Mesh<'_>) -> Option<Finding> {
    let redis = &limiter.config.redis;
    let finding = |rule, expected: String, found: String, help: &str| {
        Some(limiter.written.at_path("redis.cluster", |at| Finding::at(rule, at, expected, found, help)))
    };
    let has_front_end = redis.transport.front_end().is_some();
    if is_of_control_plane(&redis.cluster) {
        if !has_front_end {
            let help = "name the cluster of an EnvoyFilter, an EnvoyProxy or an EnvoyPatchPolicy, as the manifests in \
                        envoy/kubernetes have it, or set `transport: webdis` with an HTTP front end in that cluster: \
                        Redis does not speak HTTP";
            let expected = "a cluster of raw TCP, since it leads to Redis".to_owned();
            return finding(
                rules::RAW_TCP,
                expected,
                "a cluster that the control plane makes, of HTTP".to_owned(),
                help,
            );
        }
        if mesh.has_service(&redis.cluster) {
            return None;
        }
        let help =
            "give the manifest of the Service or of the ServiceEntry as well, or check host and port of the name";
        let expected = "a Service or a ServiceEntry with the host and the port of this name".to_owned();
        return finding(rules::UNKNOWN_CLUSTER, expected, "none in these manifests".to_owned(), help);
    }
    let is_gateways = limiter.plugin.declaration.as_ref().is_some_and(|it| it.kind == Kind::EnvoyExtensionPolicy);
    let from = if is_gateways { "an EnvoyProxy or an EnvoyPatchPolicy" } else { "an EnvoyFilter" };
    let shape = if has_front_end { "" } else { ", with raw TCP and the bridge" };
    let help = format!(
        "add the cluster by {from}{shape}, as the manifests in envoy/kubernetes have it, or give its file as well: \
         without it, the failure mode decides all requests"
    );
    let expected = format!("a cluster of the manifests given ({})", redis::known(limiter));
    finding(rules::MISSING_CLUSTER, expected, format!("another name of {} bytes", redis.cluster.len()), &help)
}

/// Limits that read bodies, in a manifest that cannot ask for them.
pub(super) fn unseen_body(limiter: &Limiter<'_, '_>, declaration: &Declaration<'_>, limit: &str) -> Finding {
    let (other, file) = match declaration.kind {
        Kind::EnvoyExtensionPolicy => ("an EnvoyPatchPolicy", "envoy-gateway/patch-policy.yaml"),
        _ => ("an EnvoyFilter", "istio/bodies.yaml"),
    };
    let kind = declaration.kind.name();
    let help = format!(
        "insert the limiter by {other}, as envoy/kubernetes/{file} does: Envoy shows no body to a filter that holds the \
         headers, unless allow_on_headers_stop_iteration is set, and requests under this limit would be held until \
         request_body.timeout"
    );
    let expected = format!("{other} with the limiter, since {limit} reads bodies");
    let found = format!("a {kind}, which cannot set allow_on_headers_stop_iteration");
    limiter.written.at_path(limit, |at| Finding::at(rules::UNSEEN_BODY, at, expected, found, help))
}

/// Limits that read claims of tokens before they are verified, or under a key that the control plane does not write.
pub(super) fn claims(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let Some(declaration) = &limiter.plugin.declaration else { return Vec::new() };
    let read = items(limiter).into_iter().filter_map(|(item, path)| match item {
        Item::Metadata { namespace, key } if namespace == CLAIMS => Some((key, path)),
        _ => None,
    });
    let read: Vec<(String, String)> = read.collect();
    let spec = declaration.manifest.field("spec");
    let phase = spec.and_then(|spec| spec.field("phase")).filter(|phase| phase.text() == Some("AUTHN"));
    if let (Some(phase), [_, ..]) = (phase, &*read) {
        let help = "write `phase: AUTHZ`: before authentication, the limit never sees the claims, and admits all \
                    requests or puts them in one bucket";
        let expected = "a phase after authentication, since limits read claims of tokens";
        return vec![Finding::at(rules::ORDER, &phase, expected, "AUTHN", help)];
    }
    let Some(keys) = keys_of_claims(limiter, declaration) else { return Vec::new() };
    let wrong = read.iter().find(|(key, _)| !keys.contains(&key.as_str()));
    let finding = |(key, path): &(String, String)| {
        let expected = format!(
            "{} as the first key of the path",
            keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(" or ")
        );
        let help =
            "correct the key, under which the control plane writes the claims: as it is, the limit never sees them";
        limiter.written.at_path(path, |at| Finding::at(rules::ORDER, at, expected, quoted(key), help))
    };
    wrong.map(finding).into_iter().collect()
}

/// Keys under which claims are written; `None` if they are not known.
fn keys_of_claims<'a>(limiter: &Limiter<'_, 'a>, declaration: &Declaration<'a>) -> Option<Vec<&'a str>> {
    if declaration.is_istio() {
        return Some(vec![PAYLOAD]);
    }
    // Envoy Gateway writes them under the name of the provider.
    let mesh = limiter.inventory.mesh.as_ref()?;
    let policies = mesh.manifests.iter().filter(|manifest| manifest.text_of("kind") == "SecurityPolicy");
    let providers = policies.filter_map(|policy| policy.fields(["spec", "jwt"])).flat_map(|jwt| jwt.each("providers"));
    let names: Vec<&str> = providers.map(|provider| provider.text_of("name")).collect();
    (!names.is_empty()).then_some(names)
}

/// The Gateways of Istio whose proxies keep the counters to themselves, if they have a limiter.
fn stats(mesh: &Mesh<'_>, inventory: &Inventory<'_>) -> Vec<Finding> {
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

/// Manifests without a limiter: of other kinds, or with the rest of Weir.
pub(super) fn no_limiter(mesh: &Mesh<'_>, bridges: usize) -> Option<Finding> {
    let first = mesh.manifests.first()?;
    if bridges > 0 {
        let help = "give the file of the limiter as well: a WasmPlugin, a TrafficExtension, an EnvoyExtensionPolicy, or a \
                    filter in an EnvoyFilter or an EnvoyPatchPolicy";
        return Some(Finding::at(
            rules::NO_LIMITER,
            first,
            "a limiter",
            "only the way to Redis in these manifests",
            help,
        ));
    }
    let mut kinds: Vec<&str> = mesh.manifests.iter().map(|manifest| manifest.text_of("kind")).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let count = mesh.manifests.len();
    let noun = if count == 1 { "manifest" } else { "manifests" };
    let found = format!(
        "{count} {noun} without any ({})",
        kinds.iter().map(|kind| quoted(kind)).collect::<Vec<_>>().join(", ")
    );
    let help = "nothing was checked; Weir is in a WasmPlugin, TrafficExtension, EnvoyFilter, EnvoyExtensionPolicy, \
                EnvoyProxy, EnvoyPatchPolicy or ConfigMap";
    Some(Finding::at(rules::MANIFEST, first, "a manifest with Weir", found, help))
}

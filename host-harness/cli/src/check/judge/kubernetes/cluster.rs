//! The cluster of Redis among manifests: that of the limiter's own proxies.

use crate::check::finding::Finding;
use crate::check::judge::configuration::Findings as _;
use crate::check::judge::limiter::Limiter;
use crate::check::judge::redis;
use crate::check::rules;
use crate::files::{Cluster, Kind, Mesh, Plugin, is_of_control_plane};

/// The cluster of a limiter. Of several with the name, one that is in the limiter's proxy.
pub(in crate::check::judge) fn cluster_of<'f, 'a>(limiter: &Limiter<'f, 'a>) -> Option<(usize, &'f Cluster<'a>)> {
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
pub(in crate::check::judge) fn scope(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Option<Finding> {
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
pub(in crate::check::judge) fn are_in_one_proxy(limiter: &Limiter<'_, '_>, other: &Plugin<'_>) -> bool {
    let Some(mesh) = &limiter.inventory.mesh else { return true };
    match (mesh.manifest_of(&limiter.plugin.at), mesh.manifest_of(&other.at)) {
        (Some(from), Some(to)) => Mesh::reaches(to, from),
        _ => true,
    }
}

/// No manifest has the cluster. The name is not shown, because it may be a misplaced password.
pub(in crate::check::judge) fn no_cluster(limiter: &Limiter<'_, '_>, mesh: &Mesh<'_>) -> Option<Finding> {
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

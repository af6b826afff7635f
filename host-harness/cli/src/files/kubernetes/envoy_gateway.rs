//! Kinds of Envoy Gateway.

use super::{Declaration, Kind, Part};
use crate::documents::At;

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

/// The plugins of an EnvoyExtensionPolicy.
pub(super) fn plugins<'a>(manifest: &At<'a>) -> Vec<Part<'a>> {
    let plugins = manifest.field("spec").map(|spec| spec.each("wasm")).unwrap_or_default();
    let kind = Kind::EnvoyExtensionPolicy;
    plugins.into_iter().map(|at| Part::Plugin(Declaration { kind, at, manifest: manifest.clone() })).collect()
}

/// The values that an EnvoyPatchPolicy adds.
pub(super) fn patches<'a>(manifest: &At<'a>) -> Vec<Part<'a>> {
    let patches = manifest.field("spec").map(|spec| spec.each("json_patches")).unwrap_or_default();
    let of_patch = |patch: &At<'a>| {
        let operation = patch.field("operation")?;
        let is_cluster = patch.text_of("type").ends_with(CLUSTER) && operation.text_of("path").is_empty();
        part(&operation, is_cluster)
    };
    patches.iter().filter_map(of_patch).collect()
}

/// The values that an EnvoyProxy patches into the bootstrap. A bootstrap that is merged is a text.
pub(super) fn bootstrap<'a>(manifest: &At<'a>) -> Vec<Part<'a>> {
    let patches = manifest.fields(["spec", "bootstrap"]).map(|at| at.each("json_patches")).unwrap_or_default();
    patches.iter().filter_map(|patch| part(patch, false)).collect()
}

/// The value of an operation. `is_cluster` says that it is a whole cluster.
fn part<'a>(operation: &At<'a>, is_cluster: bool) -> Option<Part<'a>> {
    let value = operation.field("value")?;
    let is_added = matches!(operation.text_of("op"), "add" | "replace");
    let mut parents = operation.text_of("path").rsplit('/').skip(1);
    Some(match parents.next() {
        _ if !is_added => Part::Value(value),
        _ if is_cluster => Part::Cluster(value),
        Some("clusters") => Part::Cluster(value),
        Some("http_filters") => Part::Filter(value),
        _ => Part::Value(value),
    })
}

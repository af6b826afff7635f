//! Kinds of Envoy Gateway.

use super::{Declaration, Kind, Part};
use crate::documents::At;

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "envoy.config.listener.v3.Listener";

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
        let is_whole = operation.text_of("path").is_empty();
        part(&operation, if is_whole { patch.text_of("type") } else { "" })
    };
    patches.iter().filter_map(of_patch).collect()
}

/// The values that an EnvoyProxy patches into the bootstrap. A bootstrap that is merged is a text.
pub(super) fn bootstrap<'a>(manifest: &At<'a>) -> Vec<Part<'a>> {
    let patches = manifest.fields(["spec", "bootstrap"]).map(|at| at.each("json_patches")).unwrap_or_default();
    patches.iter().filter_map(|patch| part(patch, "")).collect()
}

/// The value of an operation. `whole` is the type of a whole resource.
fn part<'a>(operation: &At<'a>, whole: &str) -> Option<Part<'a>> {
    let value = operation.field("value")?;
    let is_added = matches!(operation.text_of("op"), "add" | "replace");
    let mut parents = operation.text_of("path").rsplit('/').skip(1);
    Some(match parents.next() {
        _ if !is_added => Part::Value(value),
        _ if whole.ends_with(CLUSTER) => Part::Cluster(value),
        _ if whole.ends_with(LISTENER) => Part::Listener(value),
        Some("clusters") => Part::Cluster(value),
        Some("listeners") => Part::Listener(value),
        Some("http_filters") => Part::Filter(value),
        _ => Part::Value(value),
    })
}

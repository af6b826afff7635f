//! Kinds of Istio.

use super::{Declaration, Kind, Part};
use crate::documents::At;

/// The plugin of a WasmPlugin or of a TrafficExtension, which may have Lua code instead.
pub(super) fn plugin<'a>(manifest: &At<'a>, kind: Kind) -> Vec<Part<'a>> {
    let spec = manifest.field("spec");
    let at = if kind == Kind::TrafficExtension { spec.and_then(|spec| spec.field("wasm")) } else { spec };
    let declaration = at.map(|at| Declaration { kind, at, manifest: manifest.clone() });
    declaration.map(Part::Plugin).into_iter().collect()
}

/// The values that an EnvoyFilter adds. Those that it merges into others are no whole messages.
pub(super) fn patches<'a>(manifest: &At<'a>) -> Vec<Part<'a>> {
    let patches = manifest.field("spec").map(|spec| spec.each("config_patches")).unwrap_or_default();
    patches.iter().filter_map(part).collect()
}

fn part<'a>(patch: &At<'a>) -> Option<Part<'a>> {
    let value = patch.fields(["patch", "value"])?;
    let operation = patch.field("patch").map(|patch| patch.text_of("operation")).unwrap_or_default();
    let is_added = operation == "ADD" || operation == "REPLACE" || operation.starts_with("INSERT");
    Some(match patch.text_of("apply_to") {
        "EXTENSION_CONFIG" if is_added => Part::Extension(value),
        "CLUSTER" if is_added => Part::Cluster(value),
        "LISTENER" if is_added => Part::Listener(value),
        "HTTP_FILTER" if is_added => Part::Filter(value),
        _ => Part::Value(value),
    })
}

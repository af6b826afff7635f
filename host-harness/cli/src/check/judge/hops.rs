//! `trusted_hops` on listeners whose downstream address is one of `x-forwarded-for` already.
//!
//! `trusted_hops` counts from Envoy's downstream. With `use_remote_address: false`, or with `xff_num_trusted_hops`, Envoy
//! takes an address of `x-forwarded-for` for its downstream, so that the count begins a hop too far to the left: the
//! client has written the address that it ends at.

use serde_json::Value;

use super::limiter::Limiter;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::At;
use crate::files::ChainKind;

pub(super) fn findings(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let Some((chain, _)) = limiter.inventory.chain_of(limiter.plugin) else { return Vec::new() };
    let ChainKind::Listener { manager, .. } = &chain.kind else { return Vec::new() };
    let Some(found) = wrong_setting(manager) else { return Vec::new() };
    let configuration = serde_json::from_slice(&limiter.written.bytes).unwrap_or_default();
    let mut places = Vec::new();
    collect(&configuration, "", &mut places);
    if places.is_empty() {
        return Vec::new();
    }
    let help = format!(
        "write `use_remote_address: true` and no `xff_num_trusted_hops`, or drop the field: {} counts from the downstream \
         that Envoy sees, which is an address of x-forwarded-for here, so that clients choose their address",
        places.join(", ")
    );
    vec![Finding::at(rules::TRUSTED_HOPS, manager, "`use_remote_address: true` for trusted_hops", found, help)]
}

/// The setting by which Envoy takes an address of `x-forwarded-for` for its downstream.
fn wrong_setting(manager: &At<'_>) -> Option<String> {
    let hops = manager.field("xff_num_trusted_hops").and_then(|at| at.integer()).filter(|hops| *hops > 0);
    match hops {
        Some(hops) => Some(format!("xff_num_trusted_hops: {hops} beside it")),
        None if manager.is_set("use_remote_address") => None,
        None => Some("the connection manager without".to_owned()),
    }
}

/// Adds the paths of all `trusted_hops` above 0.
fn collect(value: &Value, path: &str, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if key == "trusted_hops" && value.as_u64().is_some_and(|hops| hops > 0) {
                    places.push(inner.clone());
                }
                collect(value, &inner, places);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| collect(value, &format!("{path}[{index}]"), places));
        }
        _ => {}
    }
}

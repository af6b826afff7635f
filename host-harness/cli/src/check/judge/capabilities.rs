//! Capabilities of a plugin's VM, without which Weir limits nothing.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::files::{Plugin, Role};

/// Functions that every limiter calls or exports: Envoy replaces a function that is not allowed by one that does nothing.
const NEEDED: [&str; 8] = [
    "proxy_on_context_create",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_request_headers",
    "proxy_continue_stream",
    "proxy_get_buffer_bytes",
    "proxy_send_local_response",
    "proxy_set_tick_period_milliseconds",
];

/// The finding about a limiter whose VM may not call what it needs.
pub(super) fn restricted(plugin: &Plugin<'_>) -> Option<Finding> {
    let allowed = plugin.at.fields(["capability_restriction_config", "allowed_capabilities"])?;
    let names: Vec<&str> = allowed.entries().map(|(name, _)| name).collect();
    let lacks = NEEDED.iter().find(|needed| !names.contains(needed))?;
    (plugin.role() == Some(Role::Limiter) && !names.is_empty()).then(|| {
        let help = "remove capability_restriction_config, or allow every function that the module imports and exports; \
                    Envoy starts, and the limiter limits nothing";
        let expected = "all functions of the limiter";
        Finding::at(rules::CAPABILITIES, &allowed, expected, format!("a list without {lacks}"), help)
    })
}

//! Inventory about any plugin of Weir.

use super::chains;
use super::plugins::FAILURE_POLICIES;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::files::{ChainKind, Inventory, Plugin, Role, Site};

pub(super) fn findings(plugin: &Plugin<'_>, inventory: &Inventory<'_>) -> Vec<Finding> {
    let disabled = chains::never_enabled(plugin, inventory).filter(|_| plugin.role() == Some(Role::Limiter));
    [misplaced(plugin, inventory), disabled, failure_policy(plugin)].into_iter().flatten().collect()
}

/// A role that cannot work where it stands.
fn misplaced(plugin: &Plugin<'_>, inventory: &Inventory<'_>) -> Option<Finding> {
    let role = plugin.role()?;
    let finding = |expected, found, help| Some(Finding::at(rules::MISPLACED, &plugin.at, expected, found, help));
    match (plugin.site, role) {
        // A misspelt message has a finding of its own.
        (Site::Other, _) if !plugin.is_known() => None,
        (Site::Other, _) => {
            let help = "move the plugin to http_filters; Weir does nothing in this place";
            finding("Weir as an HTTP filter", "a plugin of another kind", help)
        }
        (Site::Chain { .. }, Role::Bridge) => match inventory.chain_of(plugin)?.0.kind {
            ChainKind::Listener { .. } | ChainKind::Inserted => {
                let help = "move the bridge to http_filters of HttpProtocolOptions in Redis' cluster, before \
                            upstream_codec; here, it takes requests of clients for frames";
                finding("the bridge among the upstream filters of a cluster", "a filter of a listener", help)
            }
            _ => None,
        },
        _ => None,
    }
}

/// A failure policy under which a trap lasts until the proxy is restarted.
fn failure_policy(plugin: &Plugin<'_>) -> Option<Finding> {
    let policy = match plugin.at.field("failure_policy") {
        // A policy that Envoy refuses has a finding of its own.
        Some(at) => at.one_of(&FAILURE_POLICIES)?,
        None => 0,
    };
    let found = match (policy, plugin.at.is_set("fail_open")) {
        (1, _) => return None,
        (0, true) => "fail_open: true",
        (0, false) => "nothing, which means FAIL_CLOSED",
        (policy, _) => FAILURE_POLICIES.get(policy).copied().unwrap_or_default(),
    };
    let help = "write `failure_policy: FAIL_RELOAD`: with any other policy, a VM that has failed stays failed until \
                its configuration changes";
    Some(Finding::at_field(rules::FAILURE_POLICY, &plugin.at, "failure_policy", "FAIL_RELOAD", found, help))
}

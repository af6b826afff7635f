//! Inventory about chains of filters with wasm plugins.

use std::collections::HashSet;

use super::ends;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Message, quoted};
use crate::files::{Filter, Inventory, Plugin, Site};

pub(super) fn findings(inventory: &Inventory<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let with_wasm: HashSet<usize> = inventory
        .plugins
        .iter()
        .filter_map(|plugin| match plugin.site {
            Site::Chain { chain, .. } => Some(chain),
            _ => None,
        })
        .collect();
    for (index, chain) in inventory.chains.iter().enumerate() {
        found.extend(ends::findings(chain));
        if with_wasm.contains(&index) {
            found.extend(chain.filters.iter().filter(|filter| filter.name.is_empty()).map(unnamed));
            found.extend(chain.filters.iter().filter_map(untyped));
            found.extend(chain.filters.iter().filter_map(no_filter));
        }
    }
    found.extend(inventory.overrides.iter().filter_map(|(_, entry)| empty_override(entry)));
    found
}

/// A `FilterConfig` at a route that neither disables its filter nor has a message for it.
fn empty_override(entry: &At<'_>) -> Option<Finding> {
    let message = Message::of(entry).filter(|message| message.name == "envoy.config.route.v3.FilterConfig")?;
    let body = &message.body;
    (body.field("config").is_none() && !body.is_set("disabled")).then(|| {
        let help =
            "write `config: {}` to enable the filter, or `disabled: true`; Envoy refuses a FilterConfig without both";
        Finding::at_field(rules::MISSING_CONFIG, body, "config", "`config` or `disabled: true`", "nothing", help)
    })
}

/// A filter with a message that no filter has. Envoy leaves out an optional one.
fn no_filter(filter: &Filter<'_>) -> Option<Finding> {
    let message = filter.messages.first().filter(|message| message.name.starts_with("google.protobuf."))?;
    (!filter.at.is_set("is_optional")).then(|| {
        let help = "write the name of the filter's message; Envoy has no filter with this one";
        Finding::at(rules::TYPE, &message.url, "the message of a filter", quoted(message.name), help)
    })
}

fn unnamed(filter: &Filter<'_>) -> Finding {
    let help = "write `name` beside typed_config; Envoy refuses an HTTP filter without a name";
    Finding::at_field(rules::FILTER_NAME, &filter.at, "name", "a name of the HTTP filter", "nothing", help)
}

/// A filter without a message. Envoy leaves out an optional filter that it does not know.
fn untyped(filter: &Filter<'_>) -> Option<Finding> {
    // A message with fields and without a type has a finding of its own.
    let has_fields = |at: At<'_>| !at.is_object() || at.entries().next().is_some();
    let has_message = filter.at.field("typed_config").is_some_and(has_fields);
    (!has_message && filter.at.field("config_discovery").is_none() && !filter.at.is_set("is_optional")).then(|| {
        let help = "write \"@type\" with the name of the filter's message; Envoy refuses a filter that has only a name";
        Finding::at_field(rules::TYPE, &filter.at, "typed_config", "a message with \"@type\"", "none", help)
    })
}

/// A disabled limiter that no route enables. Routes from elsewhere may enable it.
pub(super) fn never_enabled(plugin: &Plugin<'_>, inventory: &Inventory<'_>) -> Option<Finding> {
    let (chain, position) = inventory.chain_of(plugin)?;
    let filter = chain.filters.get(position).filter(|filter| filter.is_disabled)?;
    if inventory.is_enabled_by_route(filter) || !inventory.is_whole() {
        return None;
    }
    let name = quoted(filter.name);
    let expected = format!("a route with typed_per_filter_config for {name}, or a filter that is not disabled");
    let help = "remove `disabled: true`, or enable the filter at a route with `envoy.config.route.v3.FilterConfig`";
    Some(Finding::at_field(rules::DISABLED, &filter.at, "disabled", expected, "no such route", help))
}

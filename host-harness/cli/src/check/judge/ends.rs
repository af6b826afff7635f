//! Ends of chains: one filter answers or forwards all requests, and stands last.
//!
//! (Envoy 1.36 and 1.40 were observed.) A chain without filters is accepted.

use super::types;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::Message;
use crate::files::{Chain, ChainKind, Filter};

/// Filters that end a chain of a listener.
const OF_LISTENERS: [&str; 2] =
    ["envoy.extensions.filters.http.router.v3.Router", "envoy.extensions.filters.http.mcp_router.v3.McpRouter"];
/// Filter that ends a chain of upstream filters.
const OF_UPSTREAMS: [&str; 1] = ["envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"];
/// Filter that ends a chain if its configuration says so.
const DYNAMIC_MODULE: &str = "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
/// Filters of which it was not observed whether they end a chain.
const UNKNOWN: [&str; 1] = ["envoy.extensions.filters.http.file_server.v3.FileServerConfig"];
const HTTP_FILTERS: &str = "envoy.extensions.filters.http.";
const MATCHER: &str = "envoy.extensions.common.matching.v3.ExtensionWithMatcher";

/// Findings about the end of a chain: at most one.
pub(super) fn findings(chain: &Chain<'_>) -> Option<Finding> {
    if matches!(chain.kind, ChainKind::Inserted) {
        return None;
    }
    let last = chain.filters.len().checked_sub(1)?;
    let ends = |filter: &Filter<'_>| ends(filter, &chain.kind);
    let early = chain.filters.iter().position(|filter| ends(filter) == Some(true)).filter(|position| *position < last);
    if let Some(behind) = early.and_then(|position| chain.filters.get(position + 1)) {
        let help = "move it before that filter; Envoy refuses the chain as it is";
        let found = "a filter behind the one that ends the chain";
        return Some(Finding::at(rules::NOT_LAST, &behind.at, "no filter here", found, help));
    }
    let filter = chain.filters.last()?;
    match ends(filter)? {
        true if filter.is_disabled => {
            let help = "remove `disabled: true`; Envoy refuses a chain whose last filter is disabled";
            let (expected, found) = ("an enabled filter at the end of the chain", "a disabled one");
            Some(Finding::at_field(rules::NOT_LAST, &filter.at, "disabled", expected, found, help))
        }
        true => None,
        false => {
            let help = "add the filter at the end of the list: a router in a listener, upstream_codec in a cluster";
            let is_wasm = filter.messages.first().is_some_and(|message| message.name.contains(".wasm."));
            let found = if is_wasm { "a wasm plugin" } else { "another filter" };
            let expected = "a filter behind this one that ends the chain";
            Some(Finding::at(rules::NOT_LAST, &filter.at, expected, format!("{found} as the last filter"), help))
        }
    }
}

/// Whether a filter ends its chain; `None` if that is not known. Of a filter with `config_discovery`, only its default
/// is known at the start.
fn ends(filter: &Filter<'_>, kind: &ChainKind<'_>) -> Option<bool> {
    let default = filter.at.fields(["config_discovery", "default_config"]);
    let message = match filter.at.field("config_discovery") {
        Some(_) => Message::of(&default?)?,
        None => filter.messages.first()?.clone(),
    };
    let is_of_listener = matches!(kind, ChainKind::Listener { .. });
    let known: &[&str] = if is_of_listener { &OF_LISTENERS } else { &OF_UPSTREAMS };
    match message.name {
        name if known.contains(&name) => Some(true),
        DYNAMIC_MODULE => Some(is_of_listener && message.body.is_set("terminal_filter")),
        name if UNKNOWN.contains(&name) => None,
        // Other builds of Envoy may have more filters.
        name => (name == MATCHER || name.starts_with(HTTP_FILTERS) && types::is_envoys(name)).then_some(false),
    }
}

//! Fields without which Envoy refuses a message where it uses it, though its descriptor does not require them.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::At;

const LISTENER: &str = "envoy.config.listener.v3.Listener";
/// Fields of a listener that say where it listens; one with `api_listener` listens nowhere.
const PLACES: [&str; 3] = ["address", "internal_listener", "api_listener"];
/// Messages with a name and, in `typed_config`, the message that Envoy finds the extension by. (Envoy 1.36 and 1.40 were
/// observed. Extensions of other messages may be left unused.)
const EXTENSIONS: [&str; 6] = [
    "envoy.config.accesslog.v3.AccessLog",
    "envoy.config.core.v3.TransportSocket",
    "envoy.config.listener.v3.Filter",
    "envoy.config.listener.v3.ListenerFilter",
    "envoy.config.metrics.v3.StatsSink",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
];
/// Steps of a path to messages in metadata.
const METADATA: [&str; 2] = ["typed_filter_metadata.", "typedFilterMetadata."];
/// Field with a message of any type for each filter at a route.
const OVERRIDES: &str = "typed_per_filter_config";

/// The finding about a message that lacks such a field.
pub(super) fn missing(at: &At<'_>, message: &str) -> Option<Finding> {
    // Envoy does not use what is in metadata.
    if METADATA.iter().any(|step| at.path.contains(step)) {
        return None;
    }
    if message == LISTENER && PLACES.iter().all(|name| at.field(name).is_none()) {
        let help = "add `address`; Envoy refuses a listener without it";
        return Some(Finding::at_field(rules::REQUIRED, at, "address", "the address of the listener", "nothing", help));
    }
    if !EXTENSIONS.contains(&message) || at.field("config_discovery").is_some() || at.is_set("is_optional") {
        return None;
    }
    let help = "write \"@type\" with the name of the extension's message; Envoy refuses one that has only a name";
    // A message with fields and without a type has a finding of its own, as has an access log without a message.
    let lacks = match at.field("typed_config") {
        Some(config) => is_empty(&config),
        None => !message.ends_with("AccessLog"),
    };
    lacks.then(|| Finding::at_field(rules::TYPE, at, "typed_config", "a message with \"@type\"", "none", help))
}

/// The finding about a message of a filter at a route that has no type.
pub(super) fn untyped_override(at: &At<'_>, field: &str) -> Option<Finding> {
    (field == OVERRIDES && (at.is_null() || is_empty(at))).then(|| {
        let help = "write \"@type\" with the name of the filter's message, or remove the entry; Envoy refuses it";
        Finding::at(rules::TYPE, at, "a message with \"@type\"", "none", help)
    })
}

fn is_empty(at: &At<'_>) -> bool {
    at.is_object() && at.entries().next().is_none()
}

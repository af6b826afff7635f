//! Filters whose message comes from a file of extensions, or from a control plane (`config_discovery`).

use super::types;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Message, quoted};
use crate::files::{Filter, Inventory};

/// Findings about all filters of chains. (Envoy 1.36 and 1.40 were observed.)
pub(super) fn findings(inventory: &Inventory<'_>) -> Vec<Finding> {
    let filters = inventory.chains.iter().flat_map(|chain| &chain.filters);
    filters.filter_map(|filter| Some((filter, filter.at.field("config_discovery")?))).flat_map(of_filter).collect()
}

fn of_filter((filter, discovery): (&Filter<'_>, At<'_>)) -> Vec<Finding> {
    let urls = discovery.each("type_urls");
    let mut found: Vec<Finding> = urls.iter().filter_map(types::name).collect();
    let missing = |field: &str, expected: &str, help: &str| {
        Finding::at_field(rules::DISCOVERY, &discovery, field, expected, "nothing", help)
    };
    if discovery.field("config_source").is_none() {
        let help = "add `config_source`, such as a path_config_source; Envoy does not start without it";
        found.push(missing("config_source", "a source of the extension", help));
    }
    if urls.is_empty() {
        let help = "list the types of the filter's message, such as \
                    type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm; Envoy does not start without one";
        found.push(missing("type_urls", "at least one type", help));
    }
    let default = discovery.field("default_config");
    if discovery.is_set("apply_default_config_without_warming") && default.is_none() {
        let help =
            "add `default_config`, or remove apply_default_config_without_warming; Envoy does not start as it is";
        found.push(missing("default_config", "a message to begin with", help));
    }
    if let Some(config) = filter.at.field("typed_config") {
        let help = "remove one of them; Envoy refuses both";
        let expected = "typed_config or config_discovery";
        found.push(Finding::at(rules::DISCOVERY, &config, expected, "both", help));
    }
    let refused = "list the type in type_urls, or correct the message; Envoy does not start as it is";
    found.extend(default.and_then(|at| unlisted(&at, &urls, refused)));
    let rejected = "list the type in type_urls, or correct the message; until then, Envoy answers requests with 500, or \
                    uses default_config";
    found.extend(filter.resource.as_ref().and_then(|at| unlisted(at, &urls, rejected)));
    found
}

/// Finding about a message whose type is none of a list. Hosts of the types do not count.
fn unlisted(at: &At<'_>, urls: &[At<'_>], help: &str) -> Option<Finding> {
    let message = Message::of(at)?;
    let names: Vec<&str> = urls.iter().filter_map(At::text).filter_map(|url| url.rsplit('/').next()).collect();
    (!names.is_empty() && !names.contains(&message.name)).then(|| {
        let expected = format!("one of type_urls ({})", names.join(", "));
        Finding::at(rules::DISCOVERY, &message.url, expected, quoted(message.name), help)
    })
}

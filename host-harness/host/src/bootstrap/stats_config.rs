//! Parser of `stats_config`: the tags of metrics.

use super::document::Node;
use super::support;
use crate::stats_tags::{Extractor, StatsTags};

/// Default tags of Envoy whose metrics the harness does not have.
const OTHER_DEFAULTS: [&str; 4] =
    ["envoy.listener_address", "envoy.virtual_host", "envoy.virtual_cluster", "envoy.worker_id"];

pub(super) fn stats_config(node: &Node<'_>) -> Option<StatsTags> {
    let mut fields = node.message(&support::STATS_CONFIG)?;
    let tags = fields.take("stats_tags").map(|node| node.each(tag)).unwrap_or_default();
    let has_defaults = fields.take("use_all_default_tags").map_or(Some(true), |node| node.boolean());
    fields.finish();
    let tags: Vec<Option<Extractor>> = tags.into_iter().collect::<Option<_>>()?;
    Some(StatsTags::new(has_defaults?, tags.into_iter().flatten().collect()))
}

/// Parses a tag; `None` within: a default tag without metrics.
fn tag(node: &Node<'_>) -> Option<Option<Extractor>> {
    let mut fields = node.message(&support::STATS_TAG)?;
    let name = fields.require("tag_name").map(|node| (node.string(), node));
    let regex = fields.take("regex");
    let fixed = fields.take("fixed_value");
    fields.finish();
    let (name, place) = name?;
    let name = name?;
    match (regex, fixed) {
        (None, Some(value)) => Some(Some(Extractor::fixed(name, value.string()?))),
        (Some(regex), None) => match Extractor::regex(name, &regex.string()?) {
            Some(extractor) => Some(Some(extractor)),
            None => regex.expected("a regular expression with one or two groups"),
        },
        (None, None) if OTHER_DEFAULTS.contains(&name.as_str()) => Some(None),
        (None, None) => match Extractor::default_of(&name) {
            Some(extractor) => Some(Some(extractor)),
            None => {
                place.unsupported(
                    "expected `regex` or `fixed_value` beside a tag that is no default tag of the harness",
                );
                None
            }
        },
        (Some(_), Some(_)) => node.expected("one of `regex` and `fixed_value`"),
    }
}

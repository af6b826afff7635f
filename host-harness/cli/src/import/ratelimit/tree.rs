//! Reader of ratelimit's files: a tree of keys and values with limits.

use crate::documents::At;
use crate::import::finding::{self, Findings, Place};
use crate::import::plan::Rate;
use crate::import::scalar;

/// File of a domain.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(super) nodes: Vec<Node>,
}

/// Descriptor with a key and perhaps a value.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) key: String,
    /// `None` for any value; with `*`, a pattern.
    pub(super) value: Option<String>,
    pub(super) limit: Option<NodeLimit>,
    pub(super) shares_threshold: bool,
    pub(super) nodes: Vec<Self>,
}

/// Limit of a descriptor.
#[derive(Debug)]
pub(super) struct NodeLimit {
    pub(super) place: Place,
    /// `None` for `unlimited`, and for a limit that is not translated.
    pub(super) rate: Option<Rate>,
    pub(super) name: String,
    pub(super) replaces: Vec<String>,
    pub(super) shadow_mode: bool,
}

const UNITS: [(&str, u64); 7] = [
    ("second", 1),
    ("minute", 60),
    ("hour", 3_600),
    ("day", 86_400),
    ("week", 604_800),
    ("month", 2_592_000),
    ("year", 31_536_000),
];

/// Reads a file with `domain` and `descriptors`.
pub(crate) fn read(root: &At<'_>, findings: &mut Findings) -> Option<Domain> {
    let name = root.field("domain").and_then(|at| scalar(&at)).unwrap_or_default();
    if name.is_empty() {
        findings.add(finding::INVALID, root, "descriptors without `domain`", "ratelimit refuses the file");
        return None;
    }
    let nodes = nodes(&root.each("descriptors"), findings);
    Some(Domain { place: Place::of(root), name, nodes })
}

fn nodes(items: &[At<'_>], findings: &mut Findings) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for at in items {
        let key = at.field("key").and_then(|at| scalar(&at)).unwrap_or_default();
        let value = at.field("value").and_then(|at| scalar(&at)).filter(|value| !value.is_empty());
        if key.is_empty() {
            findings.add(finding::INVALID, at, "a descriptor without `key`", "ratelimit refuses the file");
            continue;
        }
        if nodes.iter().any(|node| node.key == key && node.value == value) {
            findings.add(finding::INVALID, at, "the same key and value twice", "ratelimit refuses the file");
            continue;
        }
        let shares_threshold = at.is_set("share_threshold");
        if shares_threshold && !value.as_ref().is_some_and(|value| value.contains('*')) {
            let help = "ratelimit refuses the file: only a value with `*` shares its threshold";
            findings.add(finding::INVALID, at, "share_threshold without a wildcard", help);
        }
        for name in ["detailed_metric", "value_to_metric"] {
            if at.is_set(name) {
                let help = "Weir counts each limit, not each value; `events` has the values of decisions";
                findings.add(finding::METRICS, at, format!("{name} is ignored"), help);
            }
        }
        let limit = limit(at, findings);
        let nodes_below = self::nodes(&at.each("descriptors"), findings);
        nodes.push(Node { place: Place::of(at), key, value, limit, shares_threshold, nodes: nodes_below });
    }
    nodes
}

fn limit(at: &At<'_>, findings: &mut Findings) -> Option<NodeLimit> {
    let limit = at.field("rate_limit")?;
    if let Some(metadata) = at.field("metadata") {
        let help = "Weir sets no response metadata; `emit_metadata` writes the decision to filter state";
        findings.add(finding::FIELD, &metadata, "metadata of a descriptor", help);
    }
    let is_quota = at.is_set("quota_mode");
    if is_quota {
        let help = "a limit that denies only together with others has no counterpart; write the limits by hand";
        findings.add(finding::FIELD, at, "quota_mode", help);
    }
    let rate = if limit.is_set("unlimited") || is_quota { None } else { rate(&limit, findings) };
    let replaces = limit.each("replaces").iter().map(|at| at.text_of("name").to_owned()).collect();
    Some(NodeLimit {
        place: Place::of(&limit),
        rate,
        name: limit.field("name").and_then(|at| scalar(&at)).unwrap_or_default(),
        replaces,
        shadow_mode: at.is_set("shadow_mode"),
    })
}

fn rate(limit: &At<'_>, findings: &mut Findings) -> Option<Rate> {
    let unit = limit.text_of("unit").to_ascii_lowercase();
    let Some((_, seconds)) = UNITS.into_iter().find(|(name, _)| *name == unit) else {
        let help = "expected second, minute, hour, day, week, month or year";
        findings.add(finding::INVALID, limit, "a rate_limit without a known `unit`", help);
        return None;
    };
    if matches!(unit.as_str(), "month" | "year") {
        let help = "the result is equal: 30 or 365 days since 1970; for calendar months use `quota`";
        findings.add(finding::CALENDAR, limit, format!("a {unit} of ratelimit is not the calendar's"), help);
    }
    let max_requests = limit.field("requests_per_unit").map_or(Some(0), |at| at.integer());
    if max_requests.is_none() {
        findings.add(finding::INVALID, limit, "requests_per_unit is no number", "ratelimit refuses the file");
    }
    Some(Rate { max_requests: max_requests?, seconds })
}

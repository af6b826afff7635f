//! Section `overrides`: settings for overrides, which operators set in Redis at run time, and the windows of an
//! override.

use alloc::vec::Vec;

use serde_json::Value;

use super::algorithm::{self, ALGORITHMS};
use super::error::ConfigErrors;
use super::reader::Node;
use super::report::{Read, Report};
use crate::limit::Replacement;
use crate::units::Micros;

/// Fields of an override that is an object.
const FIELDS: &[&str] = &[
    "is",
    "max",
    "times",
    "until",
    "reason",
    "by",
    "token_bucket",
    "sliding_window",
    "fixed_window",
    "quota",
    "concurrency",
];

const DEFAULT_REFRESH_INTERVAL: Micros = Micros::from_secs(5);
const MIN_REFRESH_INTERVAL: Micros = Micros::from_millis(100);
const MAX_REFRESH_INTERVAL: Micros = Micros::from_secs(3_600);

/// Settings for overrides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverridesConfig {
    /// Longest time until a worker applies a change: 0.1 s to 1 h. Default 5 s.
    pub refresh_interval: Micros,
    /// Whether keys have overrides of their own, which Redis reads with every request. Default true.
    pub per_key: bool,
}

impl Default for OverridesConfig {
    fn default() -> Self {
        Self { refresh_interval: DEFAULT_REFRESH_INTERVAL, per_key: true }
    }
}

/// Reads the section. `None` where overrides are switched off.
pub(super) fn read(node: &Node<'_>) -> Read<Option<OverridesConfig>> {
    let fields = node.object(&["enabled", "refresh_interval", "per_key"])?;
    let enabled = fields.or("enabled", true, Node::boolean);
    let refresh_interval = fields.or("refresh_interval", DEFAULT_REFRESH_INTERVAL, |node| {
        node.duration(MIN_REFRESH_INTERVAL..=MAX_REFRESH_INTERVAL)
    });
    let per_key = fields.or("per_key", true, Node::boolean);
    let config = OverridesConfig { refresh_interval: refresh_interval?, per_key: per_key? };
    Ok(enabled?.then_some(config))
}

/// Reads the windows of an override, each with the fields, forms and bounds of a limit's own window.
///
/// # Errors
/// All errors of the windows at once.
pub(crate) fn replacements(value: &Value) -> Result<Vec<Replacement>, ConfigErrors> {
    let report = Report::default();
    let windows = windows(&Node::root(value, &report));
    report.finish(windows).map(|(windows, _)| windows)
}

fn windows(node: &Node<'_>) -> Read<Vec<Replacement>> {
    let fields = node.object(FIELDS)?;
    let named = ALGORITHMS.iter().filter_map(|kind| Some((kind, fields.field(kind)?)));
    let windows: Vec<Read<Replacement>> = named.map(|(kind, node)| algorithm::replacement(kind, node)).collect();
    windows.into_iter().collect()
}

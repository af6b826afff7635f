//! The section `overrides`: rates that operators set at run time, kept in Redis.

use super::reader::Node;
use crate::units::Micros;

const DEFAULT_REFRESH_INTERVAL: Micros = Micros::from_secs(5);
const MIN_REFRESH_INTERVAL: Micros = Micros::from_millis(100);
const MAX_REFRESH_INTERVAL: Micros = Micros::from_secs(3_600);

/// How overrides are picked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverridesConfig {
    /// How soon a worker knows of a change: 0.1 s to 1 h. Default 5 s.
    pub refresh_interval: Micros,
}

impl Default for OverridesConfig {
    fn default() -> Self {
        Self { refresh_interval: DEFAULT_REFRESH_INTERVAL }
    }
}

/// `None`, once read, where they are switched off.
pub(super) fn read(node: &Node<'_>) -> Option<Option<OverridesConfig>> {
    let fields = node.object(&["enabled", "refresh_interval"])?;
    let enabled = fields.or("enabled", true, Node::boolean);
    let refresh_interval = fields.or("refresh_interval", DEFAULT_REFRESH_INTERVAL, |node| {
        node.duration(MIN_REFRESH_INTERVAL..=MAX_REFRESH_INTERVAL)
    });
    let config = OverridesConfig { refresh_interval: refresh_interval? };
    Some(enabled?.then_some(config))
}

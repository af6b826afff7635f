//! Section `request_body`: the timeout for bodies, the bytes read of a body, and the treatment of unreadable bodies.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::reader::Node;
use super::report::Read;
use super::usage::UsageConfig;
use crate::descriptor::{JsonPointer, OnUnreadable};
use crate::limit::Limit;
use crate::units::Micros;

const FIELDS: &[&str] = &["max_bytes", "timeout", "on_unreadable"];
const DEFAULT_MAX_BYTES: usize = 65_536;
/// Most bytes read of a body: Envoy buffers no more of a request by default.
const MAX_MAX_BYTES: u64 = 1_048_576;
const DEFAULT_TIMEOUT: Micros = Micros::from_secs(1);
const MIN_TIMEOUT: Micros = Micros::from_millis(10);
const MAX_TIMEOUT: Micros = Micros::from_secs(60);
/// Most JSON pointers of all limits: more would make a scan of many keys slow.
const MAX_POINTERS: usize = 16;

/// Settings for reading request bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyConfig {
    /// Most bytes read of a body, ≤ 1 MiB. Default 64 KiB.
    pub max_bytes: usize,
    /// Longest time for which a request is held for its body: 10 ms to 60 s. Default 1 s.
    pub timeout: Micros,
    /// Treatment of a request with an unreadable body. By default its value is the entry's default.
    pub on_unreadable: OnUnreadable,
    pointers: Arc<Vec<JsonPointer>>,
    /// Pointers that each limit reads, one bit for each.
    of_limits: Vec<u32>,
    /// Pointers of which all values count that a body has, one bit for each.
    of_charges: u32,
    charges_length: bool,
}

/// Settings of the section itself.
pub(super) struct Section {
    max_bytes: usize,
    timeout: Micros,
    on_unreadable: OnUnreadable,
}

impl Default for Section {
    fn default() -> Self {
        Self { max_bytes: DEFAULT_MAX_BYTES, timeout: DEFAULT_TIMEOUT, on_unreadable: OnUnreadable::Default }
    }
}

pub(super) fn read(node: &Node<'_>) -> Read<Section> {
    let fields = node.object(FIELDS)?;
    let max_bytes = fields.or("max_bytes", DEFAULT_MAX_BYTES, |node| {
        node.integer_as(1..=MAX_MAX_BYTES, |bytes| usize::try_from(bytes).ok())
    });
    let timeout = fields.or("timeout", DEFAULT_TIMEOUT, |node| node.duration(MIN_TIMEOUT..=MAX_TIMEOUT));
    let on_unreadable = fields.or("on_unreadable", OnUnreadable::Default, self::on_unreadable);
    Ok(Section { max_bytes: max_bytes?, timeout: timeout?, on_unreadable: on_unreadable? })
}

/// Reads the treatment of unreadable bodies.
pub(super) fn on_unreadable(node: &Node<'_>) -> Read<OnUnreadable> {
    let kinds = [("skip", OnUnreadable::Skip), ("default", OnUnreadable::Default), ("reject", OnUnreadable::Reject)];
    node.one_of(&kinds)
}

impl Section {
    /// Returns the settings with the JSON pointers of `limits`, which were read from `node`.
    pub(super) fn with_limits(
        &self,
        limits: &[Limit],
        usage: Option<&UsageConfig>,
        node: Option<&Node<'_>>,
    ) -> Read<BodyConfig> {
        let (mut pointers, mut of_limits, mut of_charges) = (Vec::new(), Vec::new(), 0);
        let mut bit = |pointer: &JsonPointer| {
            let index = pointers.iter().position(|known| known == pointer).unwrap_or(pointers.len());
            if index == pointers.len() {
                pointers.push(pointer.clone());
            }
            u32::try_from(index).ok().and_then(|index| 1_u32.checked_shl(index)).unwrap_or(0)
        };
        for limit in limits {
            let (mut bits, mut of_charge) = (0, 0);
            limit.visit_pointers(&mut |pointer| bits |= bit(pointer));
            if let Some((charge, usage)) = limit.charge.as_ref().zip(usage) {
                charge.visit_pointers(&mut |pointer| of_charge |= bit(pointer));
                usage.visit_pointers(&mut |pointer| of_charge |= bit(pointer));
            }
            of_limits.push(bits | of_charge);
            of_charges |= of_charge;
        }
        if let Some(node) = node.filter(|_| pointers.len() > MAX_POINTERS) {
            return Err(node.expected("at most 16 different JSON pointers in all limits"));
        }
        Ok(BodyConfig {
            max_bytes: self.max_bytes,
            timeout: self.timeout,
            on_unreadable: self.on_unreadable,
            of_limits,
            of_charges,
            charges_length: limits.iter().any(|limit| limit.hits_addend.is_length() || limit.charge.is_some()),
            pointers: Arc::new(pointers),
        })
    }
}

impl BodyConfig {
    /// JSON pointers that limits read in bodies, each once.
    #[must_use]
    pub fn pointers(&self) -> &Arc<Vec<JsonPointer>> {
        &self.pointers
    }

    /// Pointers of which all values count that a body has, one bit for each: its last value would let a client state two
    /// maxima, of which its upstream may read the first.
    #[must_use]
    pub fn of_charges(&self) -> u32 {
        self.of_charges
    }

    /// Whether any limit depends on a request's body, or on its length.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.charges_length || !self.pointers.is_empty()
    }

    /// Whether the limit with index `limit` reads bodies: for its key, its cost, or what it charges.
    #[must_use]
    pub fn is_read_by(&self, limit: usize) -> bool {
        self.read_by(limit) != 0
    }

    /// Pointers that the limit with index `limit` reads, one bit for each.
    pub(super) fn read_by(&self, limit: usize) -> u32 {
        self.of_limits.get(limit).copied().unwrap_or(0)
    }
}

//! The section `request_body`: how long bodies are awaited, how much of them is read, and what becomes of those that
//! cannot be read.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Limit;
use super::error::Expected;
use super::reader::Node;
use crate::descriptor::{Attributes, JsonPointer};
use crate::units::Micros;

const FIELDS: &[&str] = &["max_bytes", "timeout", "on_unreadable"];
const DEFAULT_MAX_BYTES: u64 = 65_536;
/// Envoy buffers no more of a request unless told otherwise.
const MAX_MAX_BYTES: u64 = 1_048_576;
const DEFAULT_TIMEOUT: Micros = Micros::from_secs(1);
const MIN_TIMEOUT: Micros = Micros::from_millis(10);
const MAX_TIMEOUT: Micros = Micros::from_secs(60);
/// More would make a scan of many keys slow.
const MAX_POINTERS: usize = 16;

/// How request bodies are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyConfig {
    /// As much is read of a body, ≤ 1 MiB. Default 64 KiB.
    pub max_bytes: usize,
    /// How long a request is held for its body: 10 ms to a minute. Default 1 s.
    pub timeout: Micros,
    /// What becomes of a request whose body cannot be read. By default it has the entry's default.
    pub on_unreadable: OnUnreadable,
    pointers: Arc<Vec<JsonPointer>>,
    /// Which of the pointers each limit reads, a bit for each.
    of_limits: Vec<u32>,
    charges_length: bool,
}

/// What becomes of a request whose body cannot be read, at a limit that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnreadable {
    /// The limit does not apply, where the body is of its descriptor.
    Skip,
    /// The value is the entry's default, or `unreadable`.
    Default,
    /// It is answered 400.
    Reject,
}

/// What the section says itself.
pub(super) struct Section {
    max_bytes: u64,
    timeout: Micros,
    on_unreadable: OnUnreadable,
}

impl Default for Section {
    fn default() -> Self {
        Self { max_bytes: DEFAULT_MAX_BYTES, timeout: DEFAULT_TIMEOUT, on_unreadable: OnUnreadable::Default }
    }
}

pub(super) fn read(node: &Node<'_>) -> Option<Section> {
    let fields = node.object(FIELDS)?;
    let max_bytes = fields.or("max_bytes", DEFAULT_MAX_BYTES, |node| node.integer(1..=MAX_MAX_BYTES));
    let timeout = fields.or("timeout", DEFAULT_TIMEOUT, |node| node.duration(MIN_TIMEOUT..=MAX_TIMEOUT));
    let on_unreadable = fields.or("on_unreadable", OnUnreadable::Default, |node| {
        let kinds =
            [("skip", OnUnreadable::Skip), ("default", OnUnreadable::Default), ("reject", OnUnreadable::Reject)];
        node.one_of(&kinds, &[])
    });
    Some(Section { max_bytes: max_bytes?, timeout: timeout?, on_unreadable: on_unreadable? })
}

impl Section {
    /// With what the limits, which stand at `node`, read of bodies.
    pub(super) fn with_limits(&self, limits: &[Limit], node: Option<&Node<'_>>) -> Option<BodyConfig> {
        let (mut pointers, mut of_limits) = (Vec::new(), Vec::new());
        for limit in limits {
            let mut bits = 0;
            limit.visit_pointers(&mut |pointer| {
                let place = pointers.iter().position(|known| known == pointer).unwrap_or(pointers.len());
                if place == pointers.len() {
                    pointers.push(pointer.clone());
                }
                bits |= u32::try_from(place).ok().and_then(|place| 1_u32.checked_shl(place)).unwrap_or(0);
            });
            of_limits.push(bits);
        }
        if let Some(node) = node.filter(|_| pointers.len() > MAX_POINTERS) {
            return node.unexpected(Expected::The("at most 16 different JSON pointers in all limits"));
        }
        Some(BodyConfig {
            max_bytes: usize::try_from(self.max_bytes).ok()?,
            timeout: self.timeout,
            on_unreadable: self.on_unreadable,
            of_limits,
            charges_length: limits.iter().any(|limit| limit.hits_addend.is_length()),
            pointers: Arc::new(pointers),
        })
    }
}

impl BodyConfig {
    /// The places in bodies that limits read.
    #[must_use]
    pub fn pointers(&self) -> &Arc<Vec<JsonPointer>> {
        &self.pointers
    }

    /// Whether a request's body, or that it has one, makes a difference to any limit.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.charges_length || !self.pointers.is_empty()
    }

    /// Which of the pointers the limit of this index reads, a bit for each.
    pub(super) fn read_by(&self, limit: usize) -> u32 {
        self.of_limits.get(limit).copied().unwrap_or(0)
    }
}

impl super::Config {
    /// Which of the [pointers](BodyConfig::pointers) the limits read that concern `request`, a bit for each. Predicates
    /// read no bodies.
    #[must_use]
    pub fn pointers_for(&self, request: &dyn Attributes) -> u32 {
        self.concerning(request).fold(0, |bits, (limit, _)| bits | self.body.read_by(limit))
    }
}

//! Section `events`: decisions written to a Redis stream, for other programs to read.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::num::NonZeroU64;

use super::reader::Node;
use super::report::Read;
use crate::redis::Topology;

const DEFAULT_STREAM: &str = "events";
const DEFAULT_MAX_LEN: NonZeroU64 = NonZeroU64::MIN.saturating_add(9_999);
const MAX_MAX_LEN: u64 = 10_000_000;

/// Events: decisions that the filter writes to a Redis stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsConfig {
    /// The stream's whole key: 1 to 256 bytes without control characters. Default `{key_prefix}events`.
    pub stream: String,
    /// Approximate number of events that the stream keeps, ≤ 10,000,000. Default 10,000.
    pub max_len: NonZeroU64,
    /// The decisions that are events. Default denials.
    pub only: EventsOnly,
    /// Fraction of these decisions that is written. Default all.
    pub sample: Fraction,
    /// Whether the stream is the ledger too: an entry for each request that a limit charged. Off by default.
    pub usage: bool,
}

/// Decisions that are events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsOnly {
    /// Denials by a limit.
    Denied,
    /// All decisions.
    All,
}

/// Fraction of a whole, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction(u32);

impl Fraction {
    const WHOLE: u32 = 1_000_000;
    /// Fraction of all events.
    pub const ALL: Self = Self(Self::WHOLE);

    /// Whether an event with the random number `random` is in the fraction. All numbers must be equally likely.
    #[must_use]
    pub fn picks(self, random: u64) -> bool {
        random.checked_rem(Self::WHOLE.into()).is_some_and(|part| part < self.0.into())
    }
}

pub(super) fn read(node: &Node<'_>, key_prefix: &str, topology: Topology) -> Read<EventsConfig> {
    let fields = node.object(&["stream", "max_len", "only", "sample", "usage"])?;
    let stream = fields.optional("stream", |node| {
        node.text_matching("a key of 1 to 256 bytes without control characters", |text| {
            (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
        })
    });
    let max_len = fields.or("max_len", DEFAULT_MAX_LEN, |node| node.integer_as(1..=MAX_MAX_LEN, NonZeroU64::new));
    let only = fields.or("only", EventsOnly::Denied, |node| {
        node.one_of(&[("denied", EventsOnly::Denied), ("all", EventsOnly::All)])
    });
    let sample = fields.or("sample", Fraction::ALL, fraction);
    let usage = fields.or("usage", false, |node| {
        let usage = node.boolean()?;
        let is_possible = !usage || topology == Topology::Single;
        is_possible.then_some(usage).ok_or_else(|| node.expected("false with redis.topology: cluster"))
    });
    Ok(EventsConfig {
        stream: stream?.map_or_else(|| [key_prefix, DEFAULT_STREAM].concat(), str::to_owned),
        max_len: max_len?,
        only: only?,
        sample: sample?,
        usage: usage?,
    })
}

/// Reads a number from 0 to 1.
fn fraction(node: &Node<'_>) -> Read<Fraction> {
    let part = node.decimal().filter(|part| (0.0..=1.0).contains(part));
    let Some(part) = part else { return Err(node.expected("a fraction from 0 to 1")) };
    let part = part * f64::from(Fraction::WHOLE);
    // Rounded up: a fraction above 0 never becomes 0.
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 10⁶")]
    #[expect(clippy::cast_sign_loss, reason = "between 0 and 10⁶")]
    let whole = part as u32;
    Ok(Fraction(whole.saturating_add((f64::from(whole) < part).into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_picks_its_share_of_all_numbers() {
        let tenth = Fraction(100_000);
        assert_eq!((0..1_000_000).filter(|random| tenth.picks(*random)).count(), 100_000);
        assert!(Fraction::ALL.picks(u64::MAX) && !Fraction(0).picks(0));
    }
}

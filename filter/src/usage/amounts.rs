//! Tokens of a response: the numbers that it contains, and their normal form.

use alloc::string::String;

use super::document::{Found, Sink};
use super::field::{Field, NUMBERS};
use super::prices::NanoUsd;
use crate::table::is_same;

/// Numbers of a response, by their fields.
pub type Numbers = [Option<u64>; NUMBERS];

/// Readings of a response: what it says of its cost. Of each field, the last value counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readings {
    numbers: Numbers,
    /// Number of times that one of these was told, modulo 2³².
    told: u32,
    /// Cost that the provider tells.
    pub cost: Option<NanoUsd>,
    /// Name of the model that answered.
    pub model: Option<String>,
    /// Service tier by which the response is billed.
    pub service_tier: Option<String>,
    /// Whether the response says that it is still to be computed.
    pub is_pending: bool,
    /// Whether the response contains an error.
    pub has_error: bool,
    /// Values of fields that are neither a whole number nor `null`: negative ones, fractions, texts, and those beyond
    /// 64 bits; and costs that are none.
    pub unreadable: u32,
    /// Documents and events that are malformed.
    pub malformed: u32,
}

/// Tokens of a response, each counted in one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the request, without those below.
    pub input: u64,
    /// Tokens of the request that were read from a cache.
    pub cache_read: u64,
    /// Tokens of the request that were written to a cache, without those below.
    pub cache_write: u64,
    /// Tokens of the request that were written to a cache for an hour.
    pub cache_write_1h: u64,
    /// Tokens of the response, those of reasoning included.
    pub output: u64,
}

impl Usage {
    /// Returns all tokens, or 2⁶⁴ − 1 if there are more.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.cache_read, self.cache_write, self.cache_write_1h, self.output]
            .into_iter()
            .fold(self.input, u64::saturating_add)
    }
}

impl From<Numbers> for Readings {
    fn from(numbers: Numbers) -> Self {
        Self { numbers, ..Self::default() }
    }
}

impl Readings {
    fn tell_cost(&mut self, cost: Option<NanoUsd>) {
        match cost {
            Some(_) => self.cost = cost,
            None => self.unreadable = self.unreadable.saturating_add(1),
        }
    }

    fn number(&self, field: Field) -> u64 {
        self.known(field).unwrap_or(0)
    }

    fn known(&self, field: Field) -> Option<u64> {
        self.numbers.get(field as usize).copied().flatten()
    }

    /// Number of times that a number was told, modulo 2³²: while it stays the same, so does [`usage`](Self::usage).
    #[must_use]
    pub(crate) fn told(&self) -> u32 {
        self.told
    }

    /// Whether the response has told the tokens of its answer, and not of the request alone.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.known(Field::Completion).or(self.known(Field::Total)).is_some()
    }

    /// Returns the tokens of the response, or `None` if it tells none.
    ///
    /// Tokens from a cache are part of the request's in some APIs, and beside them in others; so are those of reasoning.
    /// The fields' names tell which. Where reasoning has no field of its own, the total contains it.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let told = [Field::Prompt, Field::Completion, Field::Total].map(|field| self.known(field));
        told.iter().any(Option::is_some).then(|| {
            let prompt = self.number(Field::Prompt).saturating_add(self.number(Field::ToolPrompt));
            let cached = self.number(Field::Cached);
            let inside = self.number(Field::CacheWritten);
            let written = self.number(Field::CacheWrite).saturating_add(inside);
            let written_1h = self.number(Field::CacheWriteHour);
            let completion = self.number(Field::Completion).saturating_add(self.number(Field::Thoughts));
            Usage {
                input: prompt.saturating_sub(cached).saturating_sub(inside),
                cache_read: cached.saturating_add(self.number(Field::CacheRead)),
                cache_write: written.saturating_sub(written_1h),
                cache_write_1h: written_1h,
                output: completion.max(self.number(Field::Total).saturating_sub(prompt)),
            }
        })
    }
}

impl Sink for Readings {
    fn found(&mut self, field: Field, found: Found<'_>) {
        match (field, found) {
            (Field::Error, _) => self.has_error = true,
            (Field::Model, Found::Text(name)) => set(&mut self.model, name),
            (Field::ServiceTier, Found::Text(name)) => set(&mut self.service_tier, name),
            (Field::Status, Found::Text(status)) => self.is_pending = matches!(status, b"queued" | b"in_progress"),
            (Field::Cost, Found::Written(dollars)) => self.tell_cost(NanoUsd::of_dollars(dollars)),
            (Field::CostTicks, Found::Number(ticks)) => self.tell_cost(NanoUsd::of_ticks(ticks)),
            (Field::Model | Field::ServiceTier | Field::Status | Field::Bytes, _) => {}
            (field, Found::Number(number)) => {
                if let Some(known) = self.numbers.get_mut(field as usize) {
                    *known = Some(number);
                    self.told = self.told.wrapping_add(1);
                }
            }
            _ => self.unreadable = self.unreadable.saturating_add(1),
        }
    }
}

/// Sets a text. Most events of a stream repeat it.
#[inline(never)]
fn set(known: &mut Option<String>, text: &[u8]) {
    if known.as_ref().is_none_or(|known| !is_same(known.as_bytes(), text)) {
        *known = Some(String::from_utf8_lossy(text).into_owned());
    }
}

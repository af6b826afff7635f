//! Charge of a limit: the tokens or the money that a response costs, held before it and settled after it.
//!
//! A check holds an [estimate](Held) of what the request will cost. However the request ends, it is settled once by the
//! [amount](Charge::amount) that it has cost.

use alloc::string::String;
use alloc::vec::Vec;

use super::near_limit::NearLimit;
use crate::descriptor::{JsonPointer, Source};
use crate::units::Micros;
use crate::usage::{NanoUsd, Usage};

/// Greatest amount: Redis' scripts count exactly up to it.
pub const MAX_AMOUNT: u64 = NanoUsd::MAX.0;
/// Bytes of a response's text for each token of it, for responses that are cut off before they tell their usage.
const BYTES_PER_TOKEN: u64 = 4;

/// Settings of a limit that charges what responses cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Amounts that the limit counts.
    pub of: Charged,
    /// Estimate of a request's cost. `None`: nothing is held, and a request is denied once the limit is spent.
    pub reserve: Option<Reserve>,
    /// Treatment of a request whose estimate exceeds what is left.
    pub when_short: WhenShort,
    /// Time for which an estimate is held without news of its request.
    pub lease: Micros,
    /// Charge of a request of whose end nothing is known: its proxy died.
    pub on_lost: OnLost,
    /// Charge of a whole response that does not tell its usage.
    pub on_missing_usage: Fallback,
    /// Charge of a response that was cut off before it told its usage.
    pub on_disconnect: Fallback,
    /// Share of the limit from which responses say that it is nearly spent.
    pub soft_limit: Option<NearLimit>,
}

/// Amounts that a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// Money, in nano-USD.
    Cost,
    /// Tokens, times their weights.
    Tokens(Weights),
}

/// Weights of the kinds of tokens, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Weight of [`Usage::input`].
    pub input: u32,
    /// Weight of [`Usage::cache_read`].
    pub cache_read: u32,
    /// Weight of [`Usage::cache_write`].
    pub cache_write: u32,
    /// Weight of [`Usage::cache_write_1h`].
    pub cache_write_1h: u32,
    /// Weight of [`Usage::output`].
    pub output: u32,
}

/// Estimate of a request's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Tokens of the request.
    pub input: InputEstimate,
    /// Tokens of the response.
    pub output: OutputEstimate,
}

/// Estimate of the tokens of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputEstimate {
    /// The same for all requests.
    Constant(u64),
    /// From the bytes of the body.
    Bytes {
        /// Bytes for each token, ≥ 1.
        per_token: u64,
        /// Tokens of an image, whose bytes do not count.
        per_image: u64,
        /// Tokens beside those of the body.
        plus: u64,
    },
    /// The largest number that a part of the request states.
    Stated(Source),
}

impl InputEstimate {
    /// Estimate of requests of which nothing else is known.
    pub const BY_DEFAULT: Self = Self::Bytes { per_token: 3, per_image: 1_600, plus: 0 };
}

/// Estimate of the tokens of a response: the maximum that the request states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputEstimate {
    /// Places of the maximum in the request's body, of which the largest number counts.
    pub pointers: Vec<JsonPointer>,
    /// Estimate where the request states no maximum.
    pub default: u64,
    /// Greatest estimate of one answer, unless the maximum is enforced.
    pub max: u64,
    /// Place of the number of answers.
    pub times: Option<JsonPointer>,
    /// Whether the default is written into requests without a maximum, so that no response is longer.
    pub enforce: bool,
}

/// Treatment of a request whose estimate exceeds what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenShort {
    /// The request is denied.
    Deny,
    /// The request is admitted while anything is left, and holds the rest.
    TakeRest,
}

/// Charge of a request of whose end nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLost {
    /// The whole estimate.
    Estimate,
    /// The estimate of the request's own tokens.
    Input,
    /// No charge.
    Refund,
}

/// Charge of a response without usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The estimate.
    Estimate,
    /// Tokens of the part of the response that was seen, at most the estimate.
    Seen,
    /// No charge.
    Zero,
}

/// Amounts of a request before its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Estimate of the whole cost: 0 to [`MAX_AMOUNT`].
    pub estimate: u64,
    /// Part of the estimate that is the request's own tokens.
    pub floor: u64,
}

/// End of a request, as far as it matters to its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No response of the upstream, or one of another status than 2xx.
    Unserved,
    /// Whole response.
    Complete,
    /// Response that the client or the upstream cut off.
    CutOff,
    /// Response that reports an error within a status of 2xx.
    Failed,
    /// Response that only says that the answer is still to be computed.
    Background,
    /// Switch to another protocol.
    Upgraded,
    /// Response that is compressed, or of a type that is not read.
    Opaque,
}

/// Usage and text of a response that were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Usage that the response has told, if any.
    pub usage: Option<Usage>,
    /// Whether the usage tells the tokens of the response as well.
    pub has_output: bool,
    /// Bytes of the response's text.
    pub text_bytes: u64,
}

/// Origin of an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsageSource {
    /// No charge.
    Zero,
    /// Estimate of the check.
    Estimate,
    /// Part of the response that was seen.
    Seen,
    /// Usage that the response told.
    Usage,
}

/// Entry of the ledger for a request, beside the amounts of each limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Model that answered, else the model of the request.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
    /// Cost. `None` where there are no prices.
    pub cost: Option<NanoUsd>,
    /// Origin of the tokens.
    pub source: UsageSource,
    /// Status of the response. 0: none.
    pub status: u16,
}

impl Weights {
    /// Returns one weight for all tokens of a request, and one for those of its response.
    #[must_use]
    pub const fn all(input: u32, output: u32) -> Self {
        Self { input, cache_read: input, cache_write: input, cache_write_1h: input, output }
    }

    /// Returns the weighted sum of `usage`, rounded up.
    fn sum(self, usage: &Usage) -> u64 {
        let parts = [
            (usage.input, self.input),
            (usage.cache_read, self.cache_read),
            (usage.cache_write, self.cache_write),
            (usage.cache_write_1h, self.cache_write_1h),
            (usage.output, self.output),
        ];
        let product = |(tokens, weight): (u64, u32)| u128::from(tokens).saturating_mul(weight.into());
        let sum = parts.into_iter().map(product).fold(0, u128::saturating_add);
        // Thousandths beyond 64 bits are more than the greatest amount.
        u64::try_from(sum).map_or(MAX_AMOUNT, |sum| sum.div_ceil(1_000).min(MAX_AMOUNT))
    }

    /// The same weights with that of the dearest kind for all tokens of the request, which may turn out to be any.
    fn bound(self) -> Self {
        let dearest = self.input.max(self.cache_read).max(self.cache_write).max(self.cache_write_1h);
        Self::all(dearest, self.output)
    }
}

impl Charged {
    /// Returns the amount of `usage`, whose price is `cost`.
    #[must_use]
    pub fn amount(self, usage: &Usage, cost: &dyn Fn(&Usage) -> NanoUsd) -> u64 {
        match self {
            Self::Cost => cost(usage).0,
            Self::Tokens(weights) => weights.sum(usage),
        }
    }

    /// Returns the most that `input` and `output` tokens may turn out to cost. `bound` is the most of their price.
    #[must_use]
    pub fn held(self, input: u64, output: u64, bound: &dyn Fn(&Usage) -> NanoUsd) -> Held {
        let of = |output| {
            let usage = Usage { input, output, ..Usage::default() };
            match self {
                Self::Cost => bound(&usage).0,
                Self::Tokens(weights) => weights.bound().sum(&usage),
            }
        };
        Held { estimate: of(output), floor: of(0) }
    }
}

impl Charge {
    /// Returns the amount that a request has cost, and where it is from. `held` is the request's estimate, and `input`
    /// that of its own tokens; `cost` is the price of tokens.
    #[must_use]
    pub fn amount(
        &self,
        ending: Ending,
        held: Held,
        input: u64,
        seen: &Seen,
        cost: &dyn Fn(&Usage) -> NanoUsd,
    ) -> (u64, UsageSource) {
        let (fallback, needs_output) = match ending {
            Ending::Unserved => (Fallback::Zero, true),
            Ending::Complete | Ending::Opaque => (self.on_missing_usage, false),
            Ending::CutOff => (self.on_disconnect, true),
            Ending::Failed => (Fallback::Seen, true),
            Ending::Background | Ending::Upgraded => (Fallback::Estimate, false),
        };
        let is_told = seen.usage.filter(|_| ending != Ending::Unserved && (seen.has_output || !needs_output));
        match (is_told, fallback) {
            (Some(usage), _) => (self.of.amount(&usage, cost), UsageSource::Usage),
            (None, Fallback::Estimate) => (held.estimate, UsageSource::Estimate),
            (None, Fallback::Seen) => {
                let amount = self.of.amount(&seen.tokens(input), cost);
                // Without a reservation nothing was estimated.
                let most = if self.reserve.is_some() { held.estimate } else { MAX_AMOUNT };
                (amount.min(most), UsageSource::Seen)
            }
            (None, Fallback::Zero) => (0, UsageSource::Zero),
        }
    }

    /// Visits the JSON pointers at which requests are read for their estimate.
    pub(crate) fn visit_pointers(&self, visit: &mut dyn FnMut(&JsonPointer)) {
        if let Some(Reserve { input, output }) = &self.reserve {
            let of_input = if let InputEstimate::Stated(source) = input { source.json_pointer() } else { None };
            output.pointers.iter().chain(&output.times).chain(of_input).for_each(visit);
        }
    }
}

impl Seen {
    /// Returns the tokens of a response that has told them only in part. `input` is the estimate of the request's.
    #[must_use]
    pub fn tokens(&self, input: u64) -> Usage {
        let known = self.usage.unwrap_or(Usage { input, ..Usage::default() });
        let output = if self.has_output { known.output } else { self.text_bytes.div_ceil(BYTES_PER_TOKEN) };
        Usage { output, ..known }
    }
}

impl UsageSource {
    /// Name in the ledger and in the access log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Estimate => "estimate",
            Self::Seen => "seen",
            Self::Usage => "usage",
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may overflow: that is how they fail")]
mod tests;

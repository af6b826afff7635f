//! Algorithms of one limit: each has a bucket of its own, and a request must fit into all of them.

use alloc::string::String;
use alloc::vec::Vec;

use super::algorithm::bounds::MAX_WINDOWS;
use super::algorithm::{Algorithm, Budget, Kind, TokenBucket};
use super::charge::Charge;
use super::check::BucketCheck;
use super::replacement::Replacement;
use super::scale::Scale;
use crate::units::{Micros, Tokens};

/// Algorithms of one limit, such as 10 tokens a second and 1,000 a day, each with its state under a key of its own.
///
/// A limit of one token bucket, leased or not, has its state under the limit's own key. All other keys end in `#` and
/// the algorithm's [tag](Algorithm::tag), which no descriptor's value can forge: no algorithm reads a state that it
/// would misread, however an operator changes a limit or orders its windows. Token buckets of any size and rate read
/// each other's state: of several token buckets the slowest has the suffix `#token`, the next `#token2`, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms(Vec<Window>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    algorithm: Algorithm,
    /// Suffix after the limit's key.
    suffix: String,
}

/// Algorithms that one limit cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmsError {
    /// No algorithm, or too many.
    #[error("expected 1 to {MAX_WINDOWS} windows, found {found}")]
    Count {
        /// Number of algorithms.
        found: usize,
    },
    /// Two algorithms that differ in their limits alone: the larger limit would never deny a request.
    #[error("expected windows of different kinds or lengths, found that {first} and {second} (from 0) are alike")]
    Alike {
        /// Index of the first window.
        first: usize,
        /// Index of the second window.
        second: usize,
    },
}

impl Algorithms {
    /// Returns `algorithms` as those of one limit.
    ///
    /// # Errors
    /// Where there are none or more than 8, or two of a kind have the same length.
    pub fn new(algorithms: &[Algorithm]) -> Result<Self, AlgorithmsError> {
        if !(1..=MAX_WINDOWS).contains(&algorithms.len()) {
            return Err(AlgorithmsError::Count { found: algorithms.len() });
        }
        if let [bucket @ (Algorithm::TokenBucket(_) | Algorithm::NoTokens)] = algorithms {
            return Ok(Self::alone(*bucket));
        }
        let mut windows: Vec<Window> = Vec::with_capacity(algorithms.len());
        for (second, algorithm) in algorithms.iter().enumerate() {
            let suffix = suffix(algorithm, algorithms);
            if let Some(first) = windows.iter().position(|window| window.suffix == suffix) {
                return Err(AlgorithmsError::Alike { first, second });
            }
            windows.push(Window { algorithm: *algorithm, suffix });
        }
        Ok(Self(windows))
    }

    /// Returns the only algorithm of a limit, with its state under the limit's own key.
    fn alone(algorithm: Algorithm) -> Self {
        Self(vec![Window { algorithm, suffix: String::new() }])
    }

    /// The algorithms, in the order of the configuration.
    pub fn algorithms(&self) -> impl Iterator<Item = &Algorithm> {
        self.0.iter().map(|window| &window.algorithm)
    }

    /// Longest time for which a request may be held until its tokens exist.
    #[must_use]
    pub fn max_delay(&self) -> Micros {
        let delays = self.algorithms().map(|algorithm| match algorithm {
            Algorithm::TokenBucket(bucket) => bucket.max_delay(),
            _ => Micros::ZERO,
        });
        delays.max().unwrap_or(Micros::ZERO)
    }

    /// The first budget. `None` where no request reserves anything.
    fn budget(&self) -> Option<Budget> {
        self.algorithms()
            .find_map(|algorithm| if let Algorithm::Budget(budget) = algorithm { Some(*budget) } else { None })
    }

    /// Whether one of the algorithms limits requests in flight.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        self.algorithms().any(|algorithm| algorithm.kind() == Kind::Concurrency)
    }

    /// Index of the first window that denies every request. `None` where there is none.
    #[must_use]
    pub fn blocking(&self) -> Option<usize> {
        self.algorithms().position(Algorithm::admits_nothing)
    }

    /// Returns the algorithms while an override holds: each replacement replaces the window of its kind, and all other
    /// windows stay.
    ///
    /// Of several windows of its kind, a replacement replaces the one of the same length, or the token bucket with the
    /// nearest time to fill. Where there is none, the replacement is an additional window. A window of the same length
    /// keeps its state, and so does any token bucket: spent tokens stay spent.
    #[must_use]
    #[inline(never)]
    pub fn overridden(&self, replacements: &[Replacement]) -> Self {
        let max_delay = self.max_delay();
        let mut windows = self.0.clone();
        for replacement in replacements {
            let position = self.position_of(replacement);
            match position.and_then(|position| windows.get_mut(position)) {
                Some(window) => {
                    let own = window.algorithm;
                    window.algorithm = replacement.in_place_of(&own, max_delay);
                    let is_kept = own.kind() == Kind::TokenBucket && own != Algorithm::NoTokens;
                    if !is_kept && !window.suffix.is_empty() {
                        window.suffix = suffix(&window.algorithm, &[]);
                    }
                }
                None => {
                    // A limit without a token bucket shapes nothing.
                    let own = replacement.algorithm;
                    let algorithm = self.budget().and_then(|budget| budget.with(own)).map_or(own, Algorithm::Budget);
                    windows.push(Window { algorithm, suffix: suffix(&algorithm, &[]) });
                }
            }
        }
        Self(windows)
    }

    /// Returns the algorithms with reservations of estimates, as `charge` says. `None` where one of them has none.
    #[must_use]
    pub fn reserving(&self, charge: &Charge) -> Option<Self> {
        let reserving: Option<Vec<_>> = self.algorithms().map(|algorithm| algorithm.reserving(charge)).collect();
        Self::new(&reserving?).ok()
    }

    /// Returns the algorithms while an override of their numbers holds. Every bucket keeps its state: spent tokens stay
    /// spent.
    #[must_use]
    pub fn scaled(&self, scale: Scale) -> Self {
        self.resized(&|_, own| scale.applied_to(own))
    }

    /// Returns the algorithms with other numbers, which `resize` returns for each window's index and algorithm. Every
    /// bucket keeps its state.
    #[inline(never)]
    pub(super) fn resized(&self, resize: &dyn Fn(usize, &Algorithm) -> Algorithm) -> Self {
        let resized = |(index, Window { algorithm: own, suffix: kept }): (usize, &Window)| {
            let algorithm = resize(index, own);
            let is_kept = own.kind() == Kind::TokenBucket || own.tag() == algorithm.tag();
            Window { algorithm, suffix: if is_kept { kept.clone() } else { suffix(&algorithm, &[]) } }
        };
        Self(self.0.iter().enumerate().map(resized).collect())
    }

    /// Index of the window that `replacement` replaces. `None` where it is an additional window.
    fn position_of(&self, replacement: &Replacement) -> Option<usize> {
        let kind = replacement.algorithm.kind();
        let own = || self.algorithms().enumerate().filter(|(_, algorithm)| algorithm.kind() == kind);
        let mut all = own();
        match (all.next(), all.next()) {
            (Some((only, _)), None) => Some(only),
            (Some(_), Some(_)) => match replacement.algorithm {
                Algorithm::TokenBucket(bucket) => {
                    own().min_by_key(|(_, algorithm)| distance(algorithm, &bucket)).map(|(position, _)| position)
                }
                _ => {
                    let is_as_long = |own: &Algorithm| replacement.in_place_of(own, Micros::ZERO).tag() == own.tag();
                    own().find(|(_, algorithm)| is_as_long(algorithm)).map(|(position, _)| position)
                }
            },
            _ => None,
        }
    }

    /// Returns the bucket checks of a request for the limit of index `limit`, with the limit's key `key`.
    pub fn checks(
        &self,
        limit: usize,
        key: impl Into<Vec<u8>>,
        cost: Tokens,
        enforced: bool,
    ) -> impl Iterator<Item = BucketCheck> {
        let mut key = key.into();
        let last = self.0.len().saturating_sub(1);
        self.0.iter().enumerate().map(move |(window, Window { algorithm, suffix })| {
            // The last window gets the buffer itself.
            let mut key = if window == last { core::mem::take(&mut key) } else { key.clone() };
            key.extend_from_slice(suffix.as_bytes());
            BucketCheck { limit, window, key, algorithm: *algorithm, cost, enforced, applied: None }
        })
    }
}

/// Suffix after the limit's key for the state of `algorithm`, one of `all` algorithms of the limit.
fn suffix(algorithm: &Algorithm, all: &[Algorithm]) -> String {
    let tag = algorithm.tag();
    let own = |algorithm: &Algorithm| match algorithm {
        Algorithm::Budget(budget) => budget.algorithm().token_bucket().copied(),
        other => other.token_bucket().copied(),
    };
    let Some(bucket) = own(algorithm) else { return ["#", &tag].concat() };
    let buckets = all.iter().filter_map(own);
    match buckets.filter(|other| bucket.rate().is_faster_than(&other.rate())).count() {
        _ if all.len() == 1 && !matches!(algorithm, Algorithm::Budget(_)) => String::new(),
        0 => ["#", &tag].concat(),
        slower => format!("#{tag}{}", slower.saturating_add(1)),
    }
}

impl From<TokenBucket> for Algorithms {
    fn from(bucket: TokenBucket) -> Self {
        Self::alone(Algorithm::TokenBucket(bucket))
    }
}

/// Ratio of the longer fill time of two token buckets to the shorter, in 1,024ths. `u64::MAX` for other algorithms.
fn distance(algorithm: &Algorithm, bucket: &TokenBucket) -> u64 {
    let own = if let Algorithm::Budget(budget) = algorithm { budget.algorithm() } else { *algorithm };
    let Algorithm::TokenBucket(own) = own else { return u64::MAX };
    let [own, other] = [&own, bucket].map(|bucket| bucket.fill_time().0);
    own.max(other).saturating_mul(1_024).checked_div(own.min(other)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

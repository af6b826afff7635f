//! The algorithms of one limit: each keeps a bucket of its own, and a request must fit into all of them.

use alloc::string::String;
use alloc::vec::Vec;

use super::algorithm::Algorithm;
use super::check::Asked;
use super::token_bucket::TokenBucket;
use crate::units::{Micros, Tokens};

/// The most algorithms that one limit may have.
const MAX_WINDOWS: usize = 8;

/// One algorithm or more, such as 10 a second and 1,000 a day, none of which keeps its state where another does.
///
/// A limit that is one token bucket keeps it under the limit's own key, whether tokens are leased of it or not. All
/// others have `#` and the algorithm's [tag](Algorithm::tag) after it, which no descriptor's value can forge: whatever an
/// operator changes a limit to, and in whatever order its windows stand, no state is read by an algorithm that would
/// misread it. Token buckets of any size and rate read each other's state: of several windows the slowest is `#token`,
/// the next `#token2`, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    algorithm: Algorithm,
    /// What follows the limit's key.
    suffix: String,
}

/// Why algorithms cannot be those of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowsError {
    /// None, or too many.
    #[error("expected 1 to {MAX_WINDOWS} windows, found {found}")]
    Count {
        /// So many.
        found: usize,
    },
    /// Two that differ in their limits alone: the larger never says anything.
    #[error("expected windows of different kinds or lengths, found that {first} and {second} (from 0) are alike")]
    Alike {
        /// The one's place.
        first: usize,
        /// The other's.
        second: usize,
    },
}

impl Windows {
    /// These algorithms.
    ///
    /// # Errors
    /// Where there are none or more than 8, or two of a kind are of the same length.
    pub fn new(algorithms: &[Algorithm]) -> Result<Self, WindowsError> {
        if !(1..=MAX_WINDOWS).contains(&algorithms.len()) {
            return Err(WindowsError::Count { found: algorithms.len() });
        }
        let mut windows: Vec<Window> = Vec::with_capacity(algorithms.len());
        for (second, algorithm) in algorithms.iter().enumerate() {
            let suffix = suffix(algorithm, algorithms);
            if let Some(first) = windows.iter().position(|window| window.suffix == suffix) {
                return Err(WindowsError::Alike { first, second });
            }
            windows.push(Window { algorithm: *algorithm, suffix });
        }
        Ok(Self(windows))
    }

    /// The algorithms, in the order of the configuration.
    pub fn algorithms(&self) -> impl Iterator<Item = &Algorithm> {
        self.0.iter().map(|window| &window.algorithm)
    }

    /// The longest that a request may be held until its tokens exist.
    #[must_use]
    pub fn max_delay(&self) -> Micros {
        let delays = self.algorithms().map(|algorithm| match algorithm {
            Algorithm::TokenBucket(bucket) => bucket.max_delay(),
            _ => Micros::ZERO,
        });
        delays.max().unwrap_or(Micros::ZERO)
    }

    /// These, while an operator has them be `bucket`: shaped as they are. What is too slow to be shaped is not.
    #[must_use]
    pub fn replaced_by(&self, bucket: TokenBucket) -> Self {
        Self::from(bucket.with_max_delay(self.max_delay()).unwrap_or(bucket))
    }

    /// What a request asks that runs into the limit of the index `limit`, whose key for it is `key`.
    pub fn asked(
        &self,
        limit: usize,
        key: impl Into<Vec<u8>>,
        cost: Tokens,
        enforced: bool,
    ) -> impl Iterator<Item = Asked> {
        let mut key = key.into();
        let last = self.0.len().saturating_sub(1);
        self.0.iter().enumerate().map(move |(window, Window { algorithm, suffix })| {
            // The last one gets the buffer itself.
            let mut key = if window == last { core::mem::take(&mut key) } else { key.clone() };
            key.extend_from_slice(suffix.as_bytes());
            Asked { limit, window, key, algorithm: *algorithm, cost, enforced }
        })
    }
}

/// What follows the limit's key where the state of one of its algorithms is kept.
fn suffix(algorithm: &Algorithm, all: &[Algorithm]) -> String {
    let tag = algorithm.tag();
    let Some(bucket) = algorithm.token_bucket() else { return ["#", &tag].concat() };
    let buckets = all.iter().filter_map(Algorithm::token_bucket);
    match buckets.filter(|other| bucket.rate().is_faster_than(&other.rate())).count() {
        _ if all.len() == 1 => String::new(),
        0 => ["#", &tag].concat(),
        slower => format!("#{tag}{}", slower.saturating_add(1)),
    }
}

impl From<TokenBucket> for Windows {
    fn from(bucket: TokenBucket) -> Self {
        Self(vec![Window { algorithm: Algorithm::TokenBucket(bucket), suffix: String::new() }])
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::limit::{Concurrency, FixedWindow, LeasedBucket, Period, Quota, SlidingLog, SlidingWindow};

    fn n(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    fn per_second(capacity: u64) -> Algorithm {
        Algorithm::TokenBucket(TokenBucket::new(n(capacity), n(10), Micros::from_secs(1)).unwrap())
    }

    fn quota(limit: u64, period: Period, offset: i32) -> Algorithm {
        Algorithm::Quota(Quota::new(n(limit), period, offset).unwrap())
    }

    fn keys(algorithms: &[Algorithm]) -> Vec<String> {
        let windows = Windows::new(algorithms).unwrap();
        windows.asked(0, b"key", Tokens(1), true).map(|asked| String::from_utf8(asked.key).unwrap()).collect()
    }

    #[test]
    fn a_token_bucket_alone_has_the_limits_own_key() {
        assert_eq!(keys(&[per_second(10)]), ["key"]);
    }

    #[test]
    fn every_other_bucket_is_tagged_with_what_keeps_it() {
        let secs = Micros::from_secs;
        assert_eq!(
            keys(&[
                per_second(10),
                quota(1_000, Period::Day, -90),
                Algorithm::SlidingLog(SlidingLog::new(n(5), secs(1)).unwrap()),
                Algorithm::SlidingWindow(SlidingWindow::new(n(5), secs(1)).unwrap()),
                Algorithm::FixedWindow(FixedWindow::new(n(5), secs(1)).unwrap()),
                Algorithm::Concurrency(Concurrency::new(n(5), secs(1)).unwrap()),
            ]),
            ["key#token", "key#day-90", "key#log1000000", "key#sliding1000000", "key#fixed1000000", "key#concurrency"]
        );
        assert_eq!(keys(&[quota(1_000, Period::Day, 0)]), ["key#day0"]);
    }

    #[test]
    fn token_buckets_keep_their_places_when_rates_change() {
        let rate =
            |tokens, secs| Algorithm::TokenBucket(TokenBucket::new(n(9), n(tokens), Micros::from_secs(secs)).unwrap());
        assert_eq!(keys(&[rate(10, 1), rate(100, 3_600)]), ["key#token2", "key#token"]);
        assert_eq!(keys(&[rate(20, 1), rate(150, 3_600)]), ["key#token2", "key#token"]);
        assert_eq!(keys(&[rate(100, 3_600), quota(9, Period::Day, 0)]), ["key#token", "key#day0"]);
        assert_eq!(keys(&[rate(7, 1), rate(5, 1), rate(6, 1)]), ["key#token3", "key#token", "key#token2"]);
        assert!(Windows::new(&[rate(10, 1), rate(20, 2)]).is_err(), "they differ in nothing but their capacities");
    }

    #[test]
    fn a_bucket_of_which_tokens_are_leased_is_the_same_bucket() {
        let Algorithm::TokenBucket(bucket) = per_second(10) else { unreachable!("a token bucket") };
        let leased = LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap();
        assert_eq!(keys(&[Algorithm::LeasedBucket(leased)]), ["key"]);
    }

    #[test]
    fn the_order_of_windows_does_not_move_their_state() {
        let [minute, day] = [quota(10, Period::Minute, 0), quota(100, Period::Day, 0)];
        let (mut one, other) = (keys(&[minute, day]), keys(&[day, minute]));
        one.reverse();
        assert_eq!(one, other);
    }

    #[test]
    fn windows_must_differ_in_more_than_their_limits() {
        let [hour, day, more] = [quota(10, Period::Hour, 0), quota(10, Period::Day, 0), quota(20, Period::Hour, 0)];
        let alike = Windows::new(&[hour, day, more]).unwrap_err();
        assert_eq!(
            alike.to_string(),
            "expected windows of different kinds or lengths, found that 0 and 2 (from 0) are alike"
        );
        assert_eq!(Windows::new(&[]).unwrap_err().to_string(), "expected 1 to 8 windows, found 0");
        assert!(Windows::new(&[hour; 9]).is_err());
    }
}

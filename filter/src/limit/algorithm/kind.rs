//! Kinds of algorithms.

/// Kind of an algorithm, as the configuration names it. An override replaces a window by one of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Token bucket, with or without leases, and with or without tokens.
    TokenBucket,
    /// Sliding window, exact or approximate.
    SlidingWindow,
    /// Window of a fixed length.
    FixedWindow,
    /// Calendar period.
    Quota,
    /// Requests in flight.
    Concurrency,
}

impl Kind {
    /// The kind's name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenBucket => "token_bucket",
            Self::SlidingWindow => "sliding_window",
            Self::FixedWindow => "fixed_window",
            Self::Quota => "quota",
            Self::Concurrency => "concurrency",
        }
    }
}

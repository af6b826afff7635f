//! Requests that are refused for what they say, or do not say, where a limit is to read it.

use crate::units::Tokens;

/// Why a request is answered 4xx in place of being checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// It does not say what it costs.
    #[error("expected a whole number of hits up to {}", .max.0)]
    Hits {
        /// The most that it may say.
        max: Tokens,
    },
    /// It does not say how long its body is.
    #[error("expected a content-length")]
    Length,
    /// Its body cannot be read.
    #[error("expected a JSON body")]
    Body,
    /// A header, parameter or cookie has several values where `repeated: reject` is configured.
    #[error("expected one value of what identifies the client, found several")]
    Repeated,
    /// The values for a key are too long, and too many, to be read within a request's bounds.
    #[error("expected shorter headers")]
    TooLarge,
}

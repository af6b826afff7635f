//! Rejections of requests in which a value that a limit reads is missing, malformed, repeated or too long.

use crate::units::Tokens;

/// Reason to reject a request with a 4xx local reply, without a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The hits addend is missing or malformed.
    #[error("expected a whole number of hits up to {}", .max.0)]
    Hits {
        /// Maximum hits addend.
        max: Tokens,
    },
    /// The `content-length` is missing.
    #[error("expected a content-length")]
    Length,
    /// The body cannot be read.
    #[error("expected a JSON body")]
    Body,
    /// A header, query parameter or cookie with `repeated: reject` has several values.
    #[error("expected one value of what identifies the client, found several")]
    Repeated,
    /// The body names several models.
    #[error("expected one model, found several")]
    Models,
    /// The model has no price.
    #[error("expected a model with a price")]
    UnknownModel,
    /// The client does not ask for the usage of a stream.
    #[error("expected stream_options.include_usage: true")]
    IncludeUsage,
    /// The values for a key are too long or too many to be read within the work allowed per request.
    #[error("expected shorter headers")]
    TooLarge,
}

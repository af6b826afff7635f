//! Reasons for refusing a token, with Envoy's texts.

/// Reason for refusing a token; its text is the body of the local reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Jwt is missing")]
    Missing,
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    #[error("Jwt {0} is an invalid Base64url encoded")]
    Base64(&'static str),
    #[error("Jwt {0} is an invalid JSON")]
    Json(&'static str),
    #[error("Jwt header [alg] field is required and must be a string")]
    NoAlgorithm,
    #[error("Jwt header [alg] is not supported")]
    UnknownAlgorithm,
    #[error("Jwt header [kid] field is not a string")]
    KeyId,
    #[error("Jwt payload [{0}] field is not a string")]
    NoString(&'static str),
    #[error("Jwt payload [{0}] field is not an integer")]
    NoInteger(&'static str),
    #[error("Jwt payload [{0}] field is not a positive 64 bit integer")]
    NotPositive(&'static str),
    #[error("Jwt payload [aud] field is not a string or string list")]
    NoAudience,
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    #[error("Jwt not yet valid")]
    NotYetValid,
    #[error("Jwt is expired")]
    Expired,
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    #[error("Jwt verification fails")]
    Verification,
}

impl Refusal {
    /// Whether this refusal replaces `known` in the local reply, when several providers refuse a token.
    ///
    /// The refusal of a provider that knows the token's issuer is preferred.
    pub(super) fn says_more_than(&self, known: &Self) -> bool {
        match self {
            Self::Missing => false,
            Self::UnknownIssuer => matches!(known, Self::Missing),
            _ => true,
        }
    }
}

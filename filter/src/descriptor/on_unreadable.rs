//! Treatment of requests with unreadable bodies.

/// Treatment of a request with an unreadable body by a limit that reads it, from the weakest to the strongest: if
/// several entries of a limit cannot be read, the strongest applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnUnreadable {
    /// The value is the entry's default, or `unreadable`.
    Default,
    /// The limit does not apply, if its descriptor reads the body.
    Skip,
    /// The request is answered with the status 400.
    Reject,
}

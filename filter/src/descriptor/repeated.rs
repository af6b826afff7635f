//! Repeated headers, query parameters and cookies.

/// Selection among several values of one name. A client may send two values, one for the limit and the other for the
/// upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// The first value.
    First,
    /// The last value.
    Last,
    /// All values in order, joined by commas.
    Joined,
    /// No value: the request is rejected with 400.
    Reject,
}

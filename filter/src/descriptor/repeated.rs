//! Headers, query parameters and cookies that a request has several times.

/// Which of several values counts. A client that sends two may mean one for the limit and the other for the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// The first.
    First,
    /// The last.
    Last,
    /// All of them, in their order, with commas between.
    Joined,
    /// None: the request is answered 400.
    Reject,
}

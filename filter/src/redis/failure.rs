//! Failure: the cause of a call without a reply.

use alloc::string::String;

/// Cause of a call without a reply. Each variant calls for a different action by the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection: refused, no host, or in the backoff before the next attempt.
    Unavailable,
    /// No reply within the call's timeout.
    Timeout,
    /// More calls or bytes in flight than allowed.
    Overloaded,
    /// The proxy's circuit breaker for Redis' cluster refused a callout.
    CircuitBreaker,
    /// The connection was lost while the call was in flight; whether Redis ran the call is unknown.
    Reset,
    /// Redis refused the credentials or the permission (`WRONGPASS`, `NOAUTH`, `NOPERM`).
    Auth,
    /// Redis is in cluster mode, and this node does not serve the key (`MOVED`, `ASK`, `CROSSSLOT`, …).
    ClusterMode,
    /// This Redis cannot serve now, another Redis may (`READONLY`, `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`).
    NotReady,
    /// Any other error reply (`OOM`, `BUSY`, `WRONGTYPE`, …).
    Refused,
    /// The reply is not RESP, or not of the form that the call has.
    Protocol,
}

impl Failure {
    /// All causes, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Unavailable,
        Self::Timeout,
        Self::Overloaded,
        Self::CircuitBreaker,
        Self::Reset,
        Self::Auth,
        Self::ClusterMode,
        Self::NotReady,
        Self::Refused,
        Self::Protocol,
    ];

    /// Returns the cause's name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::CircuitBreaker => "circuit_breaker",
            Self::Reset => "reset",
            Self::Auth => "auth",
            Self::ClusterMode => "cluster_mode",
            Self::NotReady => "not_ready",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }
}

/// A failure to log as a warning.
///
/// The caller limits the rate of warnings. `detail` is one line of printable ASCII, at most some 300 bytes. It contains
/// no bytes that the peer sent, which can repeat keys, headers, bodies and the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Cause, as counted.
    pub failure: Failure,
    /// Text of the warning.
    pub detail: String,
}

impl Trouble {
    pub(super) fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self { failure, detail: detail.into() }
    }
}

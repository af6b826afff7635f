//! Why Redis did not decide.

use alloc::string::String;

/// Why a call has no reply: one per cause that an operator would act on differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection: refused, no host, or waiting to connect again.
    Unavailable,
    /// No reply within the call's budget.
    Timeout,
    /// More calls in flight than allowed.
    Overloaded,
    /// The proxy's own circuit breaker for the cluster of Redis refused a callout.
    CircuitBreaker,
    /// The connection was lost while the call was in flight; whether Redis ran it is unknown.
    Reset,
    /// Redis refused the credentials or the permission (`WRONGPASS`, `NOAUTH`, `NOPERM`).
    Auth,
    /// Redis is in cluster mode, and this node does not serve the key (`MOVED`, `ASK`, `CROSSSLOT`, …).
    ClusterMode,
    /// This Redis cannot serve now, another may (`READONLY`, `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`).
    NotReady,
    /// Any other error reply (`OOM`, `BUSY`, `WRONGTYPE`, …).
    Refused,
    /// What came back is not RESP, or not the reply that the call has.
    Protocol,
}

impl Failure {
    /// Every cause, in the order of its counters.
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

    /// The cause's name in metrics and logs.
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

/// A failure for an operator to read about once.
///
/// Rate-limiting the warnings is the caller's. `detail` is one line of printable ASCII, at most some 300
/// bytes. It holds nothing that the peer sent, who repeats keys, headers, bodies and the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The cause, as it is counted.
    pub failure: Failure,
    /// What happened.
    pub detail: String,
}

impl Trouble {
    pub(super) fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self { failure, detail: detail.into() }
    }
}

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
    /// This Redis cannot serve now, another Redis may (`READONLY`, `LOADING`, `MASTERDOWN`, `NOREPLICAS`,
    /// `CLUSTERDOWN`).
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

    /// Returns the text of a warning about this cause for which nothing more is known.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Unavailable => "no connection to Redis",
            Self::Timeout => "no reply within redis.timeout",
            Self::Overloaded => "no room for the check within redis.timeout: see redis.max_in_flight",
            Self::CircuitBreaker => "the circuit breaker of redis.cluster is open: raise its circuit_breakers",
            Self::Reset => "the connection was lost before the reply",
            Self::Auth => "Redis refuses the credentials or the permission",
            Self::ClusterMode => "Redis is a cluster, and this node does not serve the key",
            Self::NotReady => "this Redis cannot serve now",
            Self::Refused => "Redis refused the check",
            Self::Protocol => "the reply is malformed",
        }
    }

    /// Returns whether this is a failure of the connection, and not an error reply.
    #[must_use]
    pub const fn is_of_connection(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Reset)
    }
}

/// Reason of the host for refusing a stream or a callout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The proxy has no cluster of the configured name.
    NoCluster,
    /// The proxy has the cluster, and could not use it: no host, an open circuit breaker, and others.
    Internal,
}

impl Refusal {
    /// Returns the text of a warning about this refusal.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::NoCluster => "the proxy has no such cluster: check redis.cluster with `weir check`",
            Self::Internal => {
                "the proxy refused to use the cluster, which may have no host: check it with `weir check`"
            }
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

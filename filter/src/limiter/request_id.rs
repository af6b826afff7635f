//! IDs of requests.

/// The proxy's ID of a request, unique from its arrival until it is [done](super::Limiter::done).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

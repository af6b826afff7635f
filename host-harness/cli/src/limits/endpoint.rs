//! Address of one Redis process.

use std::fmt;
use std::path::PathBuf;

/// Host and port, or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Host name or IP address, and port.
    Tcp(String, u16),
    /// Path of a socket of this machine.
    Socket(PathBuf),
}

impl fmt::Display for Endpoint {
    /// `127.0.0.1:6379`, `[::1]:6379` or `/run/redis.sock`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Endpoints as a text: `127.0.0.1:7000, 127.0.0.1:7001`.
pub(super) fn list(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ")
}

//! Traffic of users, each with a pace and connections of its own, bounded in requests and in time.
//!
//! The demo and the tests use it to check which requests a limit admits. `load` of weir-bench differs: it sends as many
//! requests as the server answers, from a separate process.
//!
//! A latency is the time from sending a request to having read the complete response. Each connection sends one request
//! at a time. If a user's connections cannot keep up with the pace, the user falls behind; requests do not queue.

mod flood;
mod pace;
mod report;
mod run;

pub use flood::Flood;
pub use pace::Pace;
pub use report::{Counters, Latencies, Outcome, Report, UserReport};
pub use run::{Stop, at_once, run, run_until};

use std::{net::SocketAddr, time::Duration};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Plan of a run: the requests, their server, and the time limits.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: SocketAddr,
    /// The path and query of every request.
    pub path: String,
    /// The users; all start at the same moment.
    pub users: Vec<User>,
    /// Duration of the run, > 0: no request is sent after it.
    pub duration: Duration,
    /// Time limit of a response. A slower response counts as failed, and its connection is closed.
    pub timeout: Duration,
    /// Names of the response headers that each [`Outcome`] keeps.
    pub headers_of_interest: Vec<HeaderName>,
}

impl Plan {
    /// A plan without users: path `/`, duration ten seconds, timeout five seconds.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            path: "/".into(),
            users: Vec::new(),
            duration: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            headers_of_interest: Vec::new(),
        }
    }
}

/// A client of the run.
#[derive(Debug, Clone)]
pub struct User {
    /// The name in reports.
    pub name: String,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The schedule of its requests.
    pub pace: Pace,
    /// Number of connections that share the pace, ≥ 1.
    pub connections: usize,
    /// Maximum number of requests in all.
    pub requests: u64,
}

impl User {
    /// A user without headers, with one connection and at most a million requests.
    pub fn new(name: impl Into<String>, pace: Pace) -> Self {
        Self { name: name.into(), headers: HeaderMap::new(), pace, connections: 1, requests: 1_000_000 }
    }

    /// Adds a request header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets the number of connections; 0 becomes 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets the maximum number of requests.
    #[must_use]
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = requests;
        self
    }
}

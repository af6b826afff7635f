//! A small HTTP/1.1 load client: users with a pace and connections of their own, bounded in requests and in time.
//!
//! It measures from sending a request to having read its whole response, one request at a time per connection. A
//! pace whose connections cannot keep up falls behind; it does not queue.

mod client;
mod flood;
mod pace;
mod report;
mod run;

pub use client::{Client, LoadError, Response, get};
pub use flood::Flood;
pub use pace::Pace;
pub use report::{Counters, Outcome, Report, UserReport};
pub use run::{at_once, run};

use std::{net::SocketAddr, time::Duration};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// What to send, where, and until when.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: SocketAddr,
    /// The path and query of every request.
    pub path: String,
    /// The users, who all start at the same moment.
    pub users: Vec<User>,
    /// No request is sent after this; > 0.
    pub duration: Duration,
    /// A response that takes longer counts as failed, and its connection is given up.
    pub timeout: Duration,
    /// Response headers to keep for each request.
    pub headers_of_interest: Vec<HeaderName>,
}

impl Plan {
    /// A plan without users: `/`, ten seconds, five seconds for each response.
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

/// One who sends requests.
#[derive(Debug, Clone)]
pub struct User {
    /// The name in reports.
    pub name: String,
    /// The request's headers.
    pub headers: HeaderMap,
    /// When to send.
    pub pace: Pace,
    /// Connections that share the pace, ≥ 1.
    pub connections: usize,
    /// No more than this many requests in all.
    pub requests: u64,
}

impl User {
    /// One connection as fast as it goes, at most a million requests.
    pub fn new(name: impl Into<String>, pace: Pace) -> Self {
        Self { name: name.into(), headers: HeaderMap::new(), pace, connections: 1, requests: 1_000_000 }
    }

    /// With a request header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// With this many connections, at least one.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// With at most this many requests.
    #[must_use]
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = requests;
        self
    }
}

//! What a request was answered, and sentences about it.

use std::{fmt::Debug, str::FromStr, time::Duration};

use hyper::header::HeaderMap;
use weir_harness::load::Response;

/// A whole response. Its assertions give it back, so that they read as one sentence.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// The request was let through to the upstream.
    #[track_caller]
    pub fn admitted(self) -> Self {
        self.status(200)
    }

    /// The request was over its limit.
    #[track_caller]
    pub fn denied(self) -> Self {
        self.status(429)
    }

    /// The response has this status.
    #[track_caller]
    pub fn status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// `x-ratelimit-remaining` is this.
    #[track_caller]
    pub fn remaining(self, tokens: u64) -> Self {
        assert_eq!(self.number::<u64>("x-ratelimit-remaining"), Some(tokens), "{self:#?}");
        self
    }

    /// `retry-after` is this, in whole seconds.
    #[track_caller]
    pub fn retry_after(self, wait: Duration) -> Self {
        assert_eq!(self.number("retry-after").map(Duration::from_secs), Some(wait), "{self:#?}");
        self
    }

    /// The response has no such header.
    #[track_caller]
    pub fn without(self, header: &str) -> Self {
        assert_eq!(self.header(header), None, "{self:#?}");
        self
    }

    /// A header's value, where it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header's value, where it is there and reads as a number.
    pub fn number<T: FromStr<Err: Debug>>(&self, name: &str) -> Option<T> {
        self.header(name)?.parse().ok()
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        let body = String::from_utf8_lossy(&response.body).into_owned();
        Self { status: response.status, headers: response.headers, body }
    }
}

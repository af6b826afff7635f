//! Responses, with assertions that read as sentences.

use std::{fmt::Debug, str::FromStr, time::Duration};

use hyper::header::HeaderMap;
use weir_provision::client::Response;

/// A whole response. Each assertion returns it, so that assertions can be chained.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, as text; invalid UTF-8 is replaced.
    pub body: String,
}

impl Answer {
    /// Asserts status 200: the request was admitted.
    #[track_caller]
    pub fn admitted(self) -> Self {
        self.status(200)
    }

    /// Asserts status 429: the request was denied.
    #[track_caller]
    pub fn denied(self) -> Self {
        self.status(429)
    }

    /// Asserts this status.
    #[track_caller]
    pub fn status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Asserts this value of `x-ratelimit-remaining`.
    #[track_caller]
    pub fn remaining(self, tokens: u64) -> Self {
        assert_eq!(self.number::<u64>("x-ratelimit-remaining"), Some(tokens), "{self:#?}");
        self
    }

    /// Asserts this value of `retry-after`, which has whole seconds.
    #[track_caller]
    pub fn retry_after(self, wait: Duration) -> Self {
        assert_eq!(self.number("retry-after").map(Duration::from_secs), Some(wait), "{self:#?}");
        self
    }

    /// Asserts that the response does not have this header.
    #[track_caller]
    pub fn without(self, header: &str) -> Self {
        assert_eq!(self.header(header), None, "{self:#?}");
        self
    }

    /// Returns the value of a header, if the header is present and its value is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the value of a header as a number, if the header is present and its value is a number.
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

//! HTTP front ends of Redis: bodies of callouts to Webdis and to Upstash, and of their responses.
//!
//! A callout's commands are encoded as RESP, as for Redis itself, and then rewritten for the front end. A response is
//! rewritten as RESP, which the decoder of all transports reads.
//!
//! - [`webdis`]: one command in a body, percent-encoded words with slashes between them;
//! - [`upstash`]: any number of commands, arrays of JSON.

mod sha1;
mod upstash;
mod webdis;

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

pub(super) use self::webdis::FlatScripts;
#[cfg(not(target_arch = "wasm32"))]
pub use self::webdis::inner_source;
use super::resp::{describe, failure_of};
use super::{Failure, Trouble};

/// Kind of an HTTP front end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontEnd {
    /// Webdis.
    Webdis,
    /// The REST API of Upstash, or a server that has the same.
    Upstash,
}

impl FrontEnd {
    /// Returns whether a body holds one command at most.
    pub(super) fn is_single(self) -> bool {
        self == Self::Webdis
    }

    /// Returns the body for RESP commands. `id` identifies the callout.
    pub(super) fn body(self, id: u64, commands: &[u8], scripts: &FlatScripts) -> Vec<u8> {
        match self {
            Self::Webdis => webdis::body(id, commands, scripts),
            Self::Upstash => upstash::body(commands),
        }
    }

    /// Returns the body of a response with status 200 as RESP.
    ///
    /// # Errors
    /// If it is the response to another callout, or no JSON of the form that Upstash has.
    pub(super) fn resp(self, id: u64, body: &[u8]) -> Result<Cow<'_, [u8]>, Trouble> {
        match self {
            Self::Webdis => webdis::resp(id, body),
            Self::Upstash => upstash::resp(body).map(Cow::Owned),
        }
    }
}

/// Returns the failure that a response of a front end stands for, by its status: a number other than 200 and 504.
///
/// Before a response, the connection may be lost as well: the proxy then makes a response of its own, whose text tells
/// whether the callout was sent. Where that is unknown, the failure is `Reset`.
pub(crate) fn trouble_of(status: u16, body: &[u8]) -> Trouble {
    let says = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
    let is_unsent = || ["connection failure", "connection timeout", "no healthy upstream"].into_iter().any(says);
    let (failure, means) = match status {
        401 | 403 => (Failure::Auth, "check redis.token, or redis.username and redis.password, and its ACL".into()),
        400 => match upstash::error(body) {
            Some(error) => (failure_of(error.as_bytes()), describe(error.as_bytes())),
            None => (Failure::Protocol, NOT_UNDERSTOOD.into()),
        },
        413 => (Failure::Refused, "the checks of one callout are too large for it".into()),
        429 => (Failure::Refused, "too many callouts".into()),
        500.. if is_unsent() => (Failure::Unavailable, "no connection".to_string()),
        500.. => (Failure::Reset, "it, or its connection to Redis, failed".into()),
        _ => (Failure::Protocol, NOT_UNDERSTOOD.into()),
    };
    Trouble::new(failure, format!("status {status} of the HTTP front end: {means}"))
}

const NOT_UNDERSTOOD: &str = "is redis.cluster the front end of redis.transport, and redis.path_prefix its path?";

/// Words of RESP commands, one after the other.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Takes the header of a command. Returns its number of words; `None` at the end.
    fn command(&mut self) -> Option<usize> {
        self.number(b'*')
    }

    /// Takes the next word of a command.
    fn word(&mut self) -> Option<&'a [u8]> {
        let length = self.number(b'$')?;
        let (word, rest) = self.0.split_at_checked(length)?;
        self.0 = rest.strip_prefix(b"\r\n")?;
        Some(word)
    }

    /// Takes the next `count` words.
    fn words(&mut self, count: usize) -> impl Iterator<Item = &'a [u8]> {
        (0..count).map_while(move |_| self.word())
    }

    fn number(&mut self, kind: u8) -> Option<usize> {
        let rest = self.0.strip_prefix(&[kind])?;
        let end = rest.iter().position(|byte| *byte == b'\r')?;
        let number = str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        self.0 = rest.get(end..)?.strip_prefix(b"\r\n")?;
        Some(number)
    }
}

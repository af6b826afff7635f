//! Page of the overrides hash: the call that reads it, and its reply.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::redis::{Call, Reply, Script, lua};
use crate::units::Micros;

/// Lua script that returns the page at a position; `page.lua` documents its arguments and its reply.
pub const SCRIPT: &str = lua!(include_str!("page.lua"));

/// Returns the key of the Redis hash.
#[must_use]
pub fn hash_key(key_prefix: &str) -> String {
    format!("{key_prefix}overrides")
}

/// Length of the longest page in bytes, which `page.lua` bounds.
const LONGEST: usize = 17 * 1024;
/// The longest cursor: a `u64` in decimal.
const MAX_CURSOR: usize = 20;

/// Start of a page: HSCAN's cursor, and the last field already read of that cursor's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    cursor: Vec<u8>,
    after: Vec<u8>,
}

/// Reply of the script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Serial number of the call.
    pub(super) serial: u32,
    /// Redis' clock, since 1970.
    pub(super) now: Micros,
    /// Number of fields in the whole hash.
    pub(super) total: u64,
    /// Start of the next page; `None` after the last page.
    pub(super) next: Option<Position>,
    /// Fields and values of this page.
    pub(super) entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A malformed reply of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a page of overrides, found a malformed reply: {found}")]
pub struct MalformedPage {
    found: &'static str,
}

impl Position {
    /// Start of the first page.
    pub(super) fn start() -> Self {
        Self { cursor: b"0".to_vec(), after: Vec::new() }
    }

    /// Returns the call that reads the page; its reply repeats `serial`.
    pub(super) fn call(&self, script: &Arc<Script>, hash_key: &str, serial: u32) -> Call {
        let serial = serial.to_string();
        Call::script(script, &[hash_key], &[&self.cursor[..], &self.after, serial.as_bytes()]).replying(LONGEST)
    }

    fn is_start(&self) -> bool {
        self.cursor == b"0" && self.after.is_empty()
    }
}

impl Page {
    pub(super) fn read(reply: Reply) -> Result<Self, MalformedPage> {
        let malformed = MalformedPage { found: reply.kind() };
        Self::of(reply).ok_or(malformed)
    }

    fn of(reply: Reply) -> Option<Self> {
        let Reply::Array(elements) = reply else { return None };
        let mut elements = elements.into_iter();
        let mut integer = || match elements.next()? {
            Reply::Integer(n) => u64::try_from(n).ok(),
            _ => None,
        };
        let (serial, now, total) = (integer()?, integer()?, integer()?);
        let mut strings = elements.map(|element| match element {
            Reply::Bulk(bytes) => Some(bytes),
            _ => None,
        });
        let next = Position { cursor: strings.next()??, after: strings.next()?? };
        if next.cursor.is_empty() || next.cursor.len() > MAX_CURSOR || !next.cursor.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut entries = Vec::new();
        while let Some(field) = strings.next() {
            entries.push((field?, strings.next()??));
        }
        let next = (!next.is_start()).then_some(next);
        Some(Self { serial: u32::try_from(serial).ok()?, now: Micros(now), total, next, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.into())
    }

    fn reply(cursor: &str, after: &str, entries: &[&str]) -> Reply {
        let head = [Reply::Integer(7), Reply::Integer(5_000_000), Reply::Integer(2), bulk(cursor), bulk(after)];
        Reply::Array(head.into_iter().chain(entries.iter().map(|text| bulk(text))).collect())
    }

    #[test]
    fn the_last_page_has_no_next() {
        let page = Page::read(reply("0", "", &["per_user", "off"])).unwrap();
        assert_eq!(page.next, None);
        assert_eq!((page.serial, page.now, page.total), (7, Micros::from_secs(5), 2));
        assert_eq!(page.entries, [(b"per_user".to_vec(), b"off".to_vec())]);
    }

    #[test]
    fn the_next_page_may_start_at_the_same_cursor() {
        let page = Page::read(reply("0", "per_user:m", &[])).unwrap();
        let call = page.next.unwrap().call(&Arc::new(Script::new(SCRIPT)), "weir:overrides", 8);
        let mut sent = Vec::new();
        call.encode(&mut sent);
        assert!(sent.ends_with(b"$14\r\nweir:overrides\r\n$1\r\n0\r\n$10\r\nper_user:m\r\n$1\r\n8\r\n"));
    }

    #[test]
    fn a_malformed_page_is_refused() {
        let cut_short = Reply::Array(vec![Reply::Integer(7), Reply::Integer(5)]);
        let of_another_kind = [Reply::Nil, Reply::Integer(1), bulk("0"), cut_short];
        let odd = reply("0", "", &["per_user"]);
        let no_cursors = ["", "-1", "x", "184467440737095516150"].map(|cursor| reply(cursor, "", &[]));
        for reply in of_another_kind.into_iter().chain([odd]).chain(no_cursors) {
            assert!(Page::read(reply.clone()).is_err(), "{reply:?}");
        }
    }
}

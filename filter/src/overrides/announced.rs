//! Changes of overrides of keys, announced in the hash of the overrides of limits.
//!
//! The script that decides a request tells the override of its key. A worker that decides without Redis needs it before:
//! it reads the changes of the last minute together with the overrides of limits. A change is the field
//! [`MARK`]` LIMIT:KEY` with the value `TIME:TEXT`: Redis' time in µs since 1970, and the override's text, empty if it was
//! removed. Operators' tools write and delete these fields.

use super::setting::{MAX_FIELD, MAX_VALUE};
use crate::redis::lua;
use crate::units::Micros;

/// First byte of the fields of changes. No limit's name begins with it.
pub const MARK: u8 = b'@';
/// Time for which a change is kept.
pub const KEPT_FOR: Micros = Micros::from_secs(60);

/// Lua script that announces a change; `announce.lua` documents its arguments.
pub const ANNOUNCE_SCRIPT: &str = lua!(include_str!("announce.lua"));

/// Change of the override of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced<'a> {
    /// Limit and key, as in the bucket's key behind the prefix.
    pub key: &'a [u8],
    /// Redis' time of the change.
    pub at: Micros,
    /// Text of the override, empty if it was removed.
    pub text: &'a [u8],
}

impl<'a> Announced<'a> {
    /// Whether a field of the hash is a change.
    #[must_use]
    pub fn is_field(field: &[u8]) -> bool {
        field.first() == Some(&MARK)
    }

    /// Reads a field that [is a change](Self::is_field), and its value. `None` if they are malformed or cut.
    #[must_use]
    pub fn read(field: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let key = field.strip_prefix(&[MARK]).filter(|key| (1..MAX_FIELD).contains(&key.len()))?;
        let at = value.iter().position(|byte| *byte == b':').filter(|_| value.len() <= MAX_VALUE)?;
        let (time, text) = value.split_at_checked(at)?;
        let at = core::str::from_utf8(time).ok()?.parse().ok().map(Micros)?;
        Some(Self { key, at, text: text.get(1..)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_a_key_a_time_and_a_text() {
        let read = |field: &'static [u8], value: &'static [u8]| Announced::read(field, value);
        let (key, at) = (&b"per_user:alice"[..], Micros(1_795_132_800_000_000));
        assert_eq!(read(b"@per_user:alice", b"1795132800000000:off"), Some(Announced { key, at, text: b"off" }));
        assert_eq!(read(b"@per_user:alice", b"1795132800000000:"), Some(Announced { key, at, text: b"" }));
        for (field, value) in [("@", "1:off"), ("per_user", "1:off"), ("@per_user:a", "off"), ("@per_user:a", "x:off")]
        {
            assert_eq!(Announced::read(field.as_bytes(), value.as_bytes()), None, "{field} {value}");
        }
        assert_eq!(Announced::read(b"@a:b", format!("1:{}", "x".repeat(MAX_VALUE)).as_bytes()), None);
        assert_eq!(Announced::read(format!("@{}", "x".repeat(MAX_FIELD)).as_bytes(), b"1:off"), None);
    }
}

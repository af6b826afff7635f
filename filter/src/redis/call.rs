//! One command, encoded once, however often it has to be sent.

use std::{borrow::Cow, sync::Arc};

use sha1::{Digest, Sha1};

use super::resp::{BulkStrings, encode_bulk, encode_command, encode_header};

/// A Lua script, and the name under which Redis caches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    source: Cow<'static, str>,
    sha1_hex: String,
    /// `EVALSHA` and its first argument, as bulk strings.
    by_name: Vec<u8>,
}

impl Script {
    /// Names the script by the SHA-1 of its source, as Redis does.
    #[must_use]
    pub fn new(source: impl Into<Cow<'static, str>>) -> Self {
        let source = source.into();
        let sha1_hex = format!("{:x}", Sha1::digest(source.as_bytes()));
        let mut by_name = Vec::new();
        encode_bulk(&mut by_name, b"EVALSHA");
        encode_bulk(&mut by_name, sha1_hex.as_bytes());
        Self { source, sha1_hex, by_name }
    }

    /// The Lua.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// 40 lowercase hexadecimal digits.
    #[must_use]
    pub fn sha1_hex(&self) -> &str {
        &self.sha1_hex
    }
}

/// A command for Redis, its arguments already encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    script: Option<Arc<Script>>,
    /// Bulk strings of the whole command.
    parts: usize,
    /// Those which do not depend on whether a script is sent by name or by source.
    tail: Vec<u8>,
}

impl Call {
    /// A script on `keys` and `args`, sent as `EVALSHA`, and as `EVAL` where Redis does not have it.
    #[must_use]
    pub fn script(script: &Arc<Script>, keys: &[impl AsRef<[u8]>], args: &[impl AsRef<[u8]>]) -> Self {
        let size = encoded_size(keys).saturating_add(encoded_size(args)).saturating_add(16);
        let mut parts = BulkStrings::with_capacity(size);
        parts.push_number(keys.len() as u64);
        keys.iter().for_each(|key| parts.push(key.as_ref()));
        args.iter().for_each(|arg| parts.push(arg.as_ref()));
        Self::script_of(script, parts)
    }

    /// The same, of what follows the script in the command: how many keys there are, the keys, the arguments.
    #[must_use]
    pub fn script_of(script: &Arc<Script>, parts: BulkStrings) -> Self {
        let script = Some(Arc::clone(script));
        Self { script, parts: parts.count().saturating_add(2), tail: parts.into_encoded() }
    }

    /// Any other command: its name, then its arguments. Never sent a second time.
    #[must_use]
    pub fn command(parts: &[impl AsRef<[u8]>]) -> Self {
        let mut tail = Vec::with_capacity(encoded_size(parts).saturating_add(16));
        encode_command(&mut tail, parts);
        Self { script: None, parts: parts.len(), tail }
    }

    /// Appends the command as it is sent first: a script by its name.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(script) = &self.script {
            encode_header(out, self.parts);
            out.extend_from_slice(&script.by_name);
        }
        out.extend_from_slice(&self.tail);
    }

    /// Appends the command as it is sent after `NOSCRIPT`: with its source. Whether it has such a form.
    pub fn encode_with_source(&self, out: &mut Vec<u8>) -> bool {
        let Some(script) = &self.script else { return false };
        encode_header(out, self.parts);
        encode_bulk(out, b"EVAL");
        encode_bulk(out, script.source.as_bytes());
        out.extend_from_slice(&self.tail);
        true
    }

    /// Whether `NOSCRIPT` can be helped.
    pub(super) fn is_script(&self) -> bool {
        self.script.is_some()
    }

    /// Bytes that [`encode`](Self::encode) appends, a few more at most.
    pub(super) fn size(&self) -> usize {
        let by_name = self.script.as_ref().map_or(0, |script| script.by_name.len().saturating_add(HEADER));
        self.tail.len().saturating_add(by_name)
    }

    /// Bytes that [`encode_with_source`](Self::encode_with_source) appends, a few more at most.
    pub(super) fn size_with_source(&self) -> usize {
        let source = self.script.as_ref().map_or(0, |script| script.source.len());
        self.tail.len().saturating_add(source).saturating_add(HEADER.saturating_mul(3))
    }
}

/// The most that the head of an array or of a bulk string takes.
const HEADER: usize = 24;

fn encoded_size(parts: &[impl AsRef<[u8]>]) -> usize {
    parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.as_ref().len()).saturating_add(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(call: &Call) -> String {
        let mut out = Vec::new();
        call.encode(&mut out);
        assert!(out.len() <= call.size());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_script_is_sent_by_its_sha1() {
        // The example of Redis' own documentation of SCRIPT LOAD.
        let script = Arc::new(Script::new("return 'Immabe a cached script'"));
        assert_eq!(script.sha1_hex(), "c664a3bf70bd1d45c4284ffebb65a6f2299bfc9f");
        assert_eq!(
            sent(&Call::script(&script, &["k"], &["a", ""])),
            "*6\r\n$7\r\nEVALSHA\r\n$40\r\nc664a3bf70bd1d45c4284ffebb65a6f2299bfc9f\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\na\r\n$0\r\n\r\n"
        );
    }

    #[test]
    fn a_script_that_redis_lost_is_sent_by_its_source() {
        let call = Call::script(&Arc::new(Script::new("return 1")), &["k"], &[[0_u8; 0]; 0]);
        let mut out = Vec::new();
        assert!(call.encode_with_source(&mut out));
        assert!(out.len() <= call.size_with_source());
        assert_eq!(out, b"*4\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n1\r\n$1\r\nk\r\n");
    }

    #[test]
    fn a_plain_command_has_no_second_form() {
        let call = Call::command(&["HGETALL", "weir:overrides"]);
        assert_eq!(sent(&call), "*2\r\n$7\r\nHGETALL\r\n$14\r\nweir:overrides\r\n");
        assert!(!call.encode_with_source(&mut Vec::new()));
    }
}

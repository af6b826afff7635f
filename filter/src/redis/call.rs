//! Calls and scripts: Redis commands, encoded once even if they are sent twice.

use alloc::{borrow::Cow, string::String, sync::Arc, vec::Vec};

use super::resp::{encode_bulk, encode_bulk_of, encode_header, encode_number};

/// A Lua script, and the SHA-1 under which Redis caches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Parts of the source; several scripts can share a part.
    source: Vec<Cow<'static, str>>,
    sha1_hex: String,
    /// `EVALSHA` and the SHA-1, encoded as bulk strings.
    by_name: Vec<u8>,
}

/// Returns the SHA-1 of a script's source.
pub(crate) const fn sha1(bytes: &[u8]) -> [u8; 20] {
    const_sha1::sha1(bytes).as_bytes()
}

/// Creates a script from a constant source; its SHA-1 is computed at compile time.
macro_rules! script {
    ($source:expr) => {
        $crate::redis::Script::named(&[$source], const { $crate::redis::sha1($source.as_bytes()) })
    };
}
pub(crate) use script;

impl Script {
    /// Creates a script and computes the SHA-1 of its source.
    #[must_use]
    pub fn new(source: impl Into<Cow<'static, str>>) -> Self {
        let source = source.into();
        let sha1 = sha1(source.as_bytes());
        Self::of_parts(vec![source], sha1)
    }

    /// Creates a script from parts of its source and the SHA-1 of the whole source.
    #[inline(never)]
    pub(crate) fn named(parts: &[&'static str], sha1: [u8; 20]) -> Self {
        Self::of_parts(parts.iter().copied().map(Cow::Borrowed).collect(), sha1)
    }

    fn of_parts(source: Vec<Cow<'static, str>>, sha1: [u8; 20]) -> Self {
        let digit = |digit: u8| char::from_digit(digit.into(), 16);
        let sha1_hex: String = sha1.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).filter_map(digit).collect();
        let mut by_name = Vec::new();
        encode_bulk(&mut by_name, b"EVALSHA");
        encode_bulk(&mut by_name, sha1_hex.as_bytes());
        Self { source, sha1_hex, by_name }
    }

    /// Returns the Lua source.
    #[must_use]
    pub fn source(&self) -> String {
        self.source.concat()
    }

    /// Returns the length of the Lua source in bytes.
    fn source_len(&self) -> usize {
        self.source.iter().fold(0, |sum, part| sum.saturating_add(part.len()))
    }

    /// Appends the start of a command with the source, `parts` keys and arguments, of which `keys` are keys.
    fn encode_source(&self, parts: usize, keys: usize, out: &mut Vec<u8>) {
        encode_header(out, parts.saturating_add(3));
        encode_bulk(out, b"EVAL");
        encode_bulk_of(out, self.source_len(), self.source.iter().map(|part| part.as_bytes()));
        encode_number(out, u64::try_from(keys).unwrap_or(u64::MAX));
    }

    /// Returns the SHA-1 as 40 lowercase hexadecimal digits.
    #[must_use]
    pub fn sha1_hex(&self) -> &str {
        &self.sha1_hex
    }
}

/// A command for Redis, with encoded arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    script: Option<Arc<Script>>,
    /// Number of bulk strings in `tail`: a script's keys and arguments, or the whole command.
    parts: usize,
    keys: usize,
    /// The bulk strings, encoded.
    tail: Vec<u8>,
    /// Offset in `tail` of the end of the keys.
    keys_end: usize,
    /// Elements of the reply that belong to this call, where the script can run several calls in one command.
    share: Option<usize>,
    /// Length of the longest reply to a command with this call alone, in bytes.
    longest_reply: usize,
    is_tracked: bool,
}

/// Length of the longest reply to a call that [says](Call::replying) nothing else: a few numbers, or an error.
const SHORT_REPLY: usize = 128;

impl Call {
    /// Creates a script call on `keys` and `args`: sent as `EVALSHA`, and again as `EVAL` where Redis does not have the
    /// script.
    #[must_use]
    pub fn script(script: &Arc<Script>, keys: &[impl AsRef<[u8]>], args: &[impl AsRef<[u8]>]) -> Self {
        let size = encoded_size(keys).saturating_add(encoded_size(args));
        let mut call = Self::write_script(script, keys.len(), args.len(), size);
        keys.iter().for_each(|key| call.bytes(key.as_ref()));
        args.iter().for_each(|arg| call.bytes(arg.as_ref()));
        call.finish()
    }

    /// Starts a script call that is written part by part: `keys` keys, then `args` arguments, of about `size` bytes in
    /// total.
    #[must_use]
    pub fn write_script(script: &Arc<Script>, keys: usize, args: usize, size: usize) -> CallWriter {
        let parts = keys.saturating_add(args);
        let tail = Vec::with_capacity(parts.saturating_mul(8).saturating_add(size));
        let call = Self {
            script: Some(Arc::clone(script)),
            parts,
            keys,
            tail,
            keys_end: 0,
            share: None,
            longest_reply: SHORT_REPLY,
            is_tracked: false,
        };
        CallWriter { call, to_come: parts, keys_to_come: keys }
    }

    /// Creates a call of any other command: its name, then its arguments. Never sent a second time.
    #[must_use]
    pub fn command(parts: &[impl AsRef<[u8]>]) -> Self {
        let mut tail = Vec::with_capacity(encoded_size(parts));
        parts.iter().for_each(|part| encode_bulk(&mut tail, part.as_ref()));
        Self {
            script: None,
            parts: parts.len(),
            keys: 0,
            tail,
            keys_end: 0,
            share: None,
            longest_reply: SHORT_REPLY,
            is_tracked: false,
        }
    }

    /// Marks the call as one that can be joined with others of its script in one command: the keys of all calls, then
    /// the arguments of all calls. The script replies with one array, in which `elements` elements belong to this call,
    /// or one error or array in their place; or with all elements as integers [packed](crate::redis::Integers) in one bulk
    /// string.
    #[must_use]
    pub fn sharing(self, elements: usize) -> Self {
        Self { share: Some(elements), ..self }
    }

    /// Marks the call as one that is sent in a command of its own.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { share: None, ..self }
    }

    /// States the length of the longest reply, in bytes. A longer reply is still read, but may be cut
    /// off in a [callout](super::Callouts) of many calls.
    #[must_use]
    pub fn replying(self, longest: usize) -> Self {
        Self { longest_reply: longest.max(SHORT_REPLY), ..self }
    }

    /// Marks the call as tracked: its outcome is reported even after its timeout or after it was abandoned. For calls
    /// that take slots, which the caller must then release.
    #[must_use]
    pub fn tracked(self) -> Self {
        Self { is_tracked: true, ..self }
    }

    /// Returns whether the call's outcome is reported even after its timeout or after it was abandoned.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.is_tracked
    }

    /// Returns the number of reply elements that belong to this call, if it can be [joined](Self::sharing).
    #[must_use]
    pub fn share(&self) -> Option<usize> {
        self.share
    }

    /// Returns the length of the longest reply to a command with this call alone, in bytes.
    pub(super) fn longest_reply(&self) -> usize {
        self.longest_reply
    }

    /// Returns whether one command can carry both calls.
    #[must_use]
    pub fn joins(&self, other: &Self) -> bool {
        let is_same = |(one, other)| Arc::ptr_eq(one, other);
        self.share.is_some() && other.share.is_some() && self.script.iter().zip(&other.script).any(is_same)
    }

    /// Appends the command in its first form: a script by its SHA-1.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(self.parts, self.keys, out);
        out.extend_from_slice(&self.tail);
    }

    /// Appends one command that carries all `calls`, which [share](Self::sharing) the reply of one script.
    pub fn encode_joined<'a>(calls: impl Iterator<Item = &'a Self> + Clone, out: &mut Vec<u8>) {
        let Some(first) = calls.clone().next() else { return };
        let (parts, keys) = Self::sums(calls.clone());
        first.encode_head(parts, keys, out);
        Self::encode_tails(calls, out);
    }

    /// Appends the keys of all `calls`, then their arguments.
    fn encode_tails<'a>(calls: impl Iterator<Item = &'a Self> + Clone, out: &mut Vec<u8>) {
        let halves = calls.filter_map(|call| call.tail.split_at_checked(call.keys_end));
        halves.clone().for_each(|(keys, _)| out.extend_from_slice(keys));
        halves.for_each(|(_, args)| out.extend_from_slice(args));
    }

    /// Returns the numbers of all parts and of all keys.
    fn sums<'a>(calls: impl Iterator<Item = &'a Self>) -> (usize, usize) {
        calls.fold((0, 0), |(parts, keys), call| (parts.saturating_add(call.parts), keys.saturating_add(call.keys)))
    }

    /// Appends the start of a command with `parts` keys and arguments, of which `keys` are keys; or with `parts` parts
    /// of a command that is not a script.
    fn encode_head(&self, parts: usize, keys: usize, out: &mut Vec<u8>) {
        let Some(script) = &self.script else { return encode_header(out, parts) };
        encode_header(out, parts.saturating_add(3));
        out.extend_from_slice(&script.by_name);
        encode_number(out, u64::try_from(keys).unwrap_or(u64::MAX));
    }

    /// Appends the command in its form after `NOSCRIPT`, with the script's source. Returns `false` if the call is not a
    /// script.
    pub fn encode_with_source(&self, out: &mut Vec<u8>) -> bool {
        let Some(script) = &self.script else { return false };
        script.encode_source(self.parts, self.keys, out);
        out.extend_from_slice(&self.tail);
        true
    }

    /// Appends one command that carries all `calls` in its form after `NOSCRIPT`.
    pub(super) fn encode_joined_with_source<'a>(calls: impl Iterator<Item = &'a Self> + Clone, out: &mut Vec<u8>) {
        let Some(script) = calls.clone().next().and_then(|first| first.script.as_ref()) else { return };
        let (parts, keys) = Self::sums(calls.clone());
        script.encode_source(parts, keys, out);
        Self::encode_tails(calls, out);
    }

    /// Returns the script, if the call runs one.
    pub(super) fn script_of(&self) -> Option<&Arc<Script>> {
        self.script.as_ref()
    }

    /// Returns whether the call runs a script, and so can be sent again after `NOSCRIPT`.
    pub(super) fn is_script(&self) -> bool {
        self.script.is_some()
    }

    /// Returns the number of bytes that [`encode`](Self::encode) appends, or slightly more.
    pub(crate) fn size(&self) -> usize {
        let by_name = self.script.as_ref().map_or(0, |script| script.by_name.len().saturating_add(HEADER));
        self.tail.len().saturating_add(by_name).saturating_add(HEADER)
    }

    /// Returns the number of bytes that [`encode_with_source`](Self::encode_with_source) appends, or slightly more.
    pub(super) fn size_with_source(&self) -> usize {
        let source = self.script.as_ref().map_or(0, |script| script.source_len());
        self.tail.len().saturating_add(source).saturating_add(HEADER.saturating_mul(4))
    }
}

/// Writer of a script call. Does not allocate beyond the first size estimate: it runs for each request.
#[derive(Debug)]
pub struct CallWriter {
    call: Call,
    to_come: usize,
    keys_to_come: usize,
}

impl CallWriter {
    /// Appends the next key or argument.
    pub fn bytes(&mut self, bytes: &[u8]) {
        encode_bulk(&mut self.call.tail, bytes);
        self.is_written();
    }

    /// Appends the next argument, in decimal digits.
    pub fn number(&mut self, number: u64) {
        encode_number(&mut self.call.tail, number);
        self.is_written();
    }

    /// Counts a written part, and records the end of the keys.
    fn is_written(&mut self) {
        self.to_come = self.to_come.saturating_sub(1);
        if self.keys_to_come > 0 {
            self.keys_to_come = self.keys_to_come.saturating_sub(1);
            self.call.keys_end = self.call.tail.len();
        }
    }

    /// Returns the call. All announced keys and arguments must have been written.
    #[must_use]
    pub fn finish(self) -> Call {
        debug_assert_eq!(self.to_come, 0, "keys and arguments as announced");
        self.call
    }
}

/// Longest header of an array or of a bulk string, in bytes.
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
        // Example from Redis' documentation of SCRIPT LOAD.
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
    fn joinable_calls_of_one_script_are_one_command() {
        let script = Arc::new(Script::new("return 1"));
        let call = |key: &str, arg: &str| Call::script(&script, &[key], &[arg]).sharing(2);
        let (a, b) = (call("ka", "a"), call("kb", "b"));
        let mut out = Vec::new();
        Call::encode_joined([&a, &b].into_iter(), &mut out);
        let head = format!("*7\r\n$7\r\nEVALSHA\r\n$40\r\n{}\r\n$1\r\n2\r\n", script.sha1_hex());
        let all = "$2\r\nka\r\n$2\r\nkb\r\n$1\r\na\r\n$1\r\nb\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), head + all);
        assert!(a.joins(&b));
        let same_source = Arc::new(Script::new("return 1"));
        let others = [
            Call::script(&script, &["k"], &["a"]),
            Call::script(&same_source, &["k"], &["a"]).sharing(2),
            Call::command(&["PING"]),
        ];
        for other in others {
            assert!(!a.joins(&other) && !other.joins(&a));
        }
    }

    #[test]
    fn a_plain_command_has_no_form_with_source() {
        let call = Call::command(&["HGETALL", "weir:overrides"]);
        assert_eq!(sent(&call), "*2\r\n$7\r\nHGETALL\r\n$14\r\nweir:overrides\r\n");
        assert!(!call.encode_with_source(&mut Vec::new()));
    }
}

//! One command, encoded once, however often it has to be sent.

use alloc::{borrow::Cow, string::String, sync::Arc, vec::Vec};

use super::resp::{encode_bulk, encode_bulk_of, encode_header, encode_number};

/// A Lua script, and the name under which Redis caches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its parts, some of which other scripts may have as well.
    source: Vec<Cow<'static, str>>,
    sha1_hex: String,
    /// `EVALSHA` and its first argument, as bulk strings.
    by_name: Vec<u8>,
}

/// SHA-1, which names scripts and nothing else.
pub(crate) const fn sha1(bytes: &[u8]) -> [u8; 20] {
    const_sha1::sha1(bytes).as_bytes()
}

/// A script of a constant source, whose name is made when the filter is compiled.
macro_rules! script {
    ($source:expr) => {
        $crate::redis::Script::named(
            [::alloc::borrow::Cow::Borrowed($source)],
            const { $crate::redis::sha1($source.as_bytes()) },
        )
    };
}
pub(crate) use script;

impl Script {
    /// Names the script by the SHA-1 of its source, as Redis does.
    #[must_use]
    pub fn new(source: impl Into<Cow<'static, str>>) -> Self {
        let source = source.into();
        let sha1 = sha1(source.as_bytes());
        Self::named([source], sha1)
    }

    /// A script of these parts whose SHA-1 is known.
    pub(crate) fn named(parts: impl IntoIterator<Item = Cow<'static, str>>, sha1: [u8; 20]) -> Self {
        let source = parts.into_iter().collect();
        let digit = |digit: u8| char::from_digit(digit.into(), 16);
        let sha1_hex: String = sha1.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).filter_map(digit).collect();
        let mut by_name = Vec::new();
        encode_bulk(&mut by_name, b"EVALSHA");
        encode_bulk(&mut by_name, sha1_hex.as_bytes());
        Self { source, sha1_hex, by_name }
    }

    /// The Lua.
    #[must_use]
    pub fn source(&self) -> String {
        self.source.concat()
    }

    /// Bytes of the Lua.
    fn source_len(&self) -> usize {
        self.source.iter().fold(0, |sum, part| sum.saturating_add(part.len()))
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
    /// Bulk strings of a script's keys and arguments, or of the whole command.
    parts: usize,
    keys: usize,
    /// Those bulk strings.
    tail: Vec<u8>,
    /// Where in them the keys end.
    keys_end: usize,
    /// What of its script's reply is its own, where the script takes several calls as one.
    share: Option<usize>,
    is_heeded: bool,
}

impl Call {
    /// A script on `keys` and `args`, sent as `EVALSHA`, and as `EVAL` where Redis does not have it.
    #[must_use]
    pub fn script(script: &Arc<Script>, keys: &[impl AsRef<[u8]>], args: &[impl AsRef<[u8]>]) -> Self {
        let size = encoded_size(keys).saturating_add(encoded_size(args));
        let mut call = Self::write_script(script, keys.len(), args.len(), size);
        keys.iter().for_each(|key| call.bytes(key.as_ref()));
        args.iter().for_each(|arg| call.bytes(arg.as_ref()));
        call.finish()
    }

    /// The same, written part by part: `keys` keys, then `args` arguments, of about `size` bytes together.
    #[must_use]
    pub fn write_script(script: &Arc<Script>, keys: usize, args: usize, size: usize) -> CallWriter {
        let parts = keys.saturating_add(args);
        let tail = Vec::with_capacity(parts.saturating_mul(8).saturating_add(size));
        let call =
            Self { script: Some(Arc::clone(script)), parts, keys, tail, keys_end: 0, share: None, is_heeded: false };
        CallWriter { call, to_come: parts, keys_to_come: keys }
    }

    /// Any other command: its name, then its arguments. Never sent a second time.
    #[must_use]
    pub fn command(parts: &[impl AsRef<[u8]>]) -> Self {
        let mut tail = Vec::with_capacity(encoded_size(parts));
        parts.iter().for_each(|part| encode_bulk(&mut tail, part.as_ref()));
        Self { script: None, parts: parts.len(), keys: 0, tail, keys_end: 0, share: None, is_heeded: false }
    }

    /// The same, of a script that can be told of several such calls in one: the keys of each, then the arguments of
    /// each. It replies with one array, in which so many elements are this call's, or one error in their place; or with
    /// all of them as integers [packed](crate::redis::Integers) in one string.
    #[must_use]
    pub fn sharing(self, elements: usize) -> Self {
        Self { share: Some(elements), ..self }
    }

    /// The same call, whose outcome is told even after its caller has gone or its time is up: it may take something
    /// that is then to be given back.
    #[must_use]
    pub fn heeded(self) -> Self {
        Self { is_heeded: true, ..self }
    }

    /// Whether its outcome is told even after its caller has gone.
    #[must_use]
    pub fn is_heeded(&self) -> bool {
        self.is_heeded
    }

    /// What of the reply is this call's, where others are told of with it.
    #[must_use]
    pub fn share(&self) -> Option<usize> {
        self.share
    }

    /// Whether one command can tell of both.
    #[must_use]
    pub fn joins(&self, other: &Self) -> bool {
        let is_same = |(one, other)| Arc::ptr_eq(one, other);
        self.share.is_some() && other.share.is_some() && self.script.iter().zip(&other.script).any(is_same)
    }

    /// Appends the command as it is sent first: a script by its name.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(self.parts, self.keys, out);
        out.extend_from_slice(&self.tail);
    }

    /// Appends one command that tells of all `calls`, which [share](Self::sharing) a reply of one script.
    pub fn encode_joined<'a>(calls: impl Iterator<Item = &'a Self> + Clone, out: &mut Vec<u8>) {
        let Some(first) = calls.clone().next() else { return };
        let sums = calls.clone().fold((0_usize, 0_usize), |(parts, keys), call| {
            (parts.saturating_add(call.parts), keys.saturating_add(call.keys))
        });
        first.encode_head(sums.0, sums.1, out);
        let halves = calls.filter_map(|call| call.tail.split_at_checked(call.keys_end));
        halves.clone().for_each(|(keys, _)| out.extend_from_slice(keys));
        halves.for_each(|(_, args)| out.extend_from_slice(args));
    }

    /// What comes before so many keys and arguments, of which so many are keys; or before the parts of a command.
    fn encode_head(&self, parts: usize, keys: usize, out: &mut Vec<u8>) {
        let Some(script) = &self.script else { return encode_header(out, parts) };
        encode_header(out, parts.saturating_add(3));
        out.extend_from_slice(&script.by_name);
        encode_number(out, u64::try_from(keys).unwrap_or(u64::MAX));
    }

    /// Appends the command as it is sent after `NOSCRIPT`: with its source. Whether it has such a form.
    pub fn encode_with_source(&self, out: &mut Vec<u8>) -> bool {
        let Some(script) = &self.script else { return false };
        encode_header(out, self.parts.saturating_add(3));
        encode_bulk(out, b"EVAL");
        encode_bulk_of(out, script.source_len(), script.source.iter().map(|part| part.as_bytes()));
        encode_number(out, u64::try_from(self.keys).unwrap_or(u64::MAX));
        out.extend_from_slice(&self.tail);
        true
    }

    /// The script that it runs.
    pub(super) fn script_of(&self) -> Option<&Arc<Script>> {
        self.script.as_ref()
    }

    /// Whether `NOSCRIPT` can be helped.
    pub(super) fn is_script(&self) -> bool {
        self.script.is_some()
    }

    /// Bytes that [`encode`](Self::encode) appends, a few more at most.
    pub(crate) fn size(&self) -> usize {
        let by_name = self.script.as_ref().map_or(0, |script| script.by_name.len().saturating_add(HEADER));
        self.tail.len().saturating_add(by_name).saturating_add(HEADER)
    }

    /// Bytes that [`encode_with_source`](Self::encode_with_source) appends, a few more at most.
    pub(super) fn size_with_source(&self) -> usize {
        let source = self.script.as_ref().map_or(0, |script| script.source_len());
        self.tail.len().saturating_add(source).saturating_add(HEADER.saturating_mul(4))
    }
}

/// A script call that is being written. Takes nothing but what is written: this runs for each request.
#[derive(Debug)]
pub struct CallWriter {
    call: Call,
    to_come: usize,
    keys_to_come: usize,
}

impl CallWriter {
    /// The next key or argument.
    pub fn bytes(&mut self, bytes: &[u8]) {
        encode_bulk(&mut self.call.tail, bytes);
        self.is_written();
    }

    /// The next argument, in decimal digits.
    pub fn number(&mut self, number: u64) {
        encode_number(&mut self.call.tail, number);
        self.is_written();
    }

    /// Counts a part that was written, and notes where the keys end.
    fn is_written(&mut self) {
        self.to_come = self.to_come.saturating_sub(1);
        if self.keys_to_come > 0 {
            self.keys_to_come = self.keys_to_come.saturating_sub(1);
            self.call.keys_end = self.call.tail.len();
        }
    }

    /// The call, once all that was announced is written.
    #[must_use]
    pub fn finish(self) -> Call {
        debug_assert_eq!(self.to_come, 0, "keys and arguments as announced");
        self.call
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
    fn calls_of_a_script_that_takes_several_are_one_command() {
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
    fn a_plain_command_has_no_second_form() {
        let call = Call::command(&["HGETALL", "weir:overrides"]);
        assert_eq!(sent(&call), "*2\r\n$7\r\nHGETALL\r\n$14\r\nweir:overrides\r\n");
        assert!(!call.encode_with_source(&mut Vec::new()));
    }
}

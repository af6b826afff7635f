//! Scanner of one JSON document: finds the fields at known places, byte by byte, in constant memory.
//!
//! What the places do not lead to is skipped by its quotes and brackets alone, to any depth. The scan takes no more than
//! a few steps for each byte, so that no bound is needed for what an upstream may send.

mod skipped;

use alloc::vec::Vec;

use super::field::Field;
use super::paths::{MAX_STEPS, NOWHERE, Paths, Place, ROOT};
use crate::json_text::{self, End, Split, is_line_end, unescaped};

/// Bytes in which one byte of a key may be written: `\u0061`.
const MAX_ESCAPE: usize = 6;
/// Most bytes of a string or number at a field, as written. Longer ones are none.
const MAX_VALUE: usize = 256;

/// Value that stands at a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// Whole number.
    Number(u64),
    /// Number or word at [`Field::Cost`], as it is written.
    Written(&'a [u8]),
    /// Text.
    Text(&'a [u8]),
    /// Next bytes of [`Field::Bytes`], as they are written.
    Piece(&'a [u8]),
    /// Object or list.
    Container,
    /// A value that is none of these: `true`, a negative number, a fraction, a number or a text that is too long.
    Other,
}

/// Receiver of what a scan finds.
pub(super) trait Sink {
    /// Takes what stands at a field. It is not called for `null`.
    fn found(&mut self, field: Field, found: Found<'_>);
}

/// Scan of one document.
#[derive(Debug)]
pub(super) struct Document {
    state: State,
    /// Whether a piece ends where its line does.
    is_line: bool,
    /// Places of the objects around the present place, but those that are skipped.
    open: [Place; MAX_STEPS],
    depth: usize,
    /// Place of the value that is being read, or comes next.
    here: Place,
    /// Key or value that is being read, as it is written, where it is cut or has a backslash.
    token: Vec<u8>,
    /// Whether the last key was `type`, `id` or `role`.
    is_name: bool,
    /// Whether the last key was `response`; and whether that of the outermost object around was.
    is_response: bool,
    in_response: bool,
    /// Whether the string or container that is being read may hold text of a model.
    is_text: bool,
    /// Whether the last byte outside of a string that is skipped was a colon: a member's value follows.
    after_colon: bool,
    /// Bytes of strings so far that may be text of a model.
    text_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// Key, or the end of the object.
    FirstKey,
    Key,
    Colon,
    /// Comma, or the end of the object.
    Comma,
    /// Rest of a key. `escaped`: its next byte stands behind a backslash.
    KeyText {
        escaped: bool,
    },
    /// Rest of a string.
    Text {
        field: Option<Field>,
        escaped: bool,
    },
    /// Rest of a number or word.
    Scalar,
    /// Rest of an object or list that is skipped, at this depth in it.
    Skipped {
        depth: u32,
    },
    /// Rest of a string in what is skipped.
    SkippedText {
        depth: u32,
        escaped: bool,
    },
    Ended,
    Malformed,
}

impl Document {
    pub(super) fn new() -> Self {
        Self {
            state: State::Value,
            is_line: false,
            open: [NOWHERE; MAX_STEPS],
            depth: 0,
            here: ROOT,
            token: Vec::new(),
            is_name: false,
            is_response: false,
            in_response: false,
            is_text: false,
            after_colon: false,
            text_bytes: 0,
        }
    }

    /// The same, of a document in lines: [`push`](Self::push) takes the bytes of a line.
    pub(super) fn in_lines() -> Self {
        Self { is_line: true, ..Self::new() }
    }

    /// Takes the end of a line.
    pub(super) fn end_line(&mut self, paths: &Paths, sink: &mut dyn Sink) {
        self.is_line = false;
        self.push(paths, b"\n", sink);
        self.is_line = true;
    }

    /// Begins another document.
    pub(super) fn restart(&mut self) {
        self.state = State::Value;
        self.depth = 0;
        self.here = ROOT;
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Malformed)
    }

    /// Bytes of all documents' strings that may be text of a model: those beside `type`, `id` and `role` at or within
    /// `delta`, `message` and `response`, and values of members within other lists and objects, such as `choices`.
    pub(super) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    fn count(&mut self, bytes: usize) {
        self.text_bytes = self.text_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.state == State::Malformed
    }

    /// Takes the next bytes of the document. Returns those behind its end, or from the end of the line on.
    pub(super) fn push<'a>(&mut self, paths: &Paths, mut bytes: &'a [u8], sink: &mut dyn Sink) -> &'a [u8] {
        while let Some((&byte, after)) = bytes.split_first() {
            if byte < b' ' && self.is_line && is_line_end(byte) {
                return bytes;
            }
            // First what most bytes are: members without blanks.
            let left = if byte == b'"' && matches!(self.state, State::FirstKey | State::Key) {
                match json_text::plain(after) {
                    Ok((key, rest)) => {
                        self.enter(key, paths);
                        rest.len()
                    }
                    Err(at) => {
                        self.token.clear();
                        self.key(at, after, paths)
                    }
                }
            } else {
                match (self.state, byte) {
                    (State::SkippedText { depth, escaped }, _) => self.skip_text(depth, escaped.into(), bytes),
                    (State::Skipped { depth }, _) => self.skip(depth, bytes),
                    (State::Text { field, escaped }, _) => self.text(field, escaped.into(), bytes, sink),
                    (State::KeyText { escaped }, _) => self.key(escaped.into(), bytes, paths),
                    (State::Scalar, _) => self.scalar(bytes, paths, sink),
                    (State::Ended | State::Malformed, _) => return bytes,
                    (State::Value, _) => bytes.len(),
                    (_, b' ' | b'\t' | b'\n' | b'\r') => after.len(),
                    (State::Colon, b':') | (State::Comma, b',') => bytes.len(),
                    (State::FirstKey | State::Comma, b'}') => {
                        self.depth = self.depth.saturating_sub(1);
                        self.state = self.after_value();
                        after.len()
                    }
                    _ => {
                        self.state = State::Malformed;
                        after.len()
                    }
                }
            };
            bytes = behind(bytes, left);
            if self.state == State::Colon
                && let [b':', value @ ..] = bytes
            {
                (self.state, bytes) = (State::Value, value);
            }
            if self.state == State::Value {
                bytes = self.value(bytes, paths, sink);
            }
            if self.state == State::Comma
                && let [b',', member @ ..] = bytes
            {
                (self.state, bytes) = (State::Key, member);
            }
        }
        bytes
    }

    /// Takes a blank before a value; or its first byte, and what lies in this piece of a string, of a scalar or of what is
    /// skipped.
    #[inline(always)]
    fn value<'a>(&mut self, bytes: &'a [u8], paths: &Paths, sink: &mut dyn Sink) -> &'a [u8] {
        let Some((&byte, after)) = bytes.split_first() else { return bytes };
        let (field, leads_on) = paths.place(self.here);
        self.state = match byte {
            b'"' => {
                self.is_text = match self.depth {
                    1 => leads_on,
                    // The response of OpenAI's Responses API repeats its instructions.
                    2 => !self.is_name && !self.in_response,
                    _ => false,
                };
                return match json_text::plain(after) {
                    Ok((text, rest)) => {
                        match field {
                            None if self.is_text => self.count(text.len()),
                            None => {}
                            Some(Field::Bytes) => sink.found(Field::Bytes, Found::Piece(text)),
                            Some(field) => tell_text(sink, field, Some(text).filter(|text| text.len() <= MAX_VALUE)),
                        }
                        self.state = self.after_value();
                        rest
                    }
                    Err(at) => {
                        self.token.clear();
                        behind(after, self.text(field, at, after, sink))
                    }
                };
            }
            b'{' | b'[' => {
                if let Some(field) = field {
                    sink.found(field, Found::Container);
                }
                let place = self.open.get_mut(self.depth).filter(|_| byte == b'{' && leads_on);
                let Some(place) = place else {
                    self.is_text = self.depth == 1 && field.is_none();
                    self.after_colon = false;
                    return behind(after, self.skip(0, after));
                };
                *place = self.here;
                if self.depth == 1 {
                    self.in_response = self.is_response;
                }
                self.depth = self.depth.wrapping_add(1);
                State::FirstKey
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.token.clear();
                return behind(bytes, self.scalar(bytes, paths, sink));
            }
            b'\n' | b'\r' if self.is_line => return bytes,
            b' ' | b'\t' | b'\n' | b'\r' => State::Value,
            _ => State::Malformed,
        };
        after
    }

    fn after_value(&self) -> State {
        if self.depth == 0 { State::Ended } else { State::Comma }
    }

    /// Enters the member of a key.
    #[inline(never)]
    fn enter(&mut self, key: &[u8], paths: &Paths) {
        self.state = State::Colon;
        let around = self.depth.checked_sub(1).and_then(|last| self.open.get(last)).copied().unwrap_or(NOWHERE);
        self.here = paths.member(around, key);
        self.is_name = matches!(key, b"type" | b"id" | b"role");
        self.is_response = key == b"response";
    }

    /// Takes the next bytes of a key that is cut, or has a backslash. Returns how many are left.
    fn key(&mut self, at: usize, bytes: &[u8], paths: &Paths) -> usize {
        let Split { read, end, rest } = json_text::split(bytes, at, self.is_line);
        keep(&mut self.token, read, paths.longest_key().saturating_mul(MAX_ESCAPE));
        if let End::Cut { escaped } = end {
            self.state = State::KeyText { escaped };
            return rest.len();
        }
        let token = core::mem::take(&mut self.token);
        match unescaped(&token) {
            Some(key) => self.enter(&key, paths),
            None => {
                self.enter(b"", paths);
                self.here = NOWHERE;
            }
        }
        self.token = token;
        rest.len()
    }

    /// Takes the next bytes of a string. Returns how many are left.
    fn text(&mut self, field: Option<Field>, at: usize, bytes: &[u8], sink: &mut dyn Sink) -> usize {
        let Split { read, end, rest } = json_text::split(bytes, at, self.is_line);
        match field {
            Some(Field::Bytes) => sink.found(Field::Bytes, Found::Piece(read)),
            Some(_) => keep(&mut self.token, read, MAX_VALUE),
            None if self.is_text => self.count(read.len()),
            None => {}
        }
        if let End::Cut { escaped } = end {
            self.state = State::Text { field, escaped };
            return rest.len();
        }
        if let Some(field) = field.filter(|field| *field != Field::Bytes) {
            let text = Some(&self.token).filter(|written| written.len() <= MAX_VALUE);
            tell_text(sink, field, text.and_then(|written| unescaped(written)).as_deref());
        }
        self.state = self.after_value();
        rest.len()
    }

    /// Takes the next bytes of a number or word. Returns how many are left.
    fn scalar(&mut self, bytes: &[u8], paths: &Paths, sink: &mut dyn Sink) -> usize {
        let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let mut end = if bytes.starts_with(b"null") { 4 } else { 0 };
        while bytes.get(end).is_some_and(|byte| is_of_it(*byte)) {
            end = end.wrapping_add(1);
        }
        let (read, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let field = paths.place(self.here).0;
        if field.is_some() || self.depth == 0 {
            keep(&mut self.token, read, MAX_VALUE);
        }
        if rest.first().is_none_or(|byte| self.is_line && is_line_end(*byte)) {
            self.state = State::Scalar;
            return rest.len();
        }
        if let Some(field) = field.filter(|_| self.token != b"null") {
            let written = self.token.as_slice();
            let found = match field {
                Field::Cost if written.len() <= MAX_VALUE => Found::Written(written),
                _ => number(written).map_or(Found::Other, Found::Number),
            };
            sink.found(field, found);
        }
        self.state = self.after_value();
        rest.len()
    }
}

/// The last bytes, `left` in number.
#[inline(always)]
fn behind(bytes: &[u8], left: usize) -> &[u8] {
    bytes.get(bytes.len().wrapping_sub(left)..).unwrap_or_default()
}

/// Tells a text at a field; `None` is one that is too long, or that no text is written like.
#[inline(never)]
fn tell_text(sink: &mut dyn Sink, field: Field, text: Option<&[u8]>) {
    sink.found(field, text.map_or(Found::Other, Found::Text));
}

/// Keeps bytes, up to one more than `max` in all.
#[inline(never)]
fn keep(token: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let room = max.saturating_add(1).saturating_sub(token.len());
    token.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

/// Reads a whole number that is not negative: `3`, `3.0`, `30e-1`.
#[inline(never)]
fn number(written: &[u8]) -> Option<u64> {
    let spelled = json_text::number(written).filter(|_| written.len() <= MAX_VALUE)?;
    core::str::from_utf8(&spelled).ok()?.parse().ok()
}

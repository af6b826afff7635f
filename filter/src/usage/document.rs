//! Scanner of one JSON document: finds the fields at known places, byte by byte, in constant memory.
//!
//! What the places do not lead to is skipped by its quotes and brackets alone, to any depth. The scan takes no more than
//! a few steps for each byte, so that no bound is needed for what an upstream may send.

use alloc::vec::Vec;

use super::field::Field;
use super::paths::{MAX_STEPS, NOWHERE, Paths, Place, ROOT};
use crate::descriptor::{json_number, split_text, unescaped};

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
    /// Places of the objects around the present place, but those that are skipped.
    open: [Place; MAX_STEPS],
    depth: usize,
    /// Place of the value that is being read, or comes next.
    here: Place,
    /// Key or value that is being read, as it is written.
    token: Vec<u8>,
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
            open: [NOWHERE; MAX_STEPS],
            depth: 0,
            here: ROOT,
            token: Vec::new(),
            is_text: false,
            after_colon: false,
            text_bytes: 0,
        }
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

    /// Takes the next bytes of the document. Returns those behind its end.
    pub(super) fn push<'a>(&mut self, paths: &Paths, mut bytes: &'a [u8], sink: &mut dyn Sink) -> &'a [u8] {
        while let Some((&byte, after)) = bytes.split_first() {
            bytes = match self.state {
                State::SkippedText { depth, escaped } => self.skip_text(depth, escaped, bytes),
                State::Skipped { depth } => self.skip(depth, bytes),
                State::Text { field, escaped } => self.text(field, escaped, bytes, sink),
                State::KeyText { escaped } => self.key(escaped, bytes, paths),
                State::Scalar => self.scalar(bytes, paths, sink),
                State::Ended | State::Malformed => return bytes,
                _ => {
                    self.punctuation(byte, paths, sink);
                    after
                }
            };
        }
        bytes
    }

    fn punctuation(&mut self, byte: u8, paths: &Paths, sink: &mut dyn Sink) {
        self.state = match (self.state, byte) {
            (state, b' ' | b'\t' | b'\n' | b'\r') => state,
            (State::Value, _) => self.value(byte, paths, sink),
            (State::FirstKey | State::Key, b'"') => {
                self.token.clear();
                State::KeyText { escaped: false }
            }
            (State::Colon, b':') => State::Value,
            (State::Comma, b',') => State::Key,
            (State::FirstKey | State::Comma, b'}') => {
                self.depth = self.depth.saturating_sub(1);
                self.after_value()
            }
            _ => State::Malformed,
        };
    }

    /// Takes the first byte of a value.
    fn value(&mut self, byte: u8, paths: &Paths, sink: &mut dyn Sink) -> State {
        let field = paths.field(self.here);
        match byte {
            b'{' | b'[' => {
                if let Some(field) = field {
                    sink.found(field, Found::Container);
                }
                let place = self.open.get_mut(self.depth).filter(|_| byte == b'{' && paths.leads_on(self.here));
                let Some(place) = place else {
                    self.is_text = self.depth == 1 && field.is_none();
                    self.after_colon = false;
                    return State::Skipped { depth: 0 };
                };
                *place = self.here;
                self.depth = self.depth.saturating_add(1);
                State::FirstKey
            }
            b'"' => {
                let is_name = matches!(self.token.as_slice(), b"type" | b"id" | b"role");
                self.is_text = match self.depth {
                    1 => paths.leads_on(self.here),
                    // The response of OpenAI's Responses API repeats its instructions.
                    2 => !is_name && self.open.get(1) != Some(&paths.member(ROOT, b"response")),
                    _ => false,
                };
                self.token.clear();
                State::Text { field, escaped: false }
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.token.clear();
                self.token.push(byte);
                State::Scalar
            }
            _ => State::Malformed,
        }
    }

    fn after_value(&self) -> State {
        if self.depth == 0 { State::Ended } else { State::Comma }
    }

    fn key<'a>(&mut self, escaped: bool, bytes: &'a [u8], paths: &Paths) -> &'a [u8] {
        let (read, rest, escaped) = split_text(bytes, escaped);
        keep(&mut self.token, read, paths.longest_key().saturating_mul(MAX_ESCAPE));
        let Some(rest) = rest else {
            self.state = State::KeyText { escaped };
            return &[];
        };
        let around = self.depth.checked_sub(1).and_then(|last| self.open.get(last)).copied().unwrap_or(NOWHERE);
        self.here = unescaped(&self.token).map_or(NOWHERE, |key| paths.member(around, &key));
        self.state = State::Colon;
        rest
    }

    fn text<'a>(&mut self, field: Option<Field>, escaped: bool, bytes: &'a [u8], sink: &mut dyn Sink) -> &'a [u8] {
        let (read, rest, escaped) = split_text(bytes, escaped);
        match field {
            Some(Field::Bytes) => sink.found(Field::Bytes, Found::Piece(read)),
            Some(_) => keep(&mut self.token, read, MAX_VALUE),
            None if self.is_text => self.count(read.len()),
            None => {}
        }
        let Some(rest) = rest else {
            self.state = State::Text { field, escaped };
            return &[];
        };
        self.state = self.after_value();
        if let Some(field) = field.filter(|field| *field != Field::Bytes) {
            match unescaped(&self.token).filter(|_| self.token.len() <= MAX_VALUE) {
                Some(text) => sink.found(field, Found::Text(&text)),
                None => sink.found(field, Found::Other),
            }
        }
        rest
    }

    fn scalar<'a>(&mut self, bytes: &'a [u8], paths: &Paths, sink: &mut dyn Sink) -> &'a [u8] {
        let is_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let end = bytes.iter().position(|byte| !is_of_it(byte));
        let (read, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
        let field = paths.field(self.here);
        if field.is_some() || self.depth == 0 {
            keep(&mut self.token, read, MAX_VALUE);
        }
        if end.is_none() {
            return &[];
        }
        self.state = self.after_value();
        match (field, self.token.as_slice()) {
            (None, _) | (_, b"null") => {}
            (Some(Field::Cost), written) if written.len() <= MAX_VALUE => {
                sink.found(Field::Cost, Found::Written(written))
            }
            (Some(field), written) => sink.found(field, number(written).map_or(Found::Other, Found::Number)),
        }
        rest
    }

    fn skip<'a>(&mut self, mut depth: u32, mut rest: &'a [u8]) -> &'a [u8] {
        let mut after_colon = self.after_colon;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'"' => {
                    let (read, behind, escaped) = split_text(rest, false);
                    if self.is_text && after_colon {
                        self.count(read.len());
                    }
                    let Some(behind) = behind else {
                        self.after_colon = after_colon;
                        self.state = State::SkippedText { depth, escaped };
                        return &[];
                    };
                    rest = behind;
                }
                b'}' | b']' => match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => {
                        self.state = self.after_value();
                        return rest;
                    }
                },
                _ => {}
            }
            after_colon = *byte == b':' || (after_colon && matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        }
        self.after_colon = after_colon;
        self.state = State::Skipped { depth };
        rest
    }

    fn skip_text<'a>(&mut self, depth: u32, escaped: bool, bytes: &'a [u8]) -> &'a [u8] {
        let (read, rest, escaped) = split_text(bytes, escaped);
        if self.is_text && self.after_colon {
            self.count(read.len());
        }
        self.state = match rest {
            Some(_) => {
                self.after_colon = false;
                State::Skipped { depth }
            }
            None => State::SkippedText { depth, escaped },
        };
        rest.unwrap_or_default()
    }
}

/// Keeps bytes, up to one more than `max` in all.
fn keep(token: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let room = max.saturating_add(1).saturating_sub(token.len());
    token.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

/// Reads a whole number that is not negative: `3`, `3.0`, `30e-1`.
fn number(written: &[u8]) -> Option<u64> {
    let spelled = json_number(written).filter(|_| written.len() <= MAX_VALUE)?;
    core::str::from_utf8(&spelled).ok()?.parse().ok()
}

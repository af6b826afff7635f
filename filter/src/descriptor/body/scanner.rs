//! Incremental scanner of JSON: finds the values at a few JSON pointers, whatever else the document holds.
//!
//! It is fed a body piece by piece, without recursion, and keeps no more than the values that it has found. Whatever
//! the pointers do not lead to is skipped by its quotes and brackets alone: numbers of any size, text that is no UTF-8
//! and any depth of nesting are none of its business. A parser of all of it would refuse bodies that upstreams accept
//! (`1e400`, 130 nested lists, lone surrogates).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::json_pointer::JsonPointer;
use super::text::{scalar, unescaped};
use super::{BodyValues, Value};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A scan of one document.
#[derive(Debug)]
pub(crate) struct JsonScanner {
    pointers: Arc<Vec<JsonPointer>>,
    tracks: Vec<Track>,
    /// The objects and lists around the present place, from the outermost one. Those that are skipped are not here.
    open: Vec<Container>,
    state: State,
    /// The key, string, number or word that is being read, as it is written.
    token: Vec<u8>,
}

/// What is known of one pointer.
#[derive(Debug)]
struct Track {
    /// Which of the pointers.
    pointer: usize,
    /// How many of its first steps lead to the present place; more behind a container that is closed, up to the next step.
    matched: usize,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    /// A list, and the index of its present item.
    List(usize),
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The rest of the byte order mark, from this byte on, or the document.
    Start(usize),
    Value,
    /// A value, or the end of the list.
    FirstItem,
    /// A key, or the end of the object.
    FirstKey,
    Key,
    Colon,
    /// A comma, or the end of the container.
    Comma,
    /// The rest of a string. `escaped`: its next byte stands behind a backslash.
    Text {
        of: Text,
        escaped: bool,
    },
    /// The rest of a number or word. `kept`: it is looked at.
    Scalar {
        kept: bool,
    },
    /// The rest of an object or list that is skipped, at this depth in it.
    Skipped(usize),
    /// Nothing: the document has ended, and what follows it is not looked at.
    Ended,
    /// Nothing: it is no JSON.
    Malformed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Key,
    Wanted,
    Unwanted,
    /// In a container that is skipped, at this depth.
    Skipped(usize),
}

impl JsonScanner {
    /// A scan for those of the pointers whose bit is set in `wanted`.
    pub(crate) fn new(pointers: &Arc<Vec<JsonPointer>>, wanted: u32) -> Self {
        let is_wanted = |nth: &usize| {
            u32::try_from(*nth).ok().and_then(|nth| wanted.checked_shr(nth)).is_some_and(|bit| bit & 1 == 1)
        };
        let track = |pointer| Track { pointer, matched: 0, value: Value::Absent };
        Self {
            pointers: Arc::clone(pointers),
            tracks: (0..pointers.len()).filter(is_wanted).map(track).collect(),
            open: Vec::new(),
            state: State::Start(0),
            token: Vec::new(),
        }
    }

    /// Takes the next piece of the document.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, after)) = bytes.split_first() {
            bytes = match self.state {
                State::Text { of, escaped } => self.text(of, escaped, bytes),
                State::Scalar { kept } => self.scalar(kept, bytes),
                State::Skipped(depth) => self.skip(depth, bytes),
                State::Ended | State::Malformed => return,
                _ => {
                    self.punctuation(byte);
                    after
                }
            };
        }
    }

    /// Whether nothing that may follow changes anything.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Malformed)
    }

    /// Whether each value has been found, as far as the document has come.
    pub(crate) fn has_all(&self) -> bool {
        self.state != State::Malformed && self.tracks.iter().all(|track| matches!(track.value, Value::Text(_)))
    }

    /// The values of the whole document. `None` where it is no JSON.
    pub(crate) fn into_values(mut self) -> Option<BodyValues> {
        if let (State::Scalar { kept }, []) = (self.state, self.open.as_slice()) {
            // Nothing else ends a document that is a number or a word.
            self.end_scalar(kept);
        }
        (self.state == State::Ended).then(|| self.values())
    }

    /// The values of a document of which no more can be read: what has not been found may yet stand in the rest.
    /// `None` where it is no JSON.
    pub(crate) fn into_values_so_far(mut self) -> Option<BodyValues> {
        for track in &mut self.tracks {
            if self.state != State::Ended && matches!(track.value, Value::Absent) {
                track.value = Value::Unreadable;
            }
        }
        (self.state != State::Malformed).then(|| self.values())
    }

    fn values(self) -> BodyValues {
        let values = self.tracks.into_iter().map(|track| (track.pointer, track.value)).collect();
        BodyValues { pointers: self.pointers, values }
    }

    /// A byte outside of strings, numbers and words.
    fn punctuation(&mut self, byte: u8) {
        let top = self.open.last().copied();
        self.state = match (self.state, byte) {
            (State::Start(0), _) if Some(&byte) != BYTE_ORDER_MARK.first() => {
                self.state = State::Value;
                return self.punctuation(byte);
            }
            (State::Start(read), _) if BYTE_ORDER_MARK.get(read) == Some(&byte) => match read.saturating_add(1) {
                read if read == BYTE_ORDER_MARK.len() => State::Value,
                read => State::Start(read),
            },
            (State::Start(_), _) => State::Malformed,
            (state, b' ' | b'\t' | b'\n' | b'\r') => state,
            (State::Value | State::FirstItem, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') => {
                self.value(byte)
            }
            (State::FirstKey | State::Key, b'"') => {
                self.token.clear();
                State::Text { of: Text::Key, escaped: false }
            }
            (State::Colon, b':') => State::Value,
            (State::Comma, b',') => match top {
                Some(Container::List(index)) => {
                    self.open.pop();
                    self.item(index.saturating_add(1));
                    State::Value
                }
                _ => State::Key,
            },
            (State::FirstKey | State::Comma, b'}') if top == Some(Container::Object) => self.close(),
            (State::FirstItem | State::Comma, b']') if matches!(top, Some(Container::List(_))) => self.close(),
            _ => State::Malformed,
        };
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8) -> State {
        let (mut is_wanted, mut is_on_the_way) = (false, false);
        for track in &self.tracks {
            if track.matched == self.open.len() {
                match self.pointers.get(track.pointer).map_or(0, JsonPointer::len) {
                    steps if steps == track.matched => is_wanted = true,
                    _ => is_on_the_way = true,
                }
            }
        }
        self.token.clear();
        match byte {
            b'{' if is_on_the_way => {
                self.open.push(Container::Object);
                State::FirstKey
            }
            b'[' if is_on_the_way => {
                self.item(0);
                State::FirstItem
            }
            b'{' | b'[' => State::Skipped(0),
            b'"' if is_wanted => State::Text { of: Text::Wanted, escaped: false },
            b'"' => State::Text { of: Text::Unwanted, escaped: false },
            _ => {
                self.token.push(byte);
                // Of a document that is no JSON, the first word is as good as any to tell.
                State::Scalar { kept: is_wanted || self.open.is_empty() }
            }
        }
    }

    /// The item of a list begins that has this index.
    fn item(&mut self, index: usize) {
        self.open.push(Container::List(index));
        self.enter(&|pointer, place| pointer.enters_item(place, index));
    }

    /// The step into the innermost container is known. Whatever stood there before no longer counts: of an object's
    /// members with the same key, the last is the value.
    fn enter(&mut self, matches: &dyn Fn(&JsonPointer, usize) -> bool) {
        let depth = self.open.len();
        let above = depth.saturating_sub(1);
        for track in &mut self.tracks {
            track.matched = track.matched.min(above);
            let pointer = self.pointers.get(track.pointer).filter(|_| track.matched == above);
            if pointer.is_some_and(|pointer| matches(pointer, above)) {
                track.matched = depth;
                track.value = Value::Absent;
            }
        }
    }

    fn close(&mut self) -> State {
        self.open.pop();
        self.after_value()
    }

    fn after_value(&self) -> State {
        if self.open.is_empty() { State::Ended } else { State::Comma }
    }

    /// Sets what is found here.
    fn find(&mut self, value: &Value) {
        for track in &mut self.tracks {
            let steps = self.pointers.get(track.pointer).map_or(0, JsonPointer::len);
            if track.matched == self.open.len() && steps == track.matched {
                track.value = value.clone();
            }
        }
    }

    /// The next bytes of a string: what is left of them behind it.
    fn text<'a>(&mut self, of: Text, escaped: bool, bytes: &'a [u8]) -> &'a [u8] {
        let run =
            if escaped { 1 } else { bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len()) };
        let (read, rest) = bytes.split_at_checked(run).unwrap_or((bytes, &[]));
        let is_kept = matches!(of, Text::Key | Text::Wanted);
        if is_kept {
            self.token.extend_from_slice(read);
        }
        match rest.split_first() {
            _ if escaped => {
                self.state = State::Text { of, escaped: false };
                rest
            }
            Some((b'"', after)) => {
                self.state = self.end_text(of);
                after
            }
            Some((backslash, after)) => {
                self.token.extend(Some(*backslash).filter(|_| is_kept));
                self.state = State::Text { of, escaped: true };
                after
            }
            None => rest,
        }
    }

    fn end_text(&mut self, of: Text) -> State {
        match of {
            Text::Skipped(depth) => return State::Skipped(depth),
            Text::Unwanted => return self.after_value(),
            Text::Key | Text::Wanted => {}
        }
        let token = core::mem::take(&mut self.token);
        let Some(text) = unescaped(&token) else { return State::Malformed };
        let next = match of {
            Text::Key => {
                self.enter(&|pointer, place| pointer.enters_member(place, &text));
                State::Colon
            }
            _ => {
                self.find(&Value::text(&text));
                self.after_value()
            }
        };
        drop(text);
        self.token = token;
        next
    }

    /// The next bytes of a number or word: what is left of them behind it.
    fn scalar<'a>(&mut self, kept: bool, bytes: &'a [u8]) -> &'a [u8] {
        let is_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let run = bytes.iter().position(|byte| !is_of_it(byte));
        let (read, rest) = bytes.split_at_checked(run.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
        if kept {
            self.token.extend_from_slice(read);
        }
        if run.is_some() {
            self.end_scalar(kept);
        }
        rest
    }

    fn end_scalar(&mut self, kept: bool) {
        self.state = self.after_value();
        if kept {
            match scalar(&self.token) {
                Some(value) => self.find(&value),
                None => self.state = State::Malformed,
            }
        }
    }

    /// The next bytes of a container that is skipped: what is left of them behind it, or from a string on.
    fn skip<'a>(&mut self, mut depth: usize, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => {
                        self.state = self.after_value();
                        return rest;
                    }
                },
                b'"' => {
                    self.state = State::Text { of: Text::Skipped(depth), escaped: false };
                    return rest;
                }
                _ => {}
            }
        }
        self.state = State::Skipped(depth);
        rest
    }
}

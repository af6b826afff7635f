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
/// The most bytes in which one byte of a key may be written: `\u0061`.
const MAX_ESCAPE: usize = 6;

/// Work that any document is worth: 2,000 members, say. Prices are of the order of instructions; `tests/work.rs` holds
/// their sum against what is executed.
const WORK: usize = 2_900_000;
/// Work that each byte of the longest document is worth.
const WORK_PER_BYTE: usize = 44;
/// Work of reading one byte of a string, number, word or blank.
const READ_BYTE: usize = 25;
/// Work of reading one byte of what is skipped.
const SKIPPED_BYTE: usize = 40;
/// Work of decoding one byte of a value.
const DECODED_BYTE: usize = 60;
/// Work of a bracket, colon, comma or quote.
const PUNCTUATION: usize = 150;
/// Work of the step to a member or an item, of comparing it with that of a pointer, and of setting a value.
const STEP: usize = 300;
const COMPARED: usize = 220;
const SET: usize = 300;

/// A scan of one document.
///
/// What may be done for a document is bounded, as a body may have tens of thousands of members or items, each of which
/// costs some hundred times what a byte does. What is behind the bound is not read.
#[derive(Debug)]
pub(crate) struct JsonScanner {
    pointers: Arc<Vec<JsonPointer>>,
    tracks: Vec<Track>,
    /// The objects and lists around the present place, from the outermost one. Those that are skipped are not here.
    open: Vec<Level>,
    /// The pointers that lead to the present place or through it; within a scalar, to it.
    here: Tracks,
    state: State,
    /// The key, string, number or word that is being read, as it is written. Of a longer key than any of the pointers',
    /// its start.
    token: Vec<u8>,
    max_key: usize,
    /// Work that may still be done.
    work: usize,
}

/// A set of [tracks](JsonScanner::tracks): a bit for each.
type Tracks = u32;

/// Progress of one pointer.
#[derive(Debug)]
struct Track {
    /// Index of the pointer.
    pointer: usize,
    value: Value,
}

/// An object or list around the present place.
#[derive(Debug)]
struct Level {
    container: Container,
    /// The pointers that lead into it.
    into: Tracks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    /// A list, the index of its present item, and that of the next one that a pointer leads to, if any does.
    List {
        index: usize,
        next: Option<usize>,
    },
}

/// State of the parser: the tokens that may come next.
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
    /// The document has ended; bytes after it are ignored.
    Ended,
    /// The document is not JSON.
    Malformed,
    /// Reading more would take too much work.
    Cut,
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
        let is_wanted = |nth: &usize| bit(*nth) & wanted != 0;
        let track = |pointer| Track { pointer, value: Value::Absent };
        let tracks: Vec<Track> = (0..pointers.len()).filter(is_wanted).map(track).collect();
        Self {
            pointers: Arc::clone(pointers),
            here: (0..tracks.len()).fold(0, |all, nth| all | bit(nth)),
            tracks,
            open: Vec::new(),
            state: State::Start(0),
            token: Vec::new(),
            max_key: pointers.iter().map(JsonPointer::longest_key).max().unwrap_or(0).saturating_mul(MAX_ESCAPE),
            work: WORK,
        }
    }

    /// The same scan, of a document of up to so many bytes.
    pub(crate) fn of_bytes(self, max: usize) -> Self {
        Self { work: max.saturating_mul(WORK_PER_BYTE).max(WORK), ..self }
    }

    /// Takes the next piece of the document.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, after)) = bytes.split_first() {
            let (rest, per_byte) = match self.state {
                State::Text { of, escaped } => (self.text(of, escaped, bytes), READ_BYTE),
                State::Scalar { kept } => (self.scalar(kept, bytes), READ_BYTE),
                State::Skipped(depth) => (self.skip(depth, bytes), SKIPPED_BYTE),
                State::Ended | State::Malformed | State::Cut => return,
                State::Start(_) => {
                    self.punctuation(byte);
                    (after, PUNCTUATION)
                }
                _ if is_blank(byte) => (after_blanks(after), READ_BYTE),
                _ => {
                    self.punctuation(byte);
                    (after, PUNCTUATION)
                }
            };
            self.charge(bytes.len().saturating_sub(rest.len()).saturating_mul(per_byte));
            bytes = rest;
        }
    }

    /// Books work that is then done in any case.
    fn book(&mut self, work: usize) {
        self.work = self.work.saturating_sub(work);
    }

    /// Books work. Where too little is left, no more is read.
    fn charge(&mut self, work: usize) {
        match self.work.checked_sub(work) {
            Some(left) => self.work = left,
            None if self.state == State::Malformed || self.state == State::Ended => {}
            None => self.state = State::Cut,
        }
    }

    /// Whether nothing that may follow changes anything.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Malformed | State::Cut)
    }

    /// Whether each value has been found, as far as the document has come.
    pub(crate) fn has_all(&self) -> bool {
        self.state != State::Malformed && self.tracks.iter().all(|track| matches!(track.value, Value::Text(_)))
    }

    /// The values of the whole document, as far as the work for it suffices. `None` where it is no JSON.
    pub(crate) fn into_values(mut self) -> Option<BodyValues> {
        if self.state == State::Cut {
            return self.into_values_so_far();
        }
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
        let top = self.open.last().map(|level| level.container);
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
            (state, _) if is_blank(byte) => state,
            (State::Value | State::FirstItem, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') => {
                self.value(byte)
            }
            (State::FirstKey | State::Key, b'"') => {
                self.token.clear();
                State::Text { of: Text::Key, escaped: false }
            }
            (State::Colon, b':') => State::Value,
            (State::Comma, b',') => match top {
                Some(Container::List { index, next }) => {
                    self.item(index.saturating_add(1), next);
                    State::Value
                }
                _ => State::Key,
            },
            (State::FirstKey | State::Comma, b'}') if top == Some(Container::Object) => self.close(),
            (State::FirstItem | State::Comma, b']') if matches!(top, Some(Container::List { .. })) => self.close(),
            _ => State::Malformed,
        };
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8) -> State {
        let depth = self.open.len();
        let wanted = self.of(self.here, &|pointer| pointer.len() == depth);
        let into = self.here & !wanted;
        self.here = wanted;
        match byte {
            b'{' if into != 0 => {
                self.open.push(Level { container: Container::Object, into });
                State::FirstKey
            }
            b'[' if into != 0 => {
                self.open.push(Level { container: Container::List { index: 0, next: None }, into });
                self.item(0, Some(0));
                State::FirstItem
            }
            b'{' | b'[' => State::Skipped(0),
            b'"' if wanted != 0 => {
                self.token.clear();
                State::Text { of: Text::Wanted, escaped: false }
            }
            b'"' => State::Text { of: Text::Unwanted, escaped: false },
            _ => {
                self.token.clear();
                self.token.push(byte);
                // Of a document that is no JSON, the first word is as good as any to tell.
                State::Scalar { kept: wanted != 0 || self.open.is_empty() }
            }
        }
    }

    /// The item of the innermost list begins that has this index. The first one from it on that a pointer leads to may be
    /// `next`.
    fn item(&mut self, index: usize, next: Option<usize>) {
        let place = self.open.len().saturating_sub(1);
        let into = self.open.last().map_or(0, |level| level.into);
        let (mut here, mut next) = (0, next);
        self.book(STEP);
        if next == Some(index) {
            self.book(bits(into).saturating_mul(COMPARED * 2));
            here = self.of(into, &|pointer| pointer.item(place) == Some(index));
            let pointers = self.tracks.iter().enumerate().filter(|(nth, _)| bit(*nth) & into != 0);
            let items = pointers.filter_map(|(_, track)| self.pointers.get(track.pointer)?.item(place));
            next = items.filter(|item| *item > index).min();
        }
        if let Some(level) = self.open.last_mut() {
            level.container = Container::List { index, next };
        }
        self.enter(here);
    }

    /// The key of a member of the innermost object has ended.
    fn member(&mut self) -> State {
        let mut here = 0;
        self.book(STEP);
        if self.token.len() <= self.max_key {
            self.book(self.token.len().saturating_mul(READ_BYTE));
            let Some(key) = unescaped(&self.token) else { return State::Malformed };
            let place = self.open.len().saturating_sub(1);
            let into = self.open.last().map_or(0, |level| level.into);
            here = self.of(into, &|pointer| pointer.enters_member(place, &key));
            drop(key);
            self.book(bits(into).saturating_mul(COMPARED));
        }
        self.enter(here);
        State::Colon
    }

    /// The step into the innermost container is known. Whatever stood there before no longer counts: of an object's
    /// members with the same key, the last is the value.
    fn enter(&mut self, here: Tracks) {
        self.here = here;
        if here != 0 {
            self.set(&Value::Absent);
        }
    }

    fn close(&mut self) -> State {
        self.open.pop();
        self.after_value()
    }

    fn after_value(&self) -> State {
        if self.open.is_empty() { State::Ended } else { State::Comma }
    }

    /// Sets what is known of the pointers that lead here.
    fn set(&mut self, value: &Value) {
        self.book(bits(self.here).saturating_mul(SET));
        for (nth, track) in self.tracks.iter_mut().enumerate() {
            if bit(nth) & self.here != 0 {
                track.value = value.clone();
            }
        }
    }

    /// Tracks whose pointers satisfy a condition.
    #[inline(always)]
    fn of(&self, some: Tracks, is_so: &dyn Fn(&JsonPointer) -> bool) -> Tracks {
        let (mut left, mut found) = (some, 0);
        while left != 0 {
            let lowest = left & left.wrapping_neg();
            left ^= lowest;
            let track = usize::try_from(lowest.trailing_zeros()).ok().and_then(|nth| self.tracks.get(nth));
            if track.and_then(|track| self.pointers.get(track.pointer)).is_some_and(is_so) {
                found |= lowest;
            }
        }
        found
    }

    /// The next bytes of a string: what is left of them behind it.
    fn text<'a>(&mut self, of: Text, escaped: bool, bytes: &'a [u8]) -> &'a [u8] {
        let (read, rest, escaped) = split_text(bytes, escaped);
        match of {
            Text::Wanted => self.token.extend_from_slice(read),
            Text::Key => {
                let room = self.max_key.saturating_add(1).saturating_sub(self.token.len());
                self.token.extend_from_slice(read.get(..room).unwrap_or(read));
            }
            Text::Unwanted | Text::Skipped(_) => {}
        }
        match rest {
            Some(rest) => {
                self.state = self.end_text(of);
                rest
            }
            None => {
                self.state = State::Text { of, escaped };
                &[]
            }
        }
    }

    fn end_text(&mut self, of: Text) -> State {
        match of {
            Text::Skipped(depth) => State::Skipped(depth),
            Text::Unwanted => self.after_value(),
            Text::Key => self.member(),
            Text::Wanted => {
                let work = self.token.len().saturating_mul(DECODED_BYTE);
                if work > self.work {
                    return State::Cut;
                }
                self.book(work);
                let Some(text) = unescaped(&self.token) else { return State::Malformed };
                let value = Value::text(&text);
                self.set(&value);
                self.after_value()
            }
        }
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
            let work = self.token.len().saturating_mul(DECODED_BYTE);
            if work > self.work {
                self.state = State::Cut;
                return;
            }
            self.book(work);
            match scalar(&self.token) {
                Some(value) => self.set(&value),
                None => self.state = State::Malformed,
            }
        }
    }

    /// The next bytes of a container that is skipped: what is left of them behind it.
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
                b'"' => match split_text(rest, false) {
                    (_, Some(behind), _) => rest = behind,
                    (_, None, escaped) => {
                        self.state = State::Text { of: Text::Skipped(depth), escaped };
                        return &[];
                    }
                },
                _ => {}
            }
        }
        self.state = State::Skipped(depth);
        rest
    }
}

/// The rest of a string, and what is behind its closing quote. `None` where it goes on in the next piece, and then
/// whether that begins behind a backslash.
#[inline(always)]
fn split_text(bytes: &[u8], mut escaped: bool) -> (&[u8], Option<&[u8]>, bool) {
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (read, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
                return (read, rest.get(1..), false);
            }
            _ => {}
        }
    }
    (bytes, None, escaped)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn after_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().position(|byte| !is_blank(*byte)).unwrap_or(bytes.len());
    bytes.get(blanks..).unwrap_or_default()
}

/// Number of tracks in a set.
fn bits(tracks: Tracks) -> usize {
    usize::try_from(tracks.count_ones()).unwrap_or(usize::MAX)
}

/// The set of one track.
fn bit(nth: usize) -> Tracks {
    u32::try_from(nth).ok().and_then(|nth| 1_u32.checked_shl(nth)).unwrap_or(0)
}

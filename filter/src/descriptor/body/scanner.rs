//! Incremental scanner of JSON: finds the values at a few JSON pointers, whatever else the document holds.
//!
//! It is fed a body piece by piece, without recursion, and keeps no more than the values that it has found. Whatever
//! the pointers do not lead to is skipped by its quotes and brackets alone: numbers of any size, text that is no UTF-8
//! and any depth of nesting are none of its business. A parser of all of it would refuse bodies that upstreams accept
//! (`1e400`, 130 nested lists, lone surrogates).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::size::Measure;
use super::state::{Container, Level, State, Text, Track, Tracks, bit};
use super::values::{BodyValues, Value};
use super::work::{PUNCTUATION, READ_BYTE, SKIPPED_BYTE, WORK, WORK_PER_BYTE};
use crate::descriptor::json_pointer::JsonPointer;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The most bytes in which one byte of a key may be written: `\u0061`.
const MAX_ESCAPE: usize = 6;

/// A scan of one document.
///
/// What may be done for a document is bounded, as a body may have tens of thousands of members or items, each of which
/// costs some hundred times what a byte does. What is behind the bound is not read.
#[derive(Debug)]
pub(crate) struct JsonScanner {
    pub(super) pointers: Arc<Vec<JsonPointer>>,
    pub(super) tracks: Vec<Track>,
    /// The objects and lists around the present place, from the outermost one. Those that are skipped are not here.
    pub(super) open: Vec<Level>,
    /// The pointers that lead to the present place or through it; within a scalar, to it.
    pub(super) here: Tracks,
    pub(super) state: State,
    /// The key, string, number or word that is being read, as it is written. Of a longer key than any of the pointers',
    /// its start.
    pub(super) token: Vec<u8>,
    pub(super) max_key: usize,
    /// Work that may still be done.
    pub(super) work: usize,
    /// Measures the body. `None` where no limit charges it.
    measure: Option<Measure>,
}

impl JsonScanner {
    /// A scan for those of the pointers whose bit is set in `wanted`.
    pub(crate) fn new(pointers: &Arc<Vec<JsonPointer>>, wanted: u32) -> Self {
        let is_wanted = |nth: &usize| bit(*nth) & wanted != 0;
        let track = |pointer| Track { pointer, value: Value::Absent, adds: false };
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
            measure: None,
        }
    }

    /// The same scan, of a document of up to so many bytes.
    pub(crate) fn of_bytes(self, max: usize) -> Self {
        Self { work: max.saturating_mul(WORK_PER_BYTE).max(WORK), ..self }
    }

    /// The same scan, which adds up all values at those of the pointers whose bit is set in `adds`, and measures the body
    /// where there is any.
    pub(crate) fn adding(mut self, adds: u32) -> Self {
        for track in &mut self.tracks {
            track.adds = bit(track.pointer) & adds != 0;
            if track.adds {
                self.measure.get_or_insert_default();
            }
        }
        self
    }

    /// Takes the next piece of the whole body, of which the document may be a part, for its size.
    pub(crate) fn measure(&mut self, bytes: &[u8]) {
        if let Some(measure) = &mut self.measure {
            measure.push(bytes);
        }
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
    pub(super) fn book(&mut self, work: usize) {
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
        let is_whole = self.state == State::Ended;
        let values = self.tracks.into_iter().map(|track| (track.pointer, track.value)).collect();
        BodyValues { pointers: self.pointers, values, size: self.measure.map(|measure| measure.size), is_whole }
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
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn after_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().position(|byte| !is_blank(*byte)).unwrap_or(bytes.len());
    bytes.get(blanks..).unwrap_or_default()
}

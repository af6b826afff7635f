//! Place in a document: steps into and out of objects and lists, and the pointers that lead there.

use super::scanner::JsonScanner;
use super::state::{Container, Level, State, Text, Tracks, bit, bits};
use super::values::{BETWEEN, MAX_VALUES, Value};
use super::work::{COMPARED, READ_BYTE, SET, STEP};
use crate::descriptor::json_pointer::JsonPointer;
use crate::json_text::unescaped;

impl JsonScanner {
    /// The first byte of a value.
    pub(super) fn value(&mut self, byte: u8) -> State {
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
    pub(super) fn item(&mut self, index: usize, next: Option<usize>) {
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
    pub(super) fn member(&mut self) -> State {
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
    pub(super) fn enter(&mut self, here: Tracks) {
        self.here = here;
        if here != 0 {
            self.set(&Value::Absent);
        }
    }

    pub(super) fn close(&mut self) -> State {
        self.open.pop();
        self.after_value()
    }

    pub(super) fn after_value(&self) -> State {
        if self.open.is_empty() { State::Ended } else { State::Comma }
    }

    /// Sets what is known of the pointers that lead here.
    pub(super) fn set(&mut self, value: &Value) {
        self.book(bits(self.here).saturating_mul(SET));
        for (nth, track) in self.tracks.iter_mut().enumerate() {
            if bit(nth) & self.here == 0 {
                continue;
            }
            match (&mut track.value, value) {
                (_, Value::Absent) | (Value::Unreadable, _) if track.adds => {}
                (Value::Text(known), Value::Text(other)) if track.adds => {
                    if known.len().saturating_add(other.len()) > MAX_VALUES {
                        track.value = Value::Unreadable;
                    } else if known != other {
                        known.push(BETWEEN);
                        known.extend_from_slice(other);
                    }
                }
                _ => track.value = value.clone(),
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
}

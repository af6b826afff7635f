//! Strings, numbers and words of a document, and the objects and lists that are skipped.

use super::scanner::JsonScanner;
use super::state::{State, Text};
use super::values::Value;
use super::work::DECODED_BYTE;
use crate::json_text::{End, Split, number, split, unescaped};

impl JsonScanner {
    /// The next bytes of a string: what is left of them behind it.
    pub(super) fn text<'a>(&mut self, of: Text, escaped: bool, bytes: &'a [u8]) -> &'a [u8] {
        let Split { read, end, rest } = split(bytes, escaped.into(), false);
        match of {
            Text::Wanted => self.token.extend_from_slice(read),
            Text::Key => {
                let room = self.max_key.saturating_add(1).saturating_sub(self.token.len());
                self.token.extend_from_slice(read.get(..room).unwrap_or(read));
            }
            Text::Unwanted | Text::Skipped(_) => {}
        }
        self.state = match end {
            End::Quote => self.end_text(of),
            End::Cut { escaped } => State::Text { of, escaped },
        };
        rest
    }

    pub(super) fn end_text(&mut self, of: Text) -> State {
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
    pub(super) fn scalar<'a>(&mut self, kept: bool, bytes: &'a [u8]) -> &'a [u8] {
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

    pub(super) fn end_scalar(&mut self, kept: bool) {
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
    pub(super) fn skip<'a>(&mut self, mut depth: usize, bytes: &'a [u8]) -> &'a [u8] {
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
                    let string = split(rest, 0, false);
                    rest = string.rest;
                    if let End::Cut { escaped } = string.end {
                        self.state = State::Text { of: Text::Skipped(depth), escaped };
                        return rest;
                    }
                }
                _ => {}
            }
        }
        self.state = State::Skipped(depth);
        rest
    }
}

/// The value of a number or a word. `None` where it is none of JSON's.
fn scalar(written: &[u8]) -> Option<Value> {
    match written {
        b"true" | b"false" => Some(Value::text(written)),
        b"null" => Some(Value::Absent),
        _ => number(written).map(Value::Text),
    }
}

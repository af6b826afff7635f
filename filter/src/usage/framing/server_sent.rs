//! Server-sent events (HTML Living Standard, 9.2.6).

use crate::json_text::is_line_end;
use crate::usage::amounts::Readings;
use crate::usage::document::Document;
use crate::usage::paths::Paths;

const DATA: &[u8] = b"data";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Scan of a stream of events.
#[derive(Debug)]
pub(in crate::usage) struct ServerSent {
    line: Line,
    /// Whether the last byte was a carriage return: a line feed behind it ends no further line.
    after_return: bool,
    /// Document in the data of the present event.
    document: Document,
    has_data: bool,
}

/// Place in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Within the byte order mark of the stream, behind so many bytes of it.
    Mark(usize),
    /// Within the field's name `data`, behind so many bytes of it.
    Name(usize),
    /// Behind the colon: one space is not part of the value.
    Colon,
    Data,
    /// In the rest of any other field, or of a comment.
    Other,
}

impl ServerSent {
    pub(in crate::usage) fn new() -> Self {
        Self { line: Line::Mark(0), after_return: false, document: Document::in_lines(), has_data: false }
    }

    pub(in crate::usage) fn text_bytes(&self) -> u64 {
        self.document.text_bytes()
    }

    pub(in crate::usage) fn push(&mut self, paths: &Paths, mut bytes: &[u8], readings: &mut Readings) {
        while let Some((&byte, after)) = bytes.split_first() {
            let is_end = is_line_end(byte);
            let is_second = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            bytes = match self.line {
                _ if is_second => after,
                Line::Data | Line::Other | Line::Colon if !is_end => self.rest_of_line(paths, bytes, readings),
                _ if is_end => {
                    self.end_line(paths, readings);
                    after
                }
                Line::Mark(read) if BYTE_ORDER_MARK.get(read) == Some(&byte) => {
                    let read = read.saturating_add(1);
                    self.line = if read == BYTE_ORDER_MARK.len() { Line::Name(0) } else { Line::Mark(read) };
                    after
                }
                Line::Mark(_) => {
                    self.line = Line::Name(0);
                    bytes
                }
                Line::Name(0) if bytes.starts_with(b"data:") => {
                    self.line = Line::Colon;
                    bytes.get(5..).unwrap_or_default()
                }
                Line::Name(read) => {
                    self.line = match DATA.get(read) {
                        Some(expected) if *expected == byte => Line::Name(read.saturating_add(1)),
                        None if byte == b':' => Line::Colon,
                        _ => Line::Other,
                    };
                    after
                }
                Line::Data | Line::Other | Line::Colon => after,
            };
        }
    }

    /// Takes bytes of a field's value, up to the end of the line. Returns those from there on.
    fn rest_of_line<'a>(&mut self, paths: &Paths, mut bytes: &'a [u8], readings: &mut Readings) -> &'a [u8] {
        if self.line == Line::Colon {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.line = Line::Data;
            if core::mem::replace(&mut self.has_data, true) {
                self.document.end_line(paths, readings);
            }
        }
        if self.line == Line::Data {
            bytes = self.document.push(paths, bytes, readings);
        }
        let end = bytes.iter().position(|byte| is_line_end(*byte));
        end.and_then(|end| bytes.get(end..)).unwrap_or_default()
    }

    fn end_line(&mut self, paths: &Paths, readings: &mut Readings) {
        let is_blank = matches!(self.line, Line::Name(0) | Line::Mark(_));
        self.line = Line::Name(0);
        if is_blank && self.has_data {
            // A number or word ends with its event.
            if !self.document.is_over() {
                self.document.end_line(paths, readings);
            }
            readings.malformed = readings.malformed.saturating_add(self.document.is_malformed().into());
            self.document.restart();
            self.has_data = false;
        }
    }
}

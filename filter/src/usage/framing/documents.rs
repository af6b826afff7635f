//! Documents that follow each other: one, those of a list, or one on each line.

use crate::usage::amounts::Readings;
use crate::usage::document::Document;
use crate::usage::paths::Paths;

/// Scan of a body of documents.
#[derive(Debug)]
pub(in crate::usage) struct Documents {
    document: Document,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Within,
    /// Behind something that is no JSON, until the line ends.
    Lost,
}

impl Documents {
    pub(in crate::usage) fn new() -> Self {
        Self { document: Document::new(), place: Place::Between }
    }

    pub(in crate::usage) fn text_bytes(&self) -> u64 {
        self.document.text_bytes()
    }

    pub(in crate::usage) fn push(&mut self, paths: &Paths, mut bytes: &[u8], readings: &mut Readings) {
        while let Some((&byte, after)) = bytes.split_first() {
            bytes = match (self.place, byte) {
                // Brackets and commas of a list, and a byte order mark.
                (Place::Between, b' ' | b'\t' | b'\n' | b'\r' | b'[' | b']' | b',' | 0xef | 0xbb | 0xbf) => after,
                (Place::Between, _) => {
                    self.document.restart();
                    self.place = Place::Within;
                    bytes
                }
                (Place::Within, _) => self.document.push(paths, bytes, readings),
                (Place::Lost, b'\n') => {
                    self.place = Place::Between;
                    after
                }
                (Place::Lost, _) => after,
            };
            if self.place == Place::Within && self.document.is_over() {
                self.place = if self.document.is_malformed() { Place::Lost } else { Place::Between };
                readings.malformed = readings.malformed.saturating_add(self.document.is_malformed().into());
            }
        }
    }
}

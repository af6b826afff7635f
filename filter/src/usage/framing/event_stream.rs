//! Event stream of AWS: messages of a length, headers, and a payload.
//!
//! A message is 4 bytes of its length, 4 bytes of its headers' length, 4 bytes of a checksum, the headers, the payload,
//! and 4 bytes of a checksum. Checksums are not checked: TLS and the client do.

use super::base64::Base64;
use crate::usage::amounts::Readings;
use crate::usage::document::{Document, Found, Sink};
use crate::usage::field::Field;
use crate::usage::paths::Paths;

const PRELUDE: u32 = 12;
const CHECKSUM: u32 = 4;
/// Most bytes of one message: AWS allows 16 MiB of payload and 128 KiB of headers.
const MAX_MESSAGE: u32 = 24 << 20;
/// Bytes of base64 that are decoded at a time.
const DECODED_AT_ONCE: usize = 64;

/// Scan of a stream of messages.
#[derive(Debug)]
pub(in crate::usage) struct EventStream {
    part: Part,
    /// Bytes of the present part that are still to come.
    left: u32,
    /// The last 8 bytes of the prelude that were read.
    prelude: u64,
    payload: Document,
    /// Document within the member `bytes` of the payload.
    inner: Document,
    base64: Base64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Both lengths.
    Lengths,
    /// The prelude's checksum and the headers; then a payload of so many bytes.
    Headers {
        payload: u32,
    },
    Payload,
    Checksum,
    /// The stream is not in this format.
    Lost,
}

impl EventStream {
    pub(in crate::usage) fn new() -> Self {
        Self {
            part: Part::Lengths,
            left: 8,
            prelude: 0,
            payload: Document::new(),
            inner: Document::new(),
            base64: Base64::default(),
        }
    }

    pub(in crate::usage) fn text_bytes(&self) -> u64 {
        self.payload.text_bytes().saturating_add(self.inner.text_bytes())
    }

    pub(in crate::usage) fn push(&mut self, paths: &Paths, mut bytes: &[u8], readings: &mut Readings) {
        while !bytes.is_empty() && self.part != Part::Lost {
            let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (read, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            bytes = rest;
            self.left = self.left.saturating_sub(u32::try_from(wanted).unwrap_or(u32::MAX));
            match self.part {
                Part::Lengths => self.prelude = read.iter().fold(self.prelude, |all, byte| all << 8 | u64::from(*byte)),
                Part::Payload => self.payload(paths, read, readings),
                _ => {}
            }
            while self.left == 0 && self.part != Part::Lost {
                self.next_part(readings);
            }
        }
    }

    fn next_part(&mut self, readings: &mut Readings) {
        (self.part, self.left) = match self.part {
            Part::Lengths => match lengths(self.prelude) {
                // The checksum of the prelude comes before the headers.
                Some((headers, payload)) => (Part::Headers { payload }, headers.saturating_add(CHECKSUM)),
                None => {
                    readings.malformed = readings.malformed.saturating_add(1);
                    (Part::Lost, 0)
                }
            },
            Part::Headers { payload } => (Part::Payload, payload),
            Part::Payload => {
                readings.malformed = readings.malformed.saturating_add(self.payload.is_malformed().into());
                self.payload.restart();
                self.inner.restart();
                self.base64 = Base64::default();
                (Part::Checksum, CHECKSUM)
            }
            Part::Checksum | Part::Lost => (Part::Lengths, 8),
        };
    }

    fn payload(&mut self, paths: &Paths, bytes: &[u8], readings: &mut Readings) {
        let mut inner = Inner { paths, document: &mut self.inner, base64: &mut self.base64, readings };
        self.payload.push(paths, bytes, &mut inner);
    }
}

/// Lengths of the headers and the payload of a message.
fn lengths(prelude: u64) -> Option<(u32, u32)> {
    let total = u32::try_from(prelude >> 32).ok().filter(|total| *total <= MAX_MESSAGE)?;
    let headers = u32::try_from(prelude & u64::from(u32::MAX)).ok()?;
    let payload = total.checked_sub(PRELUDE)?.checked_sub(CHECKSUM)?.checked_sub(headers)?;
    Some((headers, payload))
}

/// Receiver of a payload's fields: reads the document within `bytes`, too.
struct Inner<'a> {
    paths: &'a Paths,
    document: &'a mut Document,
    base64: &'a mut Base64,
    readings: &'a mut Readings,
}

impl Sink for Inner<'_> {
    fn found(&mut self, field: Field, found: Found<'_>) {
        let Found::Piece(written) = found else { return self.readings.found(field, found) };
        for characters in written.chunks(DECODED_AT_ONCE) {
            let mut decoded = [0; DECODED_AT_ONCE];
            let mut count = 0;
            for byte in characters.iter().filter_map(|character| self.base64.push(*character)) {
                if let Some(place) = decoded.get_mut(count) {
                    *place = byte;
                    count = count.saturating_add(1);
                }
            }
            self.document.push(self.paths, decoded.get(..count).unwrap_or_default(), self.readings);
        }
    }
}

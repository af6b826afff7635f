//! Reader of one response's body.

use super::amounts::Readings;
use super::framing::{Frames, Framing};
use super::paths::Paths;

/// Reader of one response's body, fed piece by piece. It keeps no more than the fields that it has found.
#[derive(Debug)]
pub struct Reader {
    frames: Frames,
    readings: Readings,
}

impl Reader {
    /// Creates a reader of a body that is split into documents by `framing`.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { frames: Frames::new(framing), readings: Readings::default() }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, paths: &Paths, bytes: &[u8]) {
        self.frames.push(paths, bytes, &mut self.readings);
    }

    /// Bytes of text of a model so far, roughly: all strings that may be text count.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        self.frames.text_bytes()
    }

    /// Readings of the body so far.
    #[must_use]
    pub fn readings(&self) -> &Readings {
        &self.readings
    }
}

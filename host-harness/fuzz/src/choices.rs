//! Choices of a target, read from the bytes of its input.

/// Reader of an input's bytes, in their order. Once they are used up, every choice is 0.
#[derive(Debug, Clone)]
pub(crate) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn of(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Returns whether all bytes are used up.
    pub(crate) fn are_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes a byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.rest.split_off_first().copied().unwrap_or(0)
    }

    /// Takes a number below `end`, which is 1 to 256, from one byte.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Takes two bytes as a number.
    pub(crate) fn short(&mut self) -> u64 {
        u64::from(self.byte()) | u64::from(self.byte()) << 8
    }

    /// Takes a piece of the input: a byte for its length, then its bytes. Length 255 stands for all bytes that are left.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        match self.byte() {
            u8::MAX => self.rest(),
            length => self.take(usize::from(length)),
        }
    }

    /// Takes all bytes that are left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(self.rest.len())
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        self.rest.split_off(..length.min(self.rest.len())).unwrap_or_default()
    }
}

/// Cuts bytes into pieces whose lengths are those in `lengths`, one after the other and again from the first.
pub(crate) fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        pieces.extend(bytes.split_off(..(*length).clamp(1, bytes.len())));
    }
    pieces
}

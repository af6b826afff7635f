//! Finds where one whole reply ends, without decoding it and without looking twice at the same bytes.
//!
//! `redis-protocol` starts over at each chunk, does not bound nesting, and does not look at what ends a bulk
//! string. This does the opposite of all three, so that the decoder is only ever given one whole, sane reply.

/// The longest reply, in bytes, with its framing.
pub const MAX_REPLY: usize = 64 * 1024;
/// Arrays within arrays, the outermost counted.
pub const MAX_DEPTH: usize = 8;
/// Elements of all arrays of one reply together.
pub const MAX_ELEMENTS: usize = 4096;

/// Why what a peer sent is no reply. Displayed, it repeats nothing that the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// A reply begins with something else than its type.
    #[error("expected a reply's type, one of + - : $ *, found another byte")]
    Type {
        /// The byte there.
        found: u8,
    },
    /// A line that should be an integer is none, or does not fit 64 bits.
    #[error("expected a 64-bit integer after a reply's type, found {length} other bytes")]
    Integer {
        /// The reply's type.
        kind: u8,
        /// The line's length in bytes.
        length: usize,
    },
    /// A length below -1.
    #[error("expected a length of -1 or more, found less")]
    Length {
        /// The reply's type.
        kind: u8,
        /// The length.
        found: i64,
    },
    /// A bulk string that goes on after its end.
    #[error("expected CR LF after a bulk string, found other bytes")]
    Terminator {
        /// The length that the bulk string claimed.
        length: usize,
    },
    /// A reply longer than [`MAX_REPLY`], or that says it will be.
    #[error("expected a reply of at most {MAX_REPLY} bytes, found more")]
    TooLong {
        /// Bytes so far, or claimed.
        found: u64,
    },
    /// Arrays within arrays beyond [`MAX_DEPTH`].
    #[error("expected at most {MAX_DEPTH} arrays within each other, found more")]
    TooDeep,
    /// More elements than [`MAX_ELEMENTS`].
    #[error("expected at most {MAX_ELEMENTS} elements in a reply, found more")]
    TooMany {
        /// Elements claimed so far.
        found: u64,
    },
    /// Found whole, but not decoded. Not known to happen.
    #[error("expected a reply of {length} bytes that decodes, found one that does not")]
    Undecodable {
        /// The reply's length in bytes.
        length: usize,
    },
}

/// How far into a reply one has come. It keeps offsets only: the bytes are the caller's.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    at: usize,
    line_start: usize,
    expects: Expects,
    elements: usize,
    missing: [usize; MAX_DEPTH],
    depth: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum Expects {
    #[default]
    Type,
    /// The rest of a line of this type.
    Line(u8),
    /// A bulk string of this length, and its CR LF.
    Bulk(usize),
}

impl Scanner {
    /// Whether nothing of a reply has been seen yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// The length of the reply that `reply` begins with, once all of it is there.
    ///
    /// `reply` must begin with the bytes of the call before, unless that one found a reply: then a new scanner is
    /// due.
    pub(super) fn scan(&mut self, reply: &[u8]) -> Result<Option<usize>, RespError> {
        loop {
            let element_ended = match self.expects {
                Expects::Type => match reply.get(self.at) {
                    Some(&kind) => self.begin(kind)?,
                    None => return incomplete(reply),
                },
                Expects::Line(kind) => match self.line(reply) {
                    Some(line) => self.end_line(kind, line)?,
                    None => return incomplete(reply),
                },
                Expects::Bulk(length) => match self.bulk(reply, length)? {
                    true => true,
                    false => return incomplete(reply),
                },
            };
            if element_ended {
                self.expects = Expects::Type;
                if self.was_the_last() {
                    return within_limit(self.at).map(Some);
                }
            }
        }
    }

    fn begin(&mut self, kind: u8) -> Result<bool, RespError> {
        if !matches!(kind, b'+' | b'-' | b':' | b'$' | b'*') {
            return Err(RespError::Type { found: kind });
        }
        self.at = self.at.saturating_add(1);
        self.line_start = self.at;
        self.expects = Expects::Line(kind);
        Ok(false)
    }

    /// The line without its CR LF, once it is whole. A line feed alone does not end it.
    fn line<'a>(&mut self, reply: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let unseen = reply.get(self.at..)?;
            let Some(length) = unseen.iter().position(|&byte| byte == b'\n') else {
                self.at = reply.len();
                return None;
            };
            let line = reply.get(self.line_start..self.at.saturating_add(length))?;
            self.at = self.at.saturating_add(length).saturating_add(1);
            if let Some(line) = line.strip_suffix(b"\r") {
                return Some(line);
            }
        }
    }

    /// Takes a line's meaning; whether it was all of its element.
    fn end_line(&mut self, kind: u8, line: &[u8]) -> Result<bool, RespError> {
        if matches!(kind, b'+' | b'-') {
            return Ok(true);
        }
        let number = core::str::from_utf8(line).ok().and_then(|digits| digits.parse::<i64>().ok());
        let number = number.ok_or(RespError::Integer { kind, length: line.len() })?;
        if kind == b':' || number == -1 {
            return Ok(true);
        }
        let length = u64::try_from(number).map_err(|_| RespError::Length { kind, found: number })?;
        if kind == b'$' {
            let too_long = RespError::TooLong { found: length };
            let length = usize::try_from(length).ok().filter(|&length| length <= MAX_REPLY).ok_or(too_long)?;
            self.expects = Expects::Bulk(length);
            return Ok(false);
        }
        self.begin_array(length)
    }

    fn begin_array(&mut self, length: u64) -> Result<bool, RespError> {
        let found = length.saturating_add(self.elements as u64);
        let elements = usize::try_from(found).ok().filter(|&elements| elements <= MAX_ELEMENTS);
        let elements = elements.ok_or(RespError::TooMany { found })?;
        let length = elements.saturating_sub(self.elements);
        self.elements = elements;
        if length == 0 {
            return Ok(true);
        }
        *self.missing.get_mut(self.depth).ok_or(RespError::TooDeep)? = length;
        self.depth = self.depth.saturating_add(1);
        self.expects = Expects::Type;
        Ok(false)
    }

    fn bulk(&mut self, reply: &[u8], length: usize) -> Result<bool, RespError> {
        let end = self.at.saturating_add(length);
        let after = end.saturating_add(2);
        match reply.get(end..after) {
            Some(b"\r\n") => self.at = after,
            Some(_) => return Err(RespError::Terminator { length }),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Counts an element that has ended, and every array that it was the last of; whether that was the reply.
    fn was_the_last(&mut self) -> bool {
        while let Some(innermost) = self.depth.checked_sub(1) {
            let Some(missing) = self.missing.get_mut(innermost) else { return true };
            *missing = missing.saturating_sub(1);
            if *missing > 0 {
                return false;
            }
            self.depth = innermost;
        }
        true
    }
}

fn incomplete(reply: &[u8]) -> Result<Option<usize>, RespError> {
    within_limit(reply.len()).map(|_| None)
}

fn within_limit(length: usize) -> Result<usize, RespError> {
    if length > MAX_REPLY { Err(RespError::TooLong { found: length as u64 }) } else { Ok(length) }
}

//! Scanner: finds the end of a reply without decoding it, in one pass over the bytes.
//!
//! The crate `redis-protocol` restarts at each chunk, does not bound nesting, and does not check the CR LF after a bulk
//! string. The scanner resumes, bounds nesting and checks, so that the crate decodes only complete, bounded replies.
//! Most replies are complete and of a script: these take the shorter way of [`script_reply`](super::script_reply).

/// Longest reply in bytes, including RESP framing.
pub const MAX_REPLY: usize = 64 * 1024;
/// Deepest nesting of arrays, counting the outermost.
pub const MAX_DEPTH: usize = 8;
/// Elements in all arrays of one reply, at most.
pub const MAX_ELEMENTS: usize = 4096;

/// Error in a peer's bytes. `Display` repeats no bytes of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// A reply does not begin with a RESP2 type.
    #[error("expected a reply's type, one of + - : $ *, found another byte")]
    Type {
        /// The byte found.
        found: u8,
    },
    /// A line is not an integer of 64 bits.
    #[error("expected a 64-bit integer after a reply's type, found {length} other bytes")]
    Integer {
        /// The reply's type.
        kind: u8,
        /// The line's length in bytes.
        length: usize,
    },
    /// A length is below -1.
    #[error("expected a length of -1 or more, found less")]
    Length {
        /// The reply's type.
        kind: u8,
        /// The length.
        found: i64,
    },
    /// A bulk string is not followed by CR LF.
    #[error("expected CR LF after a bulk string, found other bytes")]
    Terminator {
        /// The length in the bulk string's header.
        length: usize,
    },
    /// A reply, or the length in a bulk string's header, is longer than [`MAX_REPLY`].
    #[error("expected a reply of at most {MAX_REPLY} bytes, found more")]
    TooLong {
        /// Bytes so far, or the length in the header.
        found: u64,
    },
    /// Arrays are nested deeper than [`MAX_DEPTH`].
    #[error("expected at most {MAX_DEPTH} arrays within each other, found more")]
    TooDeep,
    /// Arrays have more elements than [`MAX_ELEMENTS`].
    #[error("expected at most {MAX_ELEMENTS} elements in a reply, found more")]
    TooMany {
        /// Elements in the headers so far.
        found: u64,
    },
    /// The scanner accepted the reply, but the decoder did not. Not known to happen.
    #[error("expected a reply of {length} bytes that decodes, found one that does not")]
    Undecodable {
        /// The reply's length in bytes.
        length: usize,
    },
}

/// State of a scan. It keeps offsets only; the caller keeps the bytes.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    at: usize,
    line_start: usize,
    /// The part of the reply that comes next.
    next: Part,
    elements: usize,
    missing: [usize; MAX_DEPTH],
    depth: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum Part {
    /// The first byte of an element.
    #[default]
    Type,
    /// The rest of a line, for an element of this type.
    Line(u8),
    /// The bytes of a bulk string of this length, and its CR LF.
    Bulk(usize),
}

impl Scanner {
    /// Returns whether the scan is at the start of a reply.
    pub(super) fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// Returns the length of the reply at the start of `reply`; `None` while it is incomplete.
    ///
    /// `reply` must begin with the bytes of the previous call. After a complete reply, use a new scanner.
    pub(super) fn scan(&mut self, reply: &[u8]) -> Result<Option<usize>, RespError> {
        loop {
            let is_element_complete = match self.next {
                Part::Type => match reply.get(self.at) {
                    Some(&kind) => self.begin(kind)?,
                    None => return incomplete(reply),
                },
                Part::Line(kind) => match self.line(reply) {
                    Some(line) => self.end_line(kind, line)?,
                    None => return incomplete(reply),
                },
                Part::Bulk(length) => match self.bulk(reply, length)? {
                    true => true,
                    false => return incomplete(reply),
                },
            };
            if is_element_complete {
                self.next = Part::Type;
                if self.completes_reply() {
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
        self.next = Part::Line(kind);
        Ok(false)
    }

    /// Returns the line without its CR LF; `None` while it is incomplete. A line feed alone does not end it.
    fn line<'a>(&mut self, reply: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let unscanned = reply.get(self.at..)?;
            let Some(length) = unscanned.iter().position(|&byte| byte == b'\n') else {
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

    /// Handles a complete line. Returns whether it completes its element.
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
            self.next = Part::Bulk(length);
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
        self.next = Part::Type;
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

    /// Counts a complete element, and every array that it completes. Returns whether it completes the reply.
    fn completes_reply(&mut self) -> bool {
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

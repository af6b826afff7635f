//! Objects and lists that are skipped: their strings and brackets, at any depth.

use super::{Document, State};
use crate::json_text::{self, End, Split};

impl Document {
    /// Takes the next bytes of a container that is skipped; between strings, a byte of a scalar or a blank changes nothing.
    /// Returns how many are left.
    pub(super) fn skip(&mut self, mut depth: u32, mut rest: &[u8]) -> usize {
        let mut after_colon = self.after_colon;
        while let Some((byte, after)) = rest.split_first() {
            match byte {
                b'"' => match json_text::plain(after) {
                    Ok((read, behind)) => {
                        if self.is_text && after_colon {
                            self.count(read.len());
                        }
                        after_colon = false;
                        rest = behind;
                        continue;
                    }
                    Err(at) => {
                        self.after_colon = after_colon;
                        return self.skip_text(depth, at, after);
                    }
                },
                b':' => after_colon = true,
                b',' => after_colon = false,
                b'n' => {
                    rest = rest.strip_prefix(b"null").unwrap_or(after);
                    continue;
                }
                b'{' | b'[' => {
                    depth = depth.saturating_add(1);
                    after_colon = false;
                }
                b'}' | b']' => {
                    let Some(less) = depth.checked_sub(1) else {
                        self.state = self.after_value();
                        return after.len();
                    };
                    depth = less;
                    after_colon = false;
                }
                b'\n' | b'\r' if self.is_line => break,
                _ => {}
            }
            rest = after;
        }
        self.after_colon = after_colon;
        self.state = State::Skipped { depth };
        rest.len()
    }

    /// Takes the next bytes of a string in a container that is skipped. Returns how many are left.
    pub(super) fn skip_text(&mut self, depth: u32, at: usize, bytes: &[u8]) -> usize {
        let Split { read, end, rest } = json_text::split(bytes, at, self.is_line);
        if self.is_text && self.after_colon {
            self.count(read.len());
        }
        self.state = match end {
            End::Quote => {
                self.after_colon = false;
                State::Skipped { depth }
            }
            End::Cut { escaped } => State::SkippedText { depth, escaped },
        };
        rest.len()
    }
}

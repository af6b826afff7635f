//! One reply to several calls.

use alloc::vec::{self, Vec};

use super::Reply;

/// The elements of a reply, in the order of the calls whose they are.
#[derive(Debug)]
pub struct Shares(vec::IntoIter<Reply>);

impl Shares {
    /// Those of an array.
    #[must_use]
    pub fn of(elements: Vec<Reply>) -> Self {
        Self(elements.into_iter())
    }

    /// The next call's own reply: an array of so many elements, of fewer where there are no more, or the error that is
    /// in their place.
    pub fn take(&mut self, elements: usize) -> Reply {
        match self.0.as_slice() {
            [Reply::Error(_), ..] => self.0.next().unwrap_or(Reply::Nil),
            _ => Reply::Array(self.0.by_ref().take(elements).collect()),
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

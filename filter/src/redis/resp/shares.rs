//! Shares of a reply that answers several calls, and integers in replies.

use alloc::vec::{self, Vec};

use super::Reply;

/// Bytes of an integer in a packed reply: big-endian, two's complement.
const PACKED: usize = size_of::<i64>();

/// A reply to several calls, split in the order of the calls.
#[derive(Debug)]
pub enum Shares {
    /// Elements of an array, including errors.
    Listed(vec::IntoIter<Reply>),
    /// A bulk string of integers.
    Packed {
        /// All integers.
        bytes: Vec<u8>,
        /// Offset of the first byte that was not taken yet.
        at: usize,
    },
}

impl Shares {
    /// Wraps an array, or a bulk string of packed integers. `None` for any other reply.
    #[must_use]
    pub fn of(reply: Reply) -> Option<Self> {
        match reply {
            Reply::Array(elements) => Some(Self::Listed(elements.into_iter())),
            Reply::Bulk(bytes) => Some(Self::Packed { bytes, at: 0 }),
            _ => None,
        }
    }

    /// Takes the next call's reply, of the same kind as the whole: its `elements` elements, fewer if the reply is too
    /// short, or the error in their place.
    pub fn take(&mut self, elements: usize) -> Reply {
        match self {
            Self::Listed(rest) => match rest.as_slice() {
                [Reply::Error(_) | Reply::Array(_), ..] => rest.next().unwrap_or(Reply::Nil),
                _ => Reply::Array(rest.by_ref().take(elements).collect()),
            },
            Self::Packed { bytes, at } => {
                let end = at.saturating_add(elements.saturating_mul(PACKED)).min(bytes.len());
                let own = bytes.get(*at..end).unwrap_or_default().to_vec();
                *at = end;
                Reply::Bulk(own)
            }
        }
    }

    /// Returns whether everything has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Listed(rest) => rest.len() == 0,
            Self::Packed { bytes, at } => *at >= bytes.len(),
        }
    }
}

/// The integers of a reply, listed or packed.
#[derive(Debug, Clone, Copy)]
pub enum Integers<'a> {
    /// Elements of an array.
    Listed(&'a [Reply]),
    /// Integers of a bulk string, as Lua's `struct.pack('>i8')` writes them.
    Packed(&'a [[u8; PACKED]]),
}

impl<'a> Integers<'a> {
    /// Wraps an array, or a bulk string whose length is a multiple of 8 bytes. `None` for any other reply.
    #[must_use]
    pub fn of(reply: &'a Reply) -> Option<Self> {
        match reply {
            Reply::Array(elements) => Some(Self::Listed(elements)),
            Reply::Bulk(bytes) => match bytes.as_chunks() {
                (packed, []) => Some(Self::Packed(packed)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the integer at an index. `None` beyond the end, or if the element is not an integer.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<i64> {
        match self {
            Self::Listed(elements) => match elements.get(index)? {
                Reply::Integer(integer) => Some(*integer),
                _ => None,
            },
            Self::Packed(packed) => packed.get(index).copied().map(i64::from_be_bytes),
        }
    }

    /// Returns the number of elements, including elements that are not integers.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(elements) => elements.len(),
            Self::Packed(packed) => packed.len(),
        }
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(integers: &[i64]) -> Reply {
        Reply::Bulk(integers.iter().flat_map(|integer| integer.to_be_bytes()).collect())
    }

    #[test]
    fn each_call_takes_its_share_of_packed_integers() {
        let mut shares = Shares::of(packed(&[1, -2, i64::MAX])).unwrap();
        assert_eq!([shares.take(2), shares.take(2)], [packed(&[1, -2]), packed(&[i64::MAX])]);
        assert!(shares.is_empty());
        assert_eq!(shares.take(1), packed(&[]));
    }

    #[test]
    fn integers_are_the_same_listed_or_packed() {
        let listed = Reply::Array([7, -7].map(Reply::Integer).into());
        for reply in [&listed, &packed(&[7, -7])] {
            let integers = Integers::of(reply).unwrap();
            assert_eq!([0, 1, 2].map(|index| integers.get(index)), [Some(7), Some(-7), None]);
            assert_eq!(integers.len(), 2);
        }
    }

    #[test]
    fn a_reply_that_is_not_integers_has_none() {
        assert!(Integers::of(&Reply::Bulk(vec![0; 15])).is_none());
        assert!(Integers::of(&Reply::Simple(vec![0; 16])).is_none());
        assert!(Integers::of(&Reply::Array(vec![Reply::Nil])).is_some_and(|one| one.get(0).is_none()));
    }
}

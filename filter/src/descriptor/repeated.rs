//! Headers, query parameters and cookies that a request has several times.

use alloc::vec::Vec;

/// Which of several values counts. A client that sends two may mean one for the limit and the other for the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// The first.
    First,
    /// The last.
    Last,
    /// All of them, in their order, with commas between.
    Joined,
    /// None: the request is answered 400.
    Reject,
}

/// What counts of the values of one name.
pub(super) enum Counted<'a> {
    Value(&'a [u8]),
    Joined(Vec<&'a [u8]>),
    /// The first of several, where one alone is allowed.
    Rejected(&'a [u8]),
}

impl Repeated {
    /// What counts of `values`; `None` where there are none.
    pub(super) fn count<'a>(self, values: &mut dyn Iterator<Item = &'a [u8]>) -> Option<Counted<'a>> {
        let first = values.next()?;
        let second = if self == Self::First { None } else { values.next() };
        let Some(second) = second else { return Some(Counted::Value(first)) };
        Some(match self {
            Self::First => Counted::Value(first),
            Self::Last => Counted::Value(values.last().unwrap_or(second)),
            Self::Joined => Counted::Joined([first, second].into_iter().chain(values).collect()),
            Self::Reject => Counted::Rejected(first),
        })
    }
}

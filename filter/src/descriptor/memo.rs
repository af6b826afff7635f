//! Values, hashes and work that the limits of one request share.
//!
//! A request may have 60 KB of headers (Envoy's default), and 32 limits may read each byte of them. So values that are
//! costly to find are found once per request, long ones are hashed once, and the work for a request is bounded: what
//! it does not suffice for is left undecided by predicates, and makes no key.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};

use super::attributes::Attributes;
use super::bad_request::BadRequest;
use super::hash::{Hash, hash};
use super::source::Source;
use super::value::Value;

/// Work of all predicates of one request: 40,000 bytes under a regular expression, say. Prices are of the order of
/// instructions; `tests/work.rs` holds their sum against what is executed.
const PREDICATES: usize = 1_000_000;
/// Work of all keys and costs of one request: 36,000 bytes hashed, say.
const KEYS: usize = 1_600_000;
/// Work of hashing one byte.
pub(super) const HASHED_BYTE: usize = 44;
/// Work of comparing a source with one that is remembered.
const RECALLED: usize = 16;
/// Requests with more bytes of headers than this have their values remembered. In shorter ones, finding a value again
/// is cheaper, until that has taken [`MUCH`].
const LONG: usize = 1_024;
/// Work of one request, from which on values of a short one are remembered as well: many limits read it.
const MUCH: usize = 100_000;

/// What the limits of one request have found in it so far.
#[derive(Debug, Default)]
pub struct Memo {
    values: RefCell<Vec<(Source, Known)>>,
    hashes: RefCell<Vec<Hashed>>,
    /// Bytes of `:path` before the query string, and before the fragment.
    path: Cell<Option<(usize, usize)>>,
    source_address: OnceCell<Option<Vec<u8>>>,
    for_predicates: Cell<usize>,
    for_keys: Cell<usize>,
    rejection: Cell<Option<BadRequest>>,
}

/// What was found of a source.
#[derive(Debug)]
enum Known {
    Nothing,
    /// The bytes from here to there of the request's headers.
    Header(usize, usize),
    Value(Rc<[u8]>),
}

/// A long value and its hash, by where the value is.
#[derive(Debug)]
struct Hashed {
    at: usize,
    len: usize,
    hash: Hash,
    /// Keeps the place from being another value's.
    _kept: Option<Rc<[u8]>>,
}

/// The reason for work: each has its own bound, so that no predicate costs a limit its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Predicate,
    Key,
}

/// The work for a request is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Memo {
    /// Takes note that a limit rejects the request.
    pub(super) fn reject(&self, rejection: BadRequest) {
        self.rejection.set(Some(rejection));
    }

    /// The rejection since the last call, if any.
    #[must_use]
    pub fn take_rejection(&self) -> Option<BadRequest> {
        self.rejection.take()
    }

    /// Books `work` before it is done. Where too little is left, none is left.
    pub(super) fn charge(&self, purpose: Purpose, work: usize) -> Result<(), Exhausted> {
        let left = self.left(purpose).checked_sub(work);
        self.account(purpose).set(purpose.bound().saturating_sub(left.unwrap_or(0)));
        left.map(drop).ok_or(Exhausted)
    }

    /// Work that may still be done.
    pub(super) fn left(&self, purpose: Purpose) -> usize {
        purpose.bound().saturating_sub(self.account(purpose).get())
    }

    /// Whether much work was done.
    fn is_busy(&self) -> bool {
        self.for_predicates.get() > MUCH || self.for_keys.get() > MUCH
    }

    fn account(&self, purpose: Purpose) -> &Cell<usize> {
        match purpose {
            Purpose::Predicate => &self.for_predicates,
            Purpose::Key => &self.for_keys,
        }
    }

    /// The hash of a value, which is the request's or the configuration's.
    pub(super) fn hash(&self, value: &Value<'_>) -> Result<Hash, Exhausted> {
        let (at, len) = (value.as_ptr().addr(), value.len());
        if let Some(known) = self.hashes.borrow().iter().find(|known| known.at == at && known.len == len) {
            return Ok(known.hash);
        }
        self.charge(Purpose::Key, len.saturating_mul(HASHED_BYTE))?;
        let hash = hash(value);
        let kept = if let Value::Kept(kept) = value { Some(kept.clone()) } else { None };
        self.hashes.borrow_mut().push(Hashed { at, len, hash, _kept: kept });
        Ok(hash)
    }

    /// What was found of a source in these headers. `None` where nobody has looked.
    pub(super) fn recall<'a>(
        &self,
        source: &Source,
        headers: &'a [u8],
        purpose: Purpose,
    ) -> Result<Option<Option<Value<'a>>>, Exhausted> {
        let values = self.values.borrow();
        self.charge(purpose, values.len().saturating_mul(RECALLED))?;
        let known = values.iter().find(|(known, _)| known == source);
        Ok(known.map(|(_, known)| match known {
            Known::Nothing => None,
            Known::Header(from, to) => headers.get(*from..*to).map(Value::Lent),
            Known::Value(value) => Some(Value::Kept(value.clone())),
        }))
    }

    /// Remembers what was found of a source in these headers. What is of the configuration is not worth it, and a
    /// rejection is to be told to each limit.
    pub(super) fn remember(&self, source: &Source, value: Option<&Value<'_>>, headers: &[u8]) {
        let known = match value {
            _ if self.rejection.get().is_some() => return,
            None => Known::Nothing,
            Some(Value::Kept(value)) => Known::Value(value.clone()),
            Some(Value::Lent(value)) => {
                let from = value.as_ptr().addr().wrapping_sub(headers.as_ptr().addr());
                let to = from.saturating_add(value.len());
                if to > headers.len() {
                    return;
                }
                Known::Header(from, to)
            }
        };
        self.values.borrow_mut().push((source.clone(), known));
    }

    /// The address of who sent the request to the proxy, asked for once.
    pub(super) fn source_address(&self, ask: impl FnOnce() -> Option<Vec<u8>>) -> Option<&[u8]> {
        self.source_address.get_or_init(ask).as_deref()
    }

    /// The path's end and the query string's, found by `find` once.
    pub(super) fn path_ends(&self, find: impl FnOnce() -> (usize, usize)) -> (usize, usize) {
        let ends = self.path.get().unwrap_or_else(find);
        self.path.set(Some(ends));
        ends
    }
}

impl Purpose {
    fn bound(self) -> usize {
        match self {
            Self::Predicate => PREDICATES,
            Self::Key => KEYS,
        }
    }
}

/// Whether finding a value of `request` again is worth avoiding.
pub(super) fn is_long(request: &dyn Attributes) -> bool {
    request.headers().len() > LONG || request.memo().is_busy()
}

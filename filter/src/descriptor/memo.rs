//! Memo of a request: values, hashes and the work budget that its limits share.
//!
//! A request may have 60 KB of headers (Envoy's default), and 32 limits may read each byte of them. Therefore values
//! that are costly to find are found once per request, long values are hashed once, and the work per request is
//! bounded: once it is used up, predicates are undecided and keys are not computed.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};

use super::bad_request::BadRequest;
use super::budget::{Exhausted, Purpose};
use super::hash::{Hash, hash};
use super::source::Source;
use super::value::Value;

/// Work of hashing one byte.
pub(super) const HASHED_BYTE: usize = 44;
/// Work of comparing a source or a value with a cached one.
const COMPARED_SOURCE: usize = 16;
/// Work of one request, from which on values of a short one are remembered as well: many limits read it.
const MUCH: usize = 100_000;

/// Values, hashes and used work of one request.
#[derive(Debug, Default)]
pub struct Memo {
    values: RefCell<Vec<(Source, Cached)>>,
    hashes: RefCell<Vec<CachedHash>>,
    /// Lengths of `:path` up to the query string, and up to the fragment.
    path: Cell<Option<(usize, usize)>>,
    source_address: OnceCell<Option<Vec<u8>>>,
    for_predicates: Cell<usize>,
    for_keys: Cell<usize>,
    rejection: Cell<Option<BadRequest>>,
}

/// Cached value of a source.
#[derive(Debug)]
enum Cached {
    Nothing,
    /// Range of the encoded request headers, start and end in bytes.
    Header(usize, usize),
    Value(Rc<[u8]>),
}

/// Kind of a hash. All keyed hashes of a configuration have the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HashKind {
    /// Hash of a long value.
    Plain,
    /// Keyed hash of a value.
    Keyed,
    /// Keyed hash of a value in lower case.
    KeyedInLowerCase,
}

/// Hash of a value, by the value's address and length.
#[derive(Debug)]
struct CachedHash {
    at: usize,
    len: usize,
    kind: HashKind,
    hash: Hash,
    /// Keeps the value allocated, so that no other value gets its address.
    _owner: Option<Rc<[u8]>>,
}

impl Memo {
    /// Records that a limit rejects the request.
    pub(super) fn reject(&self, rejection: BadRequest) {
        self.rejection.set(Some(rejection));
    }

    /// Takes the rejection recorded since the last call, if any.
    #[must_use]
    pub fn take_rejection(&self) -> Option<BadRequest> {
        self.rejection.take()
    }

    /// Charges `work` before it is done. If too little is left, all that is left is used up.
    pub(super) fn charge(&self, purpose: Purpose, work: usize) -> Result<(), Exhausted> {
        let left = self.left(purpose).checked_sub(work);
        self.used(purpose).set(purpose.bound().saturating_sub(left.unwrap_or(0)));
        left.map(drop).ok_or(Exhausted)
    }

    /// Work that is left for a purpose.
    pub(super) fn left(&self, purpose: Purpose) -> usize {
        purpose.bound().saturating_sub(self.used(purpose).get())
    }

    /// Returns whether much work was done.
    pub(super) fn is_busy(&self) -> bool {
        self.for_predicates.get() > MUCH || self.for_keys.get() > MUCH
    }

    fn used(&self, purpose: Purpose) -> &Cell<usize> {
        match purpose {
            Purpose::Predicate => &self.for_predicates,
            Purpose::Key => &self.for_keys,
        }
    }

    /// Returns the hash of a long value of the request or of the configuration, computed once.
    pub(super) fn hash(&self, value: &Value<'_>) -> Result<Hash, Exhausted> {
        self.hash_once(value, HashKind::Plain, value.len().saturating_mul(HASHED_BYTE), &hash)
    }

    /// Returns the hash of this kind of a value of the request or of the configuration. It is computed once, by `hash`,
    /// which takes this work.
    pub(super) fn hash_once(
        &self,
        value: &Value<'_>,
        kind: HashKind,
        work: usize,
        hash: &dyn Fn(&[u8]) -> Hash,
    ) -> Result<Hash, Exhausted> {
        let (at, len) = (value.as_ptr().addr(), value.len());
        let is_known = |known: &&CachedHash| known.at == at && known.len == len && known.kind == kind;
        self.charge(Purpose::Key, self.hashes.borrow().len().saturating_mul(COMPARED_SOURCE))?;
        if let Some(known) = self.hashes.borrow().iter().find(is_known) {
            return Ok(known.hash);
        }
        self.charge(Purpose::Key, work)?;
        let hash = hash(value);
        let kept = if let Value::Kept(kept) = value { Some(kept.clone()) } else { None };
        self.hashes.borrow_mut().push(CachedHash { at, len, kind, hash, _owner: kept });
        Ok(hash)
    }

    /// Returns the cached value of a source in these headers. `None` if the source is not cached.
    pub(super) fn lookup<'a>(
        &self,
        source: &Source,
        headers: &'a [u8],
        purpose: Purpose,
    ) -> Result<Option<Option<Value<'a>>>, Exhausted> {
        let values = self.values.borrow();
        self.charge(purpose, values.len().saturating_mul(COMPARED_SOURCE))?;
        let known = values.iter().find(|(known, _)| known == source);
        Ok(known.map(|(_, known)| match known {
            Cached::Nothing => None,
            Cached::Header(from, to) => headers.get(*from..*to).map(Value::Lent),
            Cached::Value(value) => Some(Value::Kept(value.clone())),
        }))
    }

    /// Caches the value of a source in these headers. Values of the configuration are not cached, and neither are
    /// values that were rejected: each limit must record the rejection.
    pub(super) fn insert(&self, source: &Source, value: Option<&Value<'_>>, headers: &[u8]) {
        let known = match value {
            _ if self.rejection.get().is_some() => return,
            None => Cached::Nothing,
            Some(Value::Kept(value)) => Cached::Value(value.clone()),
            Some(Value::Lent(value)) => {
                let from = value.as_ptr().addr().wrapping_sub(headers.as_ptr().addr());
                let to = from.saturating_add(value.len());
                if to > headers.len() {
                    return;
                }
                Cached::Header(from, to)
            }
        };
        self.values.borrow_mut().push((source.clone(), known));
    }

    /// Returns the downstream address of the request, read once.
    pub(super) fn source_address(&self, read: impl FnOnce() -> Option<Vec<u8>>) -> Option<&[u8]> {
        self.source_address.get_or_init(read).as_deref()
    }

    /// Returns the ends of the path and of the query string, found by `find` once.
    pub(super) fn path_ends(&self, find: impl FnOnce() -> (usize, usize)) -> (usize, usize) {
        let ends = self.path.get().unwrap_or_else(find);
        self.path.set(Some(ends));
        ends
    }
}

//! Budget of the work for one request.

/// Work allowed for all predicates of one request: enough for a regular expression on 40,000 bytes. Work is measured in
/// approximate instructions; `tests/work/` compares the sum with the instructions executed.
const PREDICATES: usize = 1_000_000;
/// Work allowed for all keys and costs of one request: enough to hash 36,000 bytes.
const KEYS: usize = 1_600_000;

/// Purpose of work. Each has its own bound, so that predicates do not use up the work for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Predicate,
    Key,
}

/// Function that charges work before it is done.
pub(super) type Charge<'a> = &'a dyn Fn(usize) -> Result<(), Exhausted>;

/// Error: the work allowed for a request is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Purpose {
    pub(super) fn bound(self) -> usize {
        match self {
            Self::Predicate => PREDICATES,
            Self::Key => KEYS,
        }
    }
}

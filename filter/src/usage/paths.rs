//! Tree of the places at which documents are read.

use alloc::string::String;
use alloc::vec::Vec;

use super::field::{Field, costs, places};
use super::format::Format;
use crate::table::is_same;

/// Most steps of a path: as many objects of a document are open at a time.
pub(super) const MAX_STEPS: usize = 8;

/// Index of a place. [`NOWHERE`] leads to no field.
pub(super) type Place = u8;

/// Place of a whole document.
pub(super) const ROOT: Place = 0;
/// Place that leads to no field.
pub(super) const NOWHERE: Place = Place::MAX;

/// Places at which documents are read: the fields there, and the steps that lead to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    places: Vec<PathStep>,
    longest_key: usize,
}

/// A place, as a step from the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathStep {
    key: String,
    field: Option<Field>,
    /// Place of the first step from here, and that behind the last one.
    next: (Place, Place),
    /// [Marks](mark) of the keys of these steps.
    marks: u64,
}

impl Default for Paths {
    /// Returns the places of all known APIs.
    fn default() -> Self {
        Self::of(&Format::default())
    }
}

impl Paths {
    /// Returns the places of a format.
    #[must_use]
    pub fn of(format: &Format) -> Self {
        let cost = costs().filter(|_| format.has_cost);
        let known = places(format.known).chain(cost).map(|(object, rest, field)| {
            (object.split('/').chain(rest.split('/')).filter(|key| !key.is_empty()).collect(), field)
        });
        // Of several fields at one place, the first counts.
        let own = format.pointers.iter().map(|(pointer, field)| (pointer.keys().collect(), *field));
        let paths: Vec<(Vec<&str>, Field)> = own.chain(known).collect();
        let mut tree =
            Self { places: vec![PathStep { key: String::new(), field: None, next: (0, 0), marks: 0 }], longest_key: 0 };
        let mut prefixes: Vec<Vec<&str>> = vec![Vec::new()];
        // Breadth first, so that the steps from one place follow each other.
        let mut at = 0;
        while let Some(prefix) = prefixes.get(at).cloned() {
            let (first, mut marks) = (tree.len(), 0);
            for (path, field) in &paths {
                let Some((key, after)) = path.strip_prefix(prefix.as_slice()).and_then(<[&str]>::split_first) else {
                    continue;
                };
                let field = after.is_empty().then_some(*field);
                let behind = tree.places.get(usize::from(first)..).unwrap_or_default();
                if behind.iter().all(|step| step.key != *key) {
                    tree.longest_key = tree.longest_key.max(key.len());
                    marks |= mark(key.as_bytes());
                    tree.places.push(PathStep { key: (*key).into(), field, next: (0, 0), marks: 0 });
                    prefixes.push(prefix.iter().copied().chain([*key]).collect());
                }
            }
            let end = tree.len();
            if let Some(step) = tree.places.get_mut(at) {
                (step.next, step.marks) = ((first, end), marks);
            }
            at = at.saturating_add(1);
        }
        tree
    }

    fn len(&self) -> Place {
        Place::try_from(self.places.len()).unwrap_or(NOWHERE)
    }

    /// Bytes of the longest key.
    pub(super) fn longest_key(&self) -> usize {
        self.longest_key
    }

    /// The field at a place, if any, and whether any step leads on from there.
    #[inline(always)]
    pub(super) fn place(&self, place: Place) -> (Option<Field>, bool) {
        self.places.get(usize::from(place)).map_or((None, false), |step| (step.field, step.next.0 < step.next.1))
    }

    /// The place of a member that has this key, or [`NOWHERE`].
    #[inline(always)]
    pub(super) fn member(&self, place: Place, key: &[u8]) -> Place {
        match self.places.get(usize::from(place)) {
            Some(step) if step.marks & mark(key) != 0 => self.member_of(step, key),
            _ => NOWHERE,
        }
    }

    #[inline(never)]
    fn member_of(&self, step: &PathStep, key: &[u8]) -> Place {
        let (first, end) = step.next;
        let steps = self.places.get(usize::from(first)..usize::from(end)).unwrap_or_default();
        let is_key = |step: &PathStep| step.key.len() == key.len() && is_same(step.key.as_bytes(), key);
        let nth = steps.iter().position(is_key);
        nth.and_then(|nth| Place::try_from(nth).ok()?.checked_add(first)).unwrap_or(NOWHERE)
    }
}

/// One bit for a key, by its first byte and its length: most keys that lead nowhere have another one than those that do.
#[inline(always)]
fn mark(key: &[u8]) -> u64 {
    let first = key.first().map_or(0, |first| usize::from(*first));
    1 << (first.wrapping_add(key.len() << 3) & 63)
}

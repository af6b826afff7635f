//! Hash maps whose code is compiled once for all value types: a dense `Vec` of values, and an [`Index`] over it.

mod index;
mod keyed;
mod recent;

use alloc::vec::Vec;

use self::index::Index;
pub(crate) use self::keyed::{Keyed, is_same};
pub(crate) use self::recent::Recent;

/// Hash map from ids that the proxy assigns, or from tickets made of these. The proxy counts ids up and clients cannot
/// choose them, so the ids are their own hashes.
#[derive(Debug)]
pub(crate) struct Table<T> {
    index: Index,
    values: Vec<T>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { index: Index::new(), values: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn contains(&self, id: impl Into<u64>) -> bool {
        self.find(id.into()).is_some()
    }

    pub(crate) fn get_mut(&mut self, id: impl Into<u64>) -> Option<&mut T> {
        let place = self.find(id.into())?;
        self.values.get_mut(place)
    }

    pub(crate) fn get(&self, id: impl Into<u64>) -> Option<&T> {
        self.values.get(self.find(id.into())?)
    }

    /// Iterates over all values, in any order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    /// Sets the value of an id.
    pub(crate) fn insert(&mut self, id: impl Into<u64>, value: T) {
        let id = id.into();
        match self.get_mut(id) {
            Some(known) => *known = value,
            None => {
                self.index.push(id);
                self.values.push(value);
            }
        }
    }

    pub(crate) fn remove(&mut self, id: impl Into<u64>) -> Option<T> {
        let place = self.find(id.into())?;
        self.index.swap_remove(place);
        Some(self.values.swap_remove(place))
    }

    fn find(&self, id: u64) -> Option<usize> {
        // Fast path: most tables are empty most of the time, and are searched for every request.
        if self.values.is_empty() { None } else { self.index.find_only(id) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_behaves_like_a_hash_map(steps: Vec<(bool, u8, u16)>, first in 0..u32::MAX - 300) {
            let (mut table, mut map) = (Table::new(), HashMap::new());
            for (inserts, id, value) in steps {
                let id = u64::from(first.wrapping_add(id.into()));
                if inserts {
                    table.insert(id, value);
                    map.insert(id, value);
                } else {
                    prop_assert_eq!(table.remove(id), map.remove(&id));
                }
                prop_assert_eq!(table.len(), map.len());
                for id in u64::from(first)..u64::from(first.wrapping_add(256)) {
                    prop_assert_eq!(table.get(id), map.get(&id));
                    prop_assert_eq!(table.get_mut(id), map.get_mut(&id));
                }
            }
        }
    }
}

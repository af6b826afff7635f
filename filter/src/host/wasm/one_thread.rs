//! Statics without locks, for a VM with one thread.

#![allow(unsafe_code, reason = "the compiler does not know that a VM has one thread")]

use core::ops::Deref;

/// A value in a static of a VM, which has one thread.
pub(crate) struct OneThread<T>(T);

// SAFETY: a VM has one thread.
unsafe impl<T> Sync for OneThread<T> {}

impl<T> OneThread<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for OneThread<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

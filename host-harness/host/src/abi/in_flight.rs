//! Memory of callouts and gRPC streams in flight: what a host keeps of their requests and responses for one VM.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::memory::Status;
use crate::log_lines::Throttle;

/// Bytes that the callouts and gRPC streams of one VM keep, and their limit.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Inner>);

struct Inner {
    used: AtomicUsize,
    limit: usize,
}

/// Bytes that count until they are dropped.
pub(crate) struct Reservation {
    budget: Budget,
    bytes: usize,
}

/// Bytes of a body that count as long as a part of them exists.
struct CountedBytes {
    bytes: Bytes,
    _reservation: Reservation,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { used: AtomicUsize::new(0), limit }))
    }

    /// Counts bytes.
    ///
    /// # Errors
    /// `InternalFailure`, if the VM's callouts and streams would keep more than their limit.
    pub(crate) fn keep(&self, bytes: usize) -> Result<Reservation, Status> {
        let mut reservation = self.nothing();
        if reservation.grow(bytes) { Ok(reservation) } else { Err(Status::InternalFailure) }
    }

    /// Counts no bytes yet.
    pub(crate) fn nothing(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }

    /// Returns the bytes of a body, which count from now on, whatever the limit is: they exist already.
    pub(crate) fn counted(&self, bytes: Bytes) -> Bytes {
        let mut reservation = self.nothing();
        reservation.set(bytes.len());
        Bytes::from_owner(CountedBytes { bytes, _reservation: reservation })
    }

    /// Warns of a call or a response that is refused.
    fn warn(&self) {
        static WARNINGS: Throttle = Throttle::new();
        let limit = self.0.limit;
        WARNINGS.warn(
            "wasm",
            format_args!("callouts and gRPC streams in flight of a VM would keep more than {limit} bytes: refused"),
        );
    }
}

impl Reservation {
    /// Counts more bytes; returns false and counts nothing if that would exceed the limit.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let Inner { used, limit } = &*self.budget.0;
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= *limit;
        if fits {
            self.bytes += bytes;
        } else {
            used.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.warn();
        }
        fits
    }

    /// Changes the number of bytes, which exist already; returns false if they have grown beyond the limit of all.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let Inner { used, limit } = &*self.budget.0;
        used.fetch_add(bytes, Ordering::Relaxed);
        let before = used.fetch_sub(self.bytes, Ordering::Relaxed);
        let fits = bytes <= self.bytes || before.saturating_sub(self.bytes) <= *limit;
        self.bytes = bytes;
        if !fits {
            self.budget.warn();
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_limit_are_refused_until_others_are_dropped() {
        let budget = Budget::new(1000);
        let mut first = budget.keep(800).ok().unwrap();
        assert!(budget.keep(300).is_err() && !first.grow(201) && first.grow(100));
        assert!(budget.keep(100).is_ok(), "what was refused does not count");
        drop(first);
        assert!(budget.keep(1000).is_ok());
    }

    #[test]
    fn a_body_counts_until_its_last_part_is_dropped() {
        let budget = Budget::new(1000);
        let mut body = budget.counted(Bytes::from(vec![0; 900]));
        let part = body.split_to(10);
        drop(body);
        assert!(budget.keep(200).is_err());
        drop(part);
        assert!(budget.keep(1000).is_ok());
    }

    #[test]
    fn bytes_that_exist_already_count_beyond_the_limit() {
        let budget = Budget::new(1000);
        let mut reservation = budget.nothing();
        assert!(!reservation.set(2000) && budget.keep(1).is_err());
        assert!(reservation.set(10) && budget.keep(990).is_ok());
    }
}

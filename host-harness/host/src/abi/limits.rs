//! Limits of what a module can make its host keep, so that no module harms the host or other modules.
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | time of one callback | [`GuestLimits::callback`] | the VM traps |
//! | linear memory of a VM | [`GuestLimits::memory`] | `memory.grow` returns −1 |
//! | table elements of a VM | 10,000,000, as in V8 | `table.grow` returns −1 |
//! | stack of a VM | 512 KiB | the VM traps |
//! | headers, bodies, properties and effects kept in one callback | [`GuestLimits::memory`] | the VM traps |
//! | shared data, queues and metrics of a host | [`GuestLimits::memory`] | `InternalFailure` |
//! | callouts and gRPC streams in flight, per plugin and worker | 16,384 | `InternalFailure` |
//! | callouts and gRPC streams in flight of a VM, in bytes | [`GuestLimits::memory`] | `InternalFailure` |
//! | log lines of one callback | 1,000, of 64 KiB each | further lines are dropped, longer lines cut |

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wasmtime::ResourceLimiter;

use super::memory::{Fault, Status};
use crate::log_lines::Throttle;

/// Maximum number of elements of all tables of a VM; V8's limit of one table.
const TABLE_ELEMENTS: usize = 10_000_000;
/// Size of a kept value in addition to its bytes.
const OVERHEAD: usize = 128;
/// Maximum number of log lines of one callback.
const LOG_LINES: u32 = 1_000;
/// Maximum length of a log line in bytes.
const LOG_LINE: usize = 64 * 1024;
/// Maximum number of log lines that the error of a failed start shows.
pub(crate) const START_LINES: usize = 100;
/// Maximum number of callouts, gRPC calls and gRPC streams in flight of one plugin of one worker.
pub(crate) const IN_FLIGHT: usize = 16_384;

/// Limits of a module that users can set.
#[derive(Debug, Clone, Copy)]
pub struct GuestLimits {
    /// Time limit of one callback, rounded up to 50 ms; a callback that exceeds it traps. Envoy has none.
    pub callback: Duration,
    /// Maximum memory of one VM in bytes, in whole pages of 64 KiB; also the maximum number of bytes that its host keeps
    /// for it. The default is Envoy's: 1 GiB.
    pub memory: usize,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self { callback: Duration::from_secs(10), memory: 1024 * 1024 * 1024 }
    }
}

/// Resources that one VM uses.
pub(crate) struct Usage {
    memory_limit: usize,
    memory: usize,
    table_elements: usize,
    /// Bytes that the host keeps for the module since the start of the running callback.
    kept: usize,
    log_lines: u32,
}

impl Usage {
    pub(crate) fn new(limits: GuestLimits) -> Self {
        Self { memory_limit: limits.memory, memory: 0, table_elements: 0, kept: 0, log_lines: 0 }
    }

    /// Starts the limits of a callback.
    pub(crate) fn start_callback(&mut self) {
        self.kept = 0;
        self.log_lines = 0;
    }

    /// Counts a value that the host keeps for the module.
    ///
    /// # Errors
    /// A trap, if the host would keep more bytes for one callback than the module's memory can have.
    pub(crate) fn keep(&mut self, bytes: usize) -> Result<(), Fault> {
        self.kept = self.kept.saturating_add(bytes).saturating_add(OVERHEAD);
        if self.kept <= self.memory_limit {
            return Ok(());
        }
        let limit = self.memory_limit;
        let error = wasmtime::format_err!("the host would keep more than {limit} bytes for one callback");
        Err(Fault::Trap(error))
    }

    /// Maximum memory of the VM in bytes.
    pub(crate) fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    /// Counts a log line, and returns the part of it to log; `None` once the callback has logged its maximum.
    pub(crate) fn log_line<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        self.log_lines = self.log_lines.saturating_add(1);
        (self.log_lines <= LOG_LINES).then(|| line.get(..LOG_LINE).unwrap_or(line))
    }

    /// Whether the line that was counted last is the first that is not logged.
    pub(crate) fn is_first_dropped_line(&self) -> bool {
        self.log_lines == LOG_LINES + 1
    }
}

impl ResourceLimiter for Usage {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(grow(&mut self.memory, desired.saturating_sub(current), self.memory_limit))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(grow(&mut self.table_elements, desired.saturating_sub(current), TABLE_ELEMENTS))
    }
}

/// Adds `more`, unless the sum would exceed the limit.
fn grow(used: &mut usize, more: usize, limit: usize) -> bool {
    let sum = used.saturating_add(more);
    let fits = sum <= limit;
    if fits {
        *used = sum;
    }
    fits
}

/// Bytes that a host keeps for all its modules beyond their callbacks: shared data, queues, metrics.
pub(crate) struct Storage {
    used: AtomicUsize,
    limit: usize,
}

impl Storage {
    pub(crate) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    /// Counts a value that is kept until [`Storage::release`].
    ///
    /// # Errors
    /// `InternalFailure`, if the host would keep more than its limit.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), Status> {
        let kept = bytes.saturating_add(OVERHEAD);
        let before = self.used.fetch_add(kept, Ordering::Relaxed);
        if before.saturating_add(kept) <= self.limit {
            return Ok(());
        }
        self.used.fetch_sub(kept, Ordering::Relaxed);
        static WARNINGS: Throttle = Throttle::new();
        let limit = self.limit;
        WARNINGS.warn("wasm", format_args!("shared data, queues and metrics of modules have reached {limit} bytes"));
        Err(Status::InternalFailure)
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes.saturating_add(OVERHEAD), Ordering::Relaxed);
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new(GuestLimits::default().memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        Usage::new(GuestLimits { memory: 1000, ..GuestLimits::default() })
    }

    #[test]
    fn growth_beyond_the_limit_is_refused_and_not_counted() {
        let mut usage = usage();
        let mut grows = |from, to| usage.memory_growing(from, to, None).unwrap();
        assert_eq!([grows(0, 600), grows(0, 600), grows(600, 1000), grows(0, 1)], [true, false, true, false]);
    }

    #[test]
    fn a_callback_keeps_no_more_than_its_module_may_have() {
        let mut usage = usage();
        assert!(usage.keep(800).is_ok() && usage.keep(800).is_err());
        usage.start_callback();
        assert!(usage.keep(1000 - OVERHEAD).is_ok() && usage.keep(usize::MAX).is_err());
    }

    #[test]
    fn further_log_lines_are_dropped_and_longer_lines_cut() {
        let mut usage = usage();
        assert_eq!(usage.log_line(&[0; LOG_LINE + 1]).map(<[u8]>::len), Some(LOG_LINE));
        let logged = (1..=LOG_LINES).filter(|_| usage.log_line(b"line").is_some()).count();
        assert_eq!(logged, LOG_LINES as usize - 1);
        assert!(usage.is_first_dropped_line());
    }

    #[test]
    fn released_storage_can_be_used_again() {
        let storage = Storage::new(1000);
        assert_eq!((storage.keep(800), storage.keep(1)), (Ok(()), Err(Status::InternalFailure)));
        storage.release(800);
        assert_eq!(storage.keep(800), Ok(()));
    }
}

//! A worker's stream to Redis, for the bridge at the other end of it, where both are in one VM.

use alloc::rc::Rc;
use alloc::string::String;

use super::Worker;

/// The gRPC service that streams are of, to the proxy: no server has it.
pub(super) const SERVICE: &str = "weir.Redis";

/// A worker, and which of its streams.
pub(super) struct Wire {
    worker: Rc<Worker>,
    stream: u64,
}

impl Wire {
    /// The stream that a worker has opened last, or is opening.
    pub(super) fn of(worker: &Rc<Worker>) -> Self {
        Self { worker: Rc::clone(worker), stream: worker.last_stream() }
    }

    /// The `:path` under which the proxy opens it.
    pub(super) fn path(&self) -> String {
        format!("/{SERVICE}/{}", method(self.stream))
    }

    /// Whether the worker still listens to it.
    pub(super) fn is_current(&self) -> bool {
        self.worker.listens_to(self.stream)
    }

    /// Shows what the worker is sending at this moment, if anything; whether `show` took it.
    pub(super) fn with_sending(&self, show: impl FnOnce(&[u8]) -> bool) -> bool {
        self.is_current() && self.worker.with_sending(show)
    }

    /// Whose it is.
    pub(super) fn worker(&self) -> Rc<Worker> {
        Rc::clone(&self.worker)
    }
}

/// The gRPC method of a stream: its name.
pub(super) fn method(stream: u64) -> String {
    format!("{stream:016x}")
}

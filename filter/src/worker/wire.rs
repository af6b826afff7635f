//! The bridge's reference to a worker's stream, where the bridge and the worker are in the same VM.

use alloc::rc::Rc;
use alloc::string::String;

use super::Worker;

/// gRPC service name of the streams. No server implements it: the bridge removes the gRPC framing.
pub(super) const SERVICE: &str = "weir.Redis";

/// A worker, and one of its streams by name.
pub(super) struct Wire {
    worker: Rc<Worker>,
    stream: u64,
}

impl Wire {
    /// Refers to the stream that `worker` opened last, or is opening.
    pub(super) fn of(worker: &Rc<Worker>) -> Self {
        Self { worker: Rc::clone(worker), stream: worker.last_stream() }
    }

    /// Returns the `:path` with which the proxy opens the stream.
    pub(super) fn path(&self) -> String {
        format!("/{SERVICE}/{}", method(self.stream))
    }

    /// Returns whether this is still the worker's current stream.
    pub(super) fn is_current(&self) -> bool {
        self.worker.listens_to(self.stream)
    }

    /// Calls `show` with the bytes that the worker is sending now, if any. Returns whether `show` accepted them.
    pub(super) fn with_sending(&self, show: impl FnOnce(&[u8]) -> bool) -> bool {
        self.is_current() && self.worker.with_sending(show)
    }

    /// Returns the worker.
    pub(super) fn worker(&self) -> Rc<Worker> {
        Rc::clone(&self.worker)
    }
}

/// Returns the gRPC method of a stream: its name, as 16 hexadecimal digits.
pub(super) fn method(stream: u64) -> String {
    format!("{stream:016x}")
}

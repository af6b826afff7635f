//! Output of a filter chain, at one of its ends: headers, bodies and trailers that wait to be taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::Notify;

/// Output at one end of the chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Headers, to be read from the stream; `true`: end of stream.
    Headers(bool),
    Data(Bytes, bool),
    Trailers,
}

/// Queue of the output of one direction.
#[derive(Default)]
pub(super) struct Outputs {
    queue: RefCell<VecDeque<Output>>,
    /// Length of the waiting bodies in bytes.
    bytes: Cell<usize>,
    changed: Notify,
}

impl Outputs {
    pub(super) fn push(&self, item: Output) {
        self.bytes.set(self.bytes.get() + item.length());
        self.queue.borrow_mut().push_back(item);
        self.notify();
    }

    pub(super) fn take(&self) -> Option<Output> {
        let item = self.queue.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - item.length());
        Some(item)
    }

    /// Number of waiting items.
    pub(super) fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Output {
    pub(super) fn length(&self) -> usize {
        if let Self::Data(data, _) = self { data.len() } else { 0 }
    }
}

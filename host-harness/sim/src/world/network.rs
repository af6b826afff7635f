//! Network of a simulation: connections, their messages and the time that these take.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use weir_filter::units::Micros;
use weir_virtual::Link;
use weir_virtual::resp::Commands;

/// What a worker does to its connections, in order.
#[derive(Debug)]
pub(super) enum Act {
    Open { token: u32 },
    Send { token: u32, bytes: Vec<u8> },
    Close { token: u32 },
    CallOut { token: u32, bytes: Vec<u8>, timeout: Micros },
}

/// Acts that the world has not carried out yet.
pub(super) type Outbox = Rc<RefCell<Vec<Act>>>;

/// Link of one worker: it notes what the worker does.
pub(super) struct Wire {
    pub(super) outbox: Outbox,
    /// Whether the proxy refuses streams and callouts.
    pub(super) refuses: Rc<Cell<bool>>,
}

impl Link for Wire {
    fn open(&self, token: u32) -> bool {
        self.note(Act::Open { token })
    }

    fn send(&self, token: u32, bytes: &[u8]) {
        self.outbox.borrow_mut().push(Act::Send { token, bytes: bytes.to_vec() });
    }

    fn close(&self, token: u32) {
        self.outbox.borrow_mut().push(Act::Close { token });
    }

    fn call_out(&self, token: u32, bytes: &[u8], timeout: Micros) -> bool {
        self.note(Act::CallOut { token, bytes: bytes.to_vec(), timeout })
    }
}

impl Wire {
    fn note(&self, act: Act) -> bool {
        if !self.refuses.get() {
            self.outbox.borrow_mut().push(act);
        }
        !self.refuses.get()
    }
}

/// Connection between a worker and Redis.
#[derive(Debug)]
pub(super) struct Connection {
    /// Place of the instance among all workers that ever ran.
    pub(super) instance: usize,
    pub(super) token: u32,
    pub(super) is_callout: bool,
    /// Nothing arrives any more, in either direction.
    pub(super) is_dead: bool,
    /// It leads to a master that has been replaced.
    pub(super) is_stale: bool,
    pub(super) is_closed: bool,
    pub(super) commands: Commands,
    /// Time at which the last message arrives, in each direction: no later one comes earlier.
    pub(super) last_to_redis: Micros,
    pub(super) last_to_worker: Micros,
}

impl Connection {
    pub(super) fn new(instance: usize, token: u32, is_callout: bool) -> Self {
        Self {
            instance,
            token,
            is_callout,
            is_dead: false,
            is_stale: false,
            is_closed: false,
            commands: Commands::default(),
            last_to_redis: Micros::ZERO,
            last_to_worker: Micros::ZERO,
        }
    }
}

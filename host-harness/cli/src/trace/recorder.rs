//! Tracer that keeps all events.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_host::trace::{Event, Tracer, What};

/// Callback that modules get at intervals.
pub(super) const TICK: &str = "proxy_on_tick";

/// Time without an event after which a request is over.
const QUIET: Duration = Duration::from_millis(40);
/// Longest wait for a request to be over.
const AT_MOST: usize = 25;
/// Longest wait for a tick.
const TICKED_WITHIN: usize = 15;

#[derive(Default)]
pub(super) struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// Returns the number of events so far.
    pub(super) fn len(&self) -> usize {
        self.held().len()
    }

    /// Returns the events from `start` on.
    pub(super) fn since(&self, start: usize) -> Vec<Event> {
        self.held().get(start..).unwrap_or_default().to_vec()
    }

    /// Waits until the modules have ended the request: for a while without events other than ticks, or 1 s.
    pub(super) async fn quiet(&self) {
        for _ in 0..AT_MOST {
            let before = self.lasting();
            tokio::time::sleep(QUIET).await;
            if self.lasting() == before {
                return;
            }
        }
    }

    /// Waits for a tick after the first `start` events: limiters report the counters of a decision in their next tick,
    /// within 500 ms. Without ticks, waits 600 ms.
    pub(super) async fn ticked(&self, start: usize) {
        let is_tick = |event: &Event| matches!(event.what, What::Returned { name: TICK, .. });
        for _ in 0..TICKED_WITHIN {
            if self.held().iter().skip(start).any(is_tick) {
                return;
            }
            tokio::time::sleep(QUIET).await;
        }
    }

    /// Returns the number of events other than ticks, which go on.
    fn lasting(&self) -> usize {
        let is_tick =
            |event: &Event| matches!(event.what, What::Callback { name: TICK, .. } | What::Returned { name: TICK, .. });
        self.held().iter().filter(|event| !is_tick(event)).count()
    }

    fn held(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracer for Recorder {
    fn record(&self, event: Event) {
        self.held().push(event);
    }
}

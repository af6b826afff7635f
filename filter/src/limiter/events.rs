//! Events: decisions appended to a Redis stream in batches, in background calls that delay no request.
//!
//! Events that exceed the buffer, or whose call fails, are dropped and counted.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::config::{EventsConfig, EventsOnly};
use crate::redis::{Call, Script, lua, script};
use crate::units::{Micros, Random, Tokens};

/// Maximum number of events that wait for the next tick; further events are dropped.
const MAX_WAITING: usize = 512;
/// Maximum number of events per call.
const MAX_BATCH: usize = 64;

/// Lua script that appends events to the stream; `events.lua` documents its arguments and its reply.
pub const EVENTS_SCRIPT: &str = lua!(include_str!("events.lua"));

/// Decision of one limit on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) limit: String,
    pub(super) key: Vec<u8>,
    pub(super) admitted: bool,
    pub(super) remaining: Tokens,
    pub(super) retry_after: Option<Micros>,
}

/// Buffered events. At most one batch is in flight.
#[derive(Debug)]
pub(super) struct Events {
    config: EventsConfig,
    script: Arc<Script>,
    waiting: Vec<Event>,
    in_flight: usize,
    dropped: u64,
    /// Random numbers for the sample.
    random: Random,
}

/// Returns the script that writes events, for tools that show calls.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn events_script() -> Script {
    script!(lua!(include_str!("events.lua")))
}

impl Events {
    pub(super) fn new(config: EventsConfig, seed: u64) -> Self {
        let script = Arc::new(script!(EVENTS_SCRIPT));
        Self { config, script, waiting: Vec::new(), in_flight: 0, dropped: 0, random: Random::new(seed) }
    }

    /// Whether to record a decision, by the configured kind and sample.
    pub(super) fn wants(&mut self, admitted: bool) -> bool {
        if admitted && self.config.only == EventsOnly::Denied {
            return false;
        }
        self.config.sample.picks(self.random.number())
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(event);
        } else {
            self.drop_some(1);
        }
    }

    /// Takes the next batch and returns its call, if there are events and no batch is in flight.
    pub(super) fn batch(&mut self) -> Option<Call> {
        if self.in_flight > 0 || self.waiting.is_empty() {
            return None;
        }
        let batch: Vec<Event> = self.waiting.drain(..self.waiting.len().min(MAX_BATCH)).collect();
        self.in_flight = batch.len();
        let mut arguments = vec![self.config.max_len.to_string().into_bytes()];
        for event in batch {
            let decision = if event.admitted { "admitted" } else { "denied" };
            let wait = event.retry_after.map_or_else(|| "never".to_owned(), |wait| wait.0.to_string());
            arguments.extend([
                event.limit.into_bytes(),
                event.key,
                decision.as_bytes().to_vec(),
                event.remaining.0.to_string().into_bytes(),
                wait.into_bytes(),
            ]);
        }
        Some(Call::script(&self.script, &[self.config.stream.as_bytes()], &arguments))
    }

    /// Handles the end of the batch in flight: appended if `is_taken`, else dropped.
    pub(super) fn completed(&mut self, is_taken: bool) {
        let batch = core::mem::take(&mut self.in_flight);
        if !is_taken {
            self.drop_some(batch);
        }
    }

    /// Returns the number of events dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    /// Whether a batch is ready to be sent at the next tick.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight == 0 && !self.waiting.is_empty()
    }

    /// Whether a tick has nothing to send or to report.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_waiting() && self.dropped == 0
    }

    fn drop_some(&mut self, events: usize) {
        self.dropped = self.dropped.saturating_add(u64::try_from(events).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn events(section: &str) -> Events {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "events": {section}, "limits": [{{"name": "a", "descriptor": [],
                "token_bucket": {{"max_tokens": 1, "fill_interval": "1s"}}}}]}}"#
        );
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        Events::new(config.events.unwrap(), 7)
    }

    fn event() -> Event {
        Event { limit: "a".into(), key: b"weir:a:".to_vec(), admitted: false, remaining: Tokens(0), retry_after: None }
    }

    #[test]
    fn only_denials_are_events_unless_the_configuration_selects_all_decisions() {
        assert!(events("{}").wants(false) && !events("{}").wants(true));
        assert!(events(r#"{"only": "all"}"#).wants(true));
    }

    #[test]
    fn a_sample_contains_about_its_configured_share() {
        let mut events = events(r#"{"sample": 0.1}"#);
        let picked = (0..10_000).filter(|_| events.wants(false)).count();
        assert!((900..1_100).contains(&picked), "{picked}");
    }

    #[test]
    fn a_batch_waits_for_the_next_tick_unless_another_is_in_flight() {
        let mut events = events("{}");
        assert!(!events.is_waiting() && events.is_quiet());
        events.push(event());
        assert!(!events.is_quiet());
        assert!(events.is_waiting() && events.batch().is_some());
        assert!(!events.is_waiting() && events.is_quiet());
        events.push(event());
        assert!(!events.is_waiting());
        events.completed(true);
        assert!(events.is_waiting());
    }

    #[test]
    fn one_batch_is_in_flight_and_events_beyond_the_buffer_or_of_a_failed_batch_are_dropped() {
        let mut events = events("{}");
        (0..600).for_each(|_| events.push(event()));
        assert_eq!(events.take_dropped(), 88, "beyond 512");
        assert!(events.batch().is_some() && events.batch().is_none());
        events.completed(false);
        assert!(!events.is_quiet());
        assert_eq!(events.take_dropped(), 64, "the lost batch");
        assert!(events.batch().is_some());
        events.completed(true);
        assert_eq!(events.take_dropped(), 0);
    }
}

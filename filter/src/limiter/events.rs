//! Decisions for others to read: appended to a Redis stream in batches, never in a request's way.
//!
//! What Redis is too slow to take is dropped and counted.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::config::{EventsConfig, EventsOnly};
use crate::redis::{Call, Script, lua, script};

/// Events that wait for the next tick; further ones are dropped.
const MAX_WAITING: usize = 512;
/// Events in one call.
const MAX_BATCH: usize = 64;

/// One limit's say on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) limit: String,
    pub(super) key: Vec<u8>,
    pub(super) admitted: bool,
    pub(super) remaining: u64,
    pub(super) retry_after_us: Option<u64>,
}

/// Events on their way. At most one batch is with Redis at a time.
#[derive(Debug)]
pub(super) struct Events {
    config: EventsConfig,
    script: Arc<Script>,
    waiting: Vec<Event>,
    with_redis: usize,
    dropped: u64,
    /// Xorshift, for sampling.
    random: u64,
}

impl Events {
    pub(super) fn new(config: EventsConfig, seed: u64) -> Self {
        let script = Arc::new(script!(lua!(include_str!("events.lua"))));
        Self { config, script, waiting: Vec::new(), with_redis: 0, dropped: 0, random: seed | 1 }
    }

    /// Whether an event of this kind is wanted, by kind and by lot.
    pub(super) fn wants(&mut self, admitted: bool) -> bool {
        if admitted && self.config.only == EventsOnly::Denied {
            return false;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.config.sample.picks(self.random)
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(event);
        } else {
            self.drop_some(1);
        }
    }

    /// The next batch, where there is one and none is with Redis.
    pub(super) fn batch(&mut self) -> Option<Call> {
        if self.with_redis > 0 || self.waiting.is_empty() {
            return None;
        }
        let batch: Vec<Event> = self.waiting.drain(..self.waiting.len().min(MAX_BATCH)).collect();
        self.with_redis = batch.len();
        let mut arguments = vec![self.config.max_len.to_string().into_bytes()];
        for event in batch {
            let decision = if event.admitted { "admitted" } else { "denied" };
            let wait = event.retry_after_us.map_or_else(|| "never".to_owned(), |wait| wait.to_string());
            arguments.extend([
                event.limit.into_bytes(),
                event.key,
                decision.as_bytes().to_vec(),
                event.remaining.to_string().into_bytes(),
                wait.into_bytes(),
            ]);
        }
        Some(Call::script(&self.script, &[self.config.stream.as_bytes()], &arguments))
    }

    /// The batch that was with Redis is there now, or lost.
    pub(super) fn completed(&mut self, is_taken: bool) {
        let batch = core::mem::take(&mut self.with_redis);
        if !is_taken {
            self.drop_some(batch);
        }
    }

    /// How many were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    /// Whether a tick has something to do here.
    pub(super) fn is_waiting(&self) -> bool {
        self.with_redis == 0 && !self.waiting.is_empty()
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
        Event { limit: "a".into(), key: b"weir:a:".to_vec(), admitted: false, remaining: 0, retry_after_us: None }
    }

    #[test]
    fn only_denials_are_events_unless_all_decisions_are_asked_for() {
        assert!(events("{}").wants(false) && !events("{}").wants(true));
        assert!(events(r#"{"only": "all"}"#).wants(true));
    }

    #[test]
    fn a_sample_is_about_its_part() {
        let mut events = events(r#"{"sample": 0.1}"#);
        let picked = (0..10_000).filter(|_| events.wants(false)).count();
        assert!((900..1_100).contains(&picked), "{picked}");
    }

    #[test]
    fn one_batch_at_a_time_and_what_redis_cannot_take_is_dropped_and_counted() {
        let mut events = events("{}");
        (0..600).for_each(|_| events.push(event()));
        assert_eq!(events.take_dropped(), 88, "beyond 512");
        assert!(events.batch().is_some() && events.batch().is_none());
        events.completed(false);
        assert_eq!(events.take_dropped(), 64, "the lost batch");
        assert!(events.batch().is_some());
        events.completed(true);
        assert_eq!(events.take_dropped(), 0);
    }
}

//! The limiter: a state machine that leads each request from its attributes to a decision.
//!
//! Requests, bytes from Redis and ticks go in; [`Effect`]s come out of [`Limiter::poll`]. It never blocks,
//! never asks for the time, and knows nothing of the proxy.

mod asking;
mod backend;
mod counters;
mod events;
mod notes;
#[cfg(test)]
mod tests;
mod ticker;
mod warnings;

use std::collections::VecDeque;
use std::sync::Arc;

use self::asking::Asking;
pub use self::backend::Backend;
pub use self::counters::Counters;
use self::events::{Event, Events};
pub use self::ticker::Ticker;
use self::warnings::Warnings;
use crate::config::{Config, FailureMode};
use crate::descriptor::Attributes;
use crate::limit::{Asked, Check, SCRIPT, Verdict};
use crate::overrides::{self, Ignored, Refresh};
use crate::redis::{Callout, Failure, Reply, Script, Ticket, Trouble};
use crate::respond::{self, Header, LocalReply};
use crate::table::Table;
use crate::units::Micros;

/// How soon counters and events are reported. No hurry: the ticks that calls need report them, too.
const REPORT_WITHIN: Micros = Micros::from_secs(2);

/// The ticket under which overrides are read: no proxy gives a request this id.
const OVERRIDES: Ticket = Ticket(u32::MAX - 1);

/// One worker's limiter.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    script: Arc<Script>,
    redis: Backend,
    waiting: Table<Waiting>,
    counters: Counters,
    refresh: Option<Refresh>,
    events: Option<Events>,
    warnings: Warnings,
    /// What comes before what Redis' side has to say next.
    effects: VecDeque<Effect>,
}

/// A request whose check is with Redis.
#[derive(Debug)]
struct Waiting {
    check: Check,
    is_grpc: bool,
}

/// What is to be done with a request that has just arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No limit applies: let it pass, and leave its response alone.
    Pass,
    /// Hold it: an [`Effect::Decide`] will follow.
    Wait,
    /// It is decided at once.
    Decided(Decision),
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Let it pass, and add these headers to its response.
    Admit(Vec<Header>),
    /// Answer it here.
    Answer(LocalReply),
}

/// What the limiter asks of its host.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open the stream to Redis. Only ever after a tick.
    OpenStream,
    /// Close the stream. Only ever after a tick.
    CloseStream,
    /// Post this to Redis in a callout.
    CallOut(Ticket, Callout),
    /// Leave these with the request, for its access log: names, and what they say. Comes before its decision.
    Annotate(Ticket, Vec<(&'static str, String)>),
    /// A request that was to wait is decided.
    Decide(Ticket, Decision),
    /// Log this as a warning.
    Warn(String),
}

impl Limiter {
    /// A limiter of `config`. `seed` varies the jitter of its reconnects: give each worker another.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            script: Arc::new(Script::new(SCRIPT)),
            redis: Backend::new(&config.redis, seed),
            waiting: Table::new(),
            counters: Counters::new(&config),
            refresh: config
                .overrides
                .map(|overrides| Refresh::new(&config.redis.key_prefix, overrides.refresh_interval, seed)),
            events: config.events.clone().map(|config| Events::new(config, seed)),
            warnings: Warnings::default(),
            effects: VecDeque::new(),
            config,
        }
    }

    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it has counted.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// A request arrives. `ticket` is its own until it is decided or [`abandon`](Self::abandon)ed.
    pub fn request(&mut self, now: Micros, ticket: Ticket, attributes: &dyn Attributes) -> Step {
        if let Some(refresh) = &mut self.refresh {
            refresh.wake(now);
        }
        let overrides = self.refresh.as_ref().map(Refresh::overrides);
        let is_grpc = || attributes.header("content-type").is_some_and(|value| respond::is_grpc(&value));
        let check = match asking::ask(&self.config, overrides, now, attributes) {
            Ok(Asking::Nothing) => return Step::Pass,
            Ok(Asking::Check(check)) => check,
            Ok(Asking::Blocked(outcome)) => {
                let verdict = Verdict { admitted: false, outcomes: vec![outcome] };
                let waiting = Waiting { check: Check::default(), is_grpc: is_grpc() };
                return Step::Decided(self.decide(ticket, &verdict, &waiting));
            }
            Err(bad) => {
                self.counters.rejected();
                return Step::Decided(Decision::Answer(respond::bad_request(bad, is_grpc())));
            }
        };
        let waiting = Waiting { check, is_grpc: is_grpc() };
        match self.redis.submit(now, ticket, waiting.check.call(&self.script)) {
            Ok(()) => {
                self.waiting.insert(ticket.0, waiting);
                Step::Wait
            }
            Err(failure) => Step::Decided(self.fail(ticket, failure, &waiting)),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Micros) {
        self.redis.handle_tick(now);
        if let Some(refresh) = &mut self.refresh
            && let Some(call) = refresh.due(now)
            && let Err(failure) = self.redis.submit(now, OVERRIDES, call)
        {
            self.refreshed(now, Err(failure));
        }
        let Some(events) = &mut self.events else { return };
        if let Some(batch) = events.batch()
            && self.redis.submit(now, events::TICKET, batch).is_err()
        {
            events.settled(false);
        }
        let dropped = events.take_dropped();
        self.counters.events_dropped(dropped);
    }

    /// Whether a request was told to wait, and is not decided yet.
    #[must_use]
    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.waiting.contains(ticket.0)
    }

    /// The request is gone: its reply, should it still come, is dropped.
    pub fn abandon(&mut self, ticket: Ticket) {
        if self.waiting.remove(ticket.0).is_some() {
            self.redis.abandon(ticket);
        }
    }

    /// The way to Redis, for what comes from there and for the passing of time.
    pub fn redis(&mut self) -> &mut Backend {
        &mut self.redis
    }

    /// When a tick is wanted next, if at all: for Redis, or to have the counters reported.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        let has_events = self.events.as_ref().is_some_and(Events::is_waiting);
        let soon = (self.counters.is_dirty() || has_events).then(|| now.plus(REPORT_WITHIN));
        let refresh = self.refresh.as_ref().and_then(|refresh| refresh.next_tick(now));
        [self.redis.next_tick(now), refresh, soon].into_iter().flatten().min()
    }

    /// What to do next, or `None` when nothing is left to do for now.
    pub fn poll(&mut self, now: Micros) -> Option<Effect> {
        while self.effects.is_empty() {
            match self.redis.poll()? {
                backend::Effect::Open => return Some(Effect::OpenStream),
                backend::Effect::Close => return Some(Effect::CloseStream),
                backend::Effect::CallOut(ticket, callout) => return Some(Effect::CallOut(ticket, callout)),
                backend::Effect::Settled(events::TICKET, result) => {
                    if let Some(events) = &mut self.events {
                        events.settled(result.is_ok());
                    }
                }
                backend::Effect::Settled(OVERRIDES, result) => self.refreshed(now, result),
                backend::Effect::Settled(ticket, result) => self.settle(now, ticket, result),
                backend::Effect::Trouble(Trouble { failure, detail }) => self.warn(now, failure, &detail),
            }
        }
        self.effects.pop_front()
    }

    fn refreshed(&mut self, now: Micros, result: Result<Reply, Failure>) {
        let Some(refresh) = &mut self.refresh else { return };
        for event in refresh.handle(now, result) {
            match event {
                overrides::Event::Changed => {}
                // Told each time: it is for the throttle.
                overrides::Event::Ignored(Ignored::Reply(malformed)) => {
                    if let Some(line) = self.warnings.say(now, Failure::Protocol, &malformed.to_string()) {
                        self.effects.push_back(Effect::Warn(line));
                    }
                }
                overrides::Event::Ignored(ignored) => {
                    self.counters.override_ignored();
                    self.effects.push_back(Effect::Warn(ignored.to_string()));
                }
            }
        }
    }

    fn settle(&mut self, now: Micros, ticket: Ticket, result: Result<Reply, Failure>) {
        let Some(waiting) = self.waiting.remove(ticket.0) else { return };
        let verdict = result.and_then(|reply| {
            waiting.check.read(&reply).map_err(|malformed| {
                self.warn(now, Failure::Protocol, &malformed.to_string());
                Failure::Protocol
            })
        });
        let decision = match verdict {
            Ok(verdict) => self.decide(ticket, &verdict, &waiting),
            Err(failure) => self.fail(ticket, failure, &waiting),
        };
        self.effects.push_back(Effect::Decide(ticket, decision));
    }

    fn decide(&mut self, ticket: Ticket, verdict: &Verdict, waiting: &Waiting) -> Decision {
        self.counters.decided(verdict);
        self.record(verdict, waiting);
        if self.config.emit_metadata {
            let notes = notes::of_verdict(verdict, &waiting.check, &self.config);
            self.effects.push_back(Effect::Annotate(ticket, notes));
        }
        if verdict.admitted {
            Decision::Admit(respond::admitted_headers(verdict, &self.config))
        } else {
            Decision::Answer(respond::denied(verdict, &self.config, waiting.is_grpc))
        }
    }

    fn record(&mut self, verdict: &Verdict, waiting: &Waiting) {
        let Some(events) = &mut self.events else { return };
        for (outcome, asked) in verdict.outcomes.iter().zip(waiting.check.asked()) {
            if events.wants(outcome.admitted) {
                let limit = self.config.limits.get(outcome.limit).map(|limit| limit.name.clone()).unwrap_or_default();
                events.push(Event {
                    limit,
                    key: asked.key.clone(),
                    admitted: outcome.admitted,
                    remaining: outcome.remaining.0,
                    retry_after_us: outcome.retry_after.map(|wait| wait.0),
                });
            }
        }
    }

    /// What the failure mode makes of a request that Redis did not decide: the strictest enforced limit's wins.
    fn fail(&mut self, ticket: Ticket, failure: Failure, waiting: &Waiting) -> Decision {
        self.counters.failed(failure, waiting.check.asked().map(|asked| asked.limit));
        if self.config.emit_metadata {
            self.effects.push_back(Effect::Annotate(ticket, notes::of_failure(failure)));
        }
        let denies = |asked: &Asked| {
            let mode = self.config.limits.get(asked.limit).map(|limit| limit.failure_mode);
            asked.enforced && mode == Some(FailureMode::Deny)
        };
        if waiting.check.asked().any(denies) {
            Decision::Answer(respond::failed(&self.config, waiting.is_grpc))
        } else {
            Decision::Admit(Vec::new())
        }
    }

    fn warn(&mut self, now: Micros, cause: Failure, detail: &str) {
        self.effects.extend(self.warnings.say(now, cause, detail).map(Effect::Warn));
    }
}

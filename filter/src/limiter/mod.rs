//! The limiter: a state machine that leads each request from its attributes to a decision.
//!
//! Requests, bytes from Redis and ticks go in; [`Effect`]s come out of [`Limiter::poll`]. It never blocks,
//! never asks for the time, and knows nothing of the proxy.

mod backend;
mod counters;
#[cfg(test)]
mod tests;
mod ticker;
mod warnings;

use std::collections::HashMap;

pub use self::backend::Backend;
pub use self::counters::Counters;
pub use self::ticker::Ticker;
use self::warnings::Warnings;
use crate::config::{Config, FailureMode, Limit};
use crate::descriptor::Attributes;
use crate::limit::{Algorithm, Asked, Check, Holder, Scripts, Verdict};
use crate::redis::{Callout, Failure, Reply, Ticket, Trouble};
use crate::respond::{self, Header, LocalReply};
use crate::units::Micros;

/// How soon counters are reported. No hurry: the ticks that calls need report them, too.
const REPORT_WITHIN: Micros = Micros::from_secs(2);

/// One worker's limiter.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    scripts: Scripts,
    /// This worker, among all that use the same Redis.
    worker: u64,
    redis: Backend,
    waiting: HashMap<Ticket, Waiting>,
    counters: Counters,
    warnings: Warnings,
    to_log: Vec<String>,
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
    /// Post this to Redis in a callout, in the name of the request itself.
    CallOut(Ticket, Callout),
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
            scripts: Scripts::default(),
            worker: seed,
            redis: Backend::new(&config.redis, seed),
            waiting: HashMap::new(),
            counters: Counters::new(&config),
            warnings: Warnings::default(),
            to_log: Vec::new(),
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
        let check = self.check(ticket, attributes);
        if check.is_empty() {
            return Step::Pass;
        }
        let is_grpc = attributes.header("content-type").is_some_and(|value| respond::is_grpc(&value));
        let waiting = Waiting { check, is_grpc };
        match self.redis.submit(now, ticket, waiting.check.call(&self.scripts)) {
            Ok(()) => {
                self.waiting.insert(ticket, waiting);
                Step::Wait
            }
            Err(failure) => Step::Decided(self.fail(failure, &waiting)),
        }
    }

    /// The request is gone: its reply, should it still come, is dropped.
    pub fn abandon(&mut self, ticket: Ticket) {
        if self.waiting.remove(&ticket).is_some() {
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
        let report = self.counters.is_dirty().then(|| now.plus(REPORT_WITHIN));
        [self.redis.next_tick(now), report].into_iter().flatten().min()
    }

    /// What to do next, or `None` when nothing is left to do for now.
    pub fn poll(&mut self, now: Micros) -> Option<Effect> {
        while let Some(effect) = self.redis.poll() {
            let effect = match effect {
                backend::Effect::Open => Some(Effect::OpenStream),
                backend::Effect::Close => Some(Effect::CloseStream),
                backend::Effect::CallOut(ticket, callout) => Some(Effect::CallOut(ticket, callout)),
                backend::Effect::Settled(ticket, result) => self.settle(now, ticket, result),
                backend::Effect::Trouble(Trouble { failure, detail }) => {
                    self.warn(now, failure, &detail);
                    None
                }
            };
            if effect.is_some() {
                return effect;
            }
        }
        self.to_log.pop().map(Effect::Warn)
    }

    fn check(&self, ticket: Ticket, attributes: &dyn Attributes) -> Check {
        let limits = self.config.limits.iter().enumerate().filter(|(_, limit)| limit.concerns(attributes));
        let holder = Holder::new(self.worker, ticket.0.into());
        Check::new(limits.filter_map(|(index, limit)| self.ask(index, limit, attributes)).collect(), holder)
    }

    fn ask(&self, index: usize, limit: &Limit, attributes: &dyn Attributes) -> Option<Asked> {
        Some(Asked {
            limit: index,
            window: 0,
            key: limit.descriptor.bucket_key(attributes)?,
            algorithm: Algorithm::TokenBucket(limit.token_bucket),
            cost: limit.hits_addend.cost(attributes),
            enforced: !limit.shadow_mode,
        })
    }

    fn settle(&mut self, now: Micros, ticket: Ticket, result: Result<Reply, Failure>) -> Option<Effect> {
        let waiting = self.waiting.remove(&ticket)?;
        let verdict = result.and_then(|reply| {
            waiting.check.read(&reply).map_err(|malformed| {
                self.warn(now, Failure::Protocol, &malformed.to_string());
                Failure::Protocol
            })
        });
        let decision = match verdict {
            Ok(verdict) => self.decide(&verdict, &waiting),
            Err(failure) => self.fail(failure, &waiting),
        };
        Some(Effect::Decide(ticket, decision))
    }

    fn decide(&mut self, verdict: &Verdict, waiting: &Waiting) -> Decision {
        self.counters.decided(verdict);
        if verdict.admitted {
            Decision::Admit(respond::admitted_headers(verdict, &self.config))
        } else {
            Decision::Answer(respond::denied(verdict, &self.config, waiting.is_grpc))
        }
    }

    /// What the failure mode makes of a request that Redis did not decide: the strictest enforced limit's wins.
    fn fail(&mut self, failure: Failure, waiting: &Waiting) -> Decision {
        self.counters.failed(failure, waiting.check.asked().map(|asked| asked.limit));
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
        self.to_log.extend(self.warnings.say(now, cause, detail));
    }
}

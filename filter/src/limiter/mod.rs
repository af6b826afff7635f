//! The limiter: a state machine that leads each request from its attributes to a decision.
//!
//! Requests, bytes from Redis and ticks go in; [`Effect`]s come out of [`Limiter::poll`]. It never blocks,
//! never asks for the time, and knows nothing of the proxy.

mod backend;
mod counters;
mod ticker;
mod warnings;

use std::collections::HashMap;

pub use self::backend::{Backend, Effect as BackendEffect};
pub use self::counters::Counters;
pub use self::ticker::Ticker;
use self::warnings::Warnings;
use crate::config::{Config, FailureMode, Limit};
use crate::descriptor::Attributes;
use crate::limit::{Asked, Check, SCRIPT};
use crate::redis::{Failure, Reply, Script, Ticket};
use crate::respond::{self, Headers, LocalReply};
use crate::units::Micros;

/// One worker's limiter.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    script: Script,
    backend: Backend,
    waiting: HashMap<Ticket, Waiting>,
    counters: Counters,
    warnings: Warnings,
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
    Admit(Headers),
    /// Answer it here.
    Answer(LocalReply),
}

/// What the limiter asks of its host.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open the stream to Redis. Only ever out of [`Limiter::tick`].
    OpenStream,
    /// Send these bytes on the stream.
    Send(Vec<u8>),
    /// Close the stream. Only ever out of [`Limiter::tick`].
    CloseStream,
    /// Post this body to Redis in a callout, within this many milliseconds.
    Callout {
        /// For whom.
        ticket: Ticket,
        /// RESP.
        body: Vec<u8>,
        /// ≥ 1.
        timeout_millis: u64,
    },
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
            script: Script::new(SCRIPT),
            backend: Backend::new(&config.redis, seed),
            waiting: HashMap::new(),
            counters: Counters::new(&config),
            warnings: Warnings::default(),
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
        let check = self.check(attributes);
        if check.is_empty() {
            return Step::Pass;
        }
        let is_grpc = attributes.header("content-type").is_some_and(|value| respond::is_grpc(&value));
        let waiting = Waiting { check, is_grpc };
        match self.backend.submit(now, ticket, waiting.check.call(&self.script)) {
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
            self.backend.abandon(ticket);
        }
    }

    /// The way to Redis, to pass it what came from there.
    pub fn backend(&mut self) -> &mut Backend {
        &mut self.backend
    }

    /// What to do next, or `None` when nothing is left to do for now.
    pub fn poll(&mut self, now: Micros) -> Option<Effect> {
        while let Some(effect) = self.backend.poll() {
            let effect = match effect {
                BackendEffect::Open => Some(Effect::OpenStream),
                BackendEffect::Send(bytes) => Some(Effect::Send(bytes)),
                BackendEffect::Close => Some(Effect::CloseStream),
                BackendEffect::Callout { ticket, body, timeout_millis } => {
                    Some(Effect::Callout { ticket, body, timeout_millis })
                }
                BackendEffect::Settled { ticket, result } => self.settle(now, ticket, result),
                BackendEffect::Trouble { failure, detail } => self.warn(now, failure, &detail),
            };
            if effect.is_some() {
                return effect;
            }
        }
        None
    }

    fn check(&self, attributes: &dyn Attributes) -> Check {
        let limits = self.config.limits.iter().enumerate().filter(|(_, limit)| limit.applies(attributes));
        Check::new(limits.filter_map(|(index, limit)| self.ask(index, limit, attributes)).collect())
    }

    fn ask(&self, index: usize, limit: &Limit, attributes: &dyn Attributes) -> Option<Asked> {
        Some(Asked {
            limit: index,
            key: limit.key(&self.config.redis.key_prefix, attributes)?,
            bucket: limit.token_bucket,
            cost: limit.hits_addend.cost(attributes),
            enforced: !(limit.shadow_mode || self.config.shadow_mode),
        })
    }

    fn settle(&mut self, now: Micros, ticket: Ticket, result: Result<Reply, Failure>) -> Option<Effect> {
        let waiting = self.waiting.remove(&ticket)?;
        let verdict = match result.map(|reply| waiting.check.read(reply)) {
            Ok(Ok(verdict)) => verdict,
            Err(failure) => return Some(Effect::Decide(ticket, self.fail(failure, &waiting))),
            Ok(Err(malformed)) => {
                let decision = self.fail(Failure::Protocol, &waiting);
                return Some(Effect::Decide(ticket, decision));
            }
        };
        self.counters.decided(&verdict);
        let decision = if verdict.admitted {
            Decision::Admit(respond::admitted_headers(&verdict, &self.config))
        } else {
            Decision::Answer(respond::denied(&verdict, &self.config, waiting.is_grpc))
        };
        Some(Effect::Decide(ticket, decision))
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
            Decision::Admit(Headers::default())
        }
    }

    fn warn(&mut self, now: Micros, failure: Failure, detail: &str) -> Option<Effect> {
        self.warnings.say(now, failure, detail).map(Effect::Warn)
    }
}

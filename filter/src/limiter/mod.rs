//! The limiter: a state machine that leads each request from its attributes to a decision.
//!
//! Requests, bytes from Redis and ticks go in; [`Effect`]s come out of [`Limiter::poll`]. It never blocks,
//! never asks for the time, and knows nothing of the proxy.

mod asking;
mod backend;
mod bodies;
mod counters;
mod crowd;
mod crowding;
mod deciding;
mod delayed;
mod denied;
mod ending;
mod events;
mod gather;
mod leases;
mod leasing;
mod notes;
mod owed;
mod places;
mod queue;
mod recent;
#[cfg(test)]
mod tests;
mod ticker;
mod tickets;
mod timers;
mod warnings;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use self::asking::{Asking, Denial};
pub use self::backend::Backend;
pub use self::bodies::Bodies;
pub use self::counters::Counters;
use self::crowd::Crowd;
use self::crowding::Heard;
use self::delayed::Delayed;
use self::denied::Denied;
use self::ending::Ending;
use self::events::Events;
pub use self::gather::{Gather, Pace};
use self::leases::Leases;
use self::leasing::{Ahead, Prepaid};
use self::places::Places;
use self::queue::Queue;
pub use self::ticker::Ticker;
use self::tickets::Aside;
use self::warnings::Warnings;
use crate::config::Config;
use crate::descriptor::Attributes;
use crate::limit::{Check, Holder, Holds, Scripts, Verdict};
use crate::overrides::{self, Ignored, Refresh};
use crate::redis::{Call, Callout, Failure, Reply, Ticket, Trouble};
use crate::respond::{self, Header, LocalReply};
use crate::table::Table;
use crate::units::Micros;

/// How soon counters and events are reported. No hurry: the ticks that calls need report them, too.
const REPORT_WITHIN: Micros = Micros::from_secs(2);

/// Delayed requests that one tick lets go: no more than its callback may decide.
const DELAYED_PER_TICK: usize = 128;

/// One worker's limiter.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    scripts: Scripts,
    redis: Backend,
    /// This worker's number, among all of all proxies.
    worker: u64,
    /// Requests checked so far.
    checked: u64,
    waiting: Table<Waiting>,
    /// Of those that wait, by bucket.
    crowd: Crowd,
    /// Those that wait for room.
    queue: Queue,
    heard: Heard,
    last_tick: Micros,
    denied: Denied,
    delayed: Delayed,
    places: Places,
    ending: Ending,
    leases: Leases,
    /// Calls for leases alone.
    ahead: Table<Ahead>,
    aside: Aside,
    counters: Counters,
    refresh: Option<Refresh>,
    events: Option<Events>,
    warnings: Warnings,
    /// What comes before what Redis' side has to say next.
    effects: VecDeque<Effect>,
}

/// The proxy's number for a request, its own from its arrival until it is [done](Limiter::done).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// A request whose check is with Redis.
#[derive(Debug)]
struct Waiting {
    check: Check,
    /// What it has spent already, of leases.
    prepaid: Vec<Prepaid>,
    asked_at: Micros,
    is_grpc: bool,
    seat: Seat,
}

/// Whether a request may be held where Redis says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// No limit of it holds requests.
    Unwanted,
    /// There is a place for it.
    Kept,
    /// There is none: Redis is asked to admit it at once, or not.
    Missing,
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
    /// Answer it here. Who is denied out of memory shares an answer with others.
    Answer(Rc<LocalReply>),
    /// Let the end of its response pass, which was [held](Limiter::holds_response).
    EndResponse,
}

/// What the limiter asks of its host.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open the stream to Redis. Only ever after a tick.
    OpenStream,
    /// Close the stream. Only ever after a tick.
    CloseStream,
    /// Post this to Redis in a callout.
    CallOut(Callout),
    /// Leave these with the request, for its access log: names, and what they say. Comes before its decision.
    Annotate(RequestId, Vec<(&'static str, String)>),
    /// A request that was to wait is decided.
    Decide(RequestId, Decision),
    /// Log this as a warning.
    Warn(String),
}

impl Limiter {
    /// A limiter of `config`. `seed` is the worker's name, and varies the jitter of its reconnects: give each worker of
    /// each proxy another, at random.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            scripts: Scripts::default(),
            redis: Backend::new(&config.redis, seed),
            worker: seed,
            checked: 0,
            waiting: Table::new(),
            crowd: Crowd::default(),
            queue: Queue::new(),
            heard: Heard::new(),
            last_tick: Micros::ZERO,
            denied: Denied::new(config.deny_cache_entries),
            delayed: Delayed::new(config.max_delayed_requests),
            places: Places::default(),
            ending: Ending::default(),
            leases: Leases::new(),
            ahead: Table::new(),
            aside: Aside::default(),
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

    /// A request arrives.
    pub fn request(&mut self, now: Micros, request: RequestId, attributes: &dyn Attributes) -> Step {
        if let Some(refresh) = &mut self.refresh {
            refresh.wake(now);
        }
        if attributes.body().is_unreadable() {
            self.counters.body_unreadable();
        }
        let overrides = self.refresh.as_ref().map(Refresh::overrides);
        let is_grpc = || attributes.header("content-type").is_some_and(|value| respond::is_grpc(&value));
        let waiting =
            |check, prepaid| Waiting { check, prepaid, asked_at: now, is_grpc: is_grpc(), seat: Seat::Unwanted };
        let buckets = match asking::ask(&self.config, overrides, now, attributes) {
            Ok(Asking::Buckets(buckets, shadows)) if buckets.is_empty() && shadows.is_empty() => return Step::Pass,
            Ok(Asking::Buckets(buckets, shadows)) => {
                shadows.into_iter().for_each(|denial| self.denied_in_shadow(denial));
                buckets
            }
            Ok(Asking::Blocked(denial)) => {
                let Denial { asked, outcome } = *denial;
                let verdict = Verdict { admitted: false, now: Micros::ZERO, outcomes: vec![outcome] };
                let waiting = waiting(Check::new(vec![asked], Holder::default()), Vec::new());
                return Step::Decided(self.decide(request, &verdict, &waiting));
            }
            Err(bad) => {
                self.counters.rejected();
                let reply = respond::bad_request(bad, is_grpc());
                return Step::Decided(Decision::Answer(Rc::new(reply)));
            }
        };
        if let Some(recalled) = self.denied.recall(now, &buckets) {
            self.counters.recalled();
            let waiting = waiting(Check::new(buckets, Holder::default()), Vec::new());
            return Step::Decided(self.deny_again(now, request, &recalled, &waiting));
        }
        let (mut buckets, prepaid) = self.prepay(now, buckets);
        let seat = self.seat(&mut buckets);
        self.checked = self.checked.wrapping_add(1);
        let mut waiting = waiting(Check::new(buckets, Holder::new(self.worker, self.checked)), prepaid);
        waiting.seat = seat;
        if waiting.check.is_empty() {
            let admitted = Verdict { admitted: true, now: Micros::ZERO, outcomes: Vec::new() };
            let verdict = self.with_prepaid(now, admitted, &waiting.prepaid);
            return Step::Decided(self.decide(request, &verdict, &waiting));
        }
        self.ask(now, request, waiting)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Micros) {
        self.drain(now);
        self.expire(now);
        self.redis.handle_tick(now);
        // The next tick is for the rest, which are still held until then.
        let due = core::iter::from_fn(|| self.delayed.pop_due(now)).take(DELAYED_PER_TICK);
        self.effects.extend(due.map(|(request, decision)| Effect::Decide(request, decision)));
        while let Some(request) = self.ending.pop_due(now) {
            self.effects.push_back(Effect::Decide(request, Decision::EndResponse));
        }
        for (ticket, call) in self.places.due(now, &mut self.aside, &self.scripts) {
            self.call_for_places(now, ticket, call);
        }
        self.return_leases(now);
        if let Some(refresh) = &mut self.refresh
            && let Some(call) = refresh.due(now)
            // One at a time, and room even in a flood, which an override may end.
            && let Err(failure) = self.redis.submit_reserved(now, tickets::OVERRIDES, call)
        {
            self.refreshed(now, Err(failure));
        }
        let Some(events) = &mut self.events else { return };
        if let Some(batch) = events.batch()
            && self.redis.submit(now, tickets::EVENTS, batch).is_err()
        {
            events.settled(false);
        }
        let dropped = events.take_dropped();
        self.counters.events_dropped(dropped);
    }

    /// Whether a request was told to wait, and is not decided yet.
    #[must_use]
    pub fn is_waiting(&self, request: RequestId) -> bool {
        self.waiting.contains(request.0) || self.delayed.holds(request)
    }

    /// Whether anything is kept of a request: if so, it must be told when it is [done](Self::done).
    #[must_use]
    pub fn has_any_of(&self, request: RequestId) -> bool {
        self.is_waiting(request) || self.places.holds(request) || self.holds_response(request)
    }

    /// Whether a request holds places, which are to be given back when [its response ends](Self::response_ends).
    #[must_use]
    pub fn holds_places(&self, request: RequestId) -> bool {
        self.places.holds(request)
    }

    /// The end of a request's response has come, and has not gone to the client yet: what the request holds is given back.
    pub fn response_ends(&mut self, now: Micros, request: RequestId) {
        let Some(holds) = self.places.leave(request) else { return };
        if let Some(ticket) = self.give_back(now, &holds, false) {
            self.ending.hold(now.plus(self.config.redis.timeout), request, ticket);
        }
    }

    /// Whether the end of a request's response is to be held, until a [`Decision::EndResponse`] follows.
    #[must_use]
    pub fn holds_response(&self, request: RequestId) -> bool {
        self.ending.holds(request)
    }

    /// The request is over, in whatever way: what it holds is given back, and its reply, should it still come, is
    /// dropped. Whether anything is to be done for that: [`poll`](Self::poll), and send.
    pub fn done(&mut self, now: Micros, request: RequestId) -> bool {
        let mut gave_back = false;
        self.ending.leave(request);
        if let Some(waiting) = self.waiting.remove(request.0) {
            self.left(&waiting);
            self.leased(&waiting, None);
            self.used(now, &waiting.prepaid, false);
            let takes_places = waiting.check.takes_places();
            let is_unasked = self.queue.leave(request) || self.redis.abandon(request.into(), takes_places);
            if takes_places && !is_unasked {
                self.places.await_outcome(request, waiting.check);
            }
        }
        let refund = self.delayed.leave(request);
        gave_back |= self.refund(now, refund);
        if let Some(holds) = self.places.leave(request) {
            self.give_back(now, &holds, false);
            gave_back = true;
        }
        gave_back
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
        let queued = self.queue.next_deadline().map(|deadline| deadline.max(now));
        let kept = [
            queued,
            self.delayed.next_turn(),
            self.places.next_due(),
            self.leases.next_sweep(),
            self.ending.next_due(),
        ];
        [self.redis.next_tick(now), refresh, soon].into_iter().chain(kept).flatten().min()
    }

    /// Whether nothing is to be done or sent.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.effects.is_empty() && self.redis.is_at_rest()
    }

    /// What to do next, or `None` when nothing is left to do for now.
    pub fn poll(&mut self, now: Micros) -> Option<Effect> {
        while self.effects.is_empty() {
            let Some(effect) = self.redis.poll(now) else {
                // What is settled has made room.
                if self.queue.is_empty() || !self.drain(now) {
                    return None;
                }
                continue;
            };
            match effect {
                backend::Effect::Open => return Some(Effect::OpenStream),
                backend::Effect::Close => return Some(Effect::CloseStream),
                backend::Effect::CallOut(callout) => return Some(Effect::CallOut(callout)),
                backend::Effect::Settled(tickets::EVENTS, result) => {
                    if let Some(events) = &mut self.events {
                        events.settled(result.is_ok());
                    }
                }
                backend::Effect::Settled(tickets::OVERRIDES, result) => self.refreshed(now, result),
                backend::Effect::Settled(ticket, result) => match tickets::request(ticket) {
                    Some(request) => self.settle(now, request, result),
                    None => self.settle_aside(now, ticket, result),
                },
                backend::Effect::Trouble(Trouble { failure, detail }) => self.warn(now, failure, &detail),
            }
        }
        self.effects.pop_front()
    }

    fn refreshed(&mut self, now: Micros, result: Result<Reply, Failure>) {
        let Some(refresh) = &mut self.refresh else { return };
        for event in refresh.handle(now, result) {
            match event {
                overrides::Event::Changed => self.denied.forget(),
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

    /// Gives tokens back, if any. Where Redis is away they are lost: it admits less for a time, never more.
    fn refund(&mut self, now: Micros, refund: Option<Call>) -> bool {
        refund.is_some_and(|call| self.redis.submit_aside(now, self.aside.ticket(), call).is_ok())
    }

    /// Gives places back. The last call for that, where it is on its way: what Redis is told before it is done by then.
    fn give_back(&mut self, now: Micros, holds: &Holds, is_guess: bool) -> Option<Ticket> {
        let mut last = None;
        for (ticket, call) in self.places.give_back(now, &mut self.aside, holds, is_guess, &self.scripts) {
            last = self.call_for_places(now, ticket, call).then_some(ticket);
        }
        last
    }

    /// Never refused for want of room: there is no more of it than was held. Whether the call is on its way.
    fn call_for_places(&mut self, now: Micros, ticket: Ticket, call: Call) -> bool {
        let sent = self.redis.submit_reserved(now, ticket, call);
        if let Err(failure) = sent {
            self.places.settled(now, ticket, Err(failure));
        }
        sent.is_ok()
    }

    fn warn(&mut self, now: Micros, cause: Failure, detail: &str) {
        self.effects.extend(self.warnings.say(now, cause, detail).map(Effect::Warn));
    }
}

//! State machine that decides requests: from a request's attributes to a [`Decision`].
//!
//! Requests, bytes from Redis and ticks go in; [`Effect`]s come out of [`Limiter::poll`]. The limiter never blocks,
//! reads no clock and does not depend on the proxy.

mod batching;
mod body_waits;
mod charging;
mod contention;
mod counters;
mod delay_queue;
mod deny_cache;
mod effect;
mod estimates;
mod events;
mod filter_state;
mod grants;
mod heal_calls;
#[cfg(not(target_arch = "wasm32"))]
mod idle;
mod lease_calls;
mod lease_table;
mod local_calls;
mod local_mode;
mod memory;
mod metric_names;
mod near_and_over;
mod on_reply;
mod on_request;
mod outages;
mod overload;
mod override_replies;
mod parts;
mod pending;
mod poll;
mod queue;
mod redis_activity;
mod releases;
mod request_end;
mod request_id;
mod reservation_calls;
mod reservations;
mod response_gate;
mod slot_calls;
mod slots;
mod start;
#[cfg(test)]
mod tests;
mod ticker;
mod tickets;
mod ticks;
mod timers;
mod warnings;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;

pub use self::batching::{Batching, Pace};
pub use self::body_waits::BodyWaits;
use self::charging::Charging;
pub use self::charging::ResponseHead;
use self::contention::Contention;
pub use self::counters::Counters;
use self::counters::UsageCounter;
use self::delay_queue::DelayQueue;
use self::deny_cache::DenyCache;
pub use self::effect::{Decision, Effect, Step};
use self::estimates::Estimates;
pub use self::events::EVENTS_SCRIPT;
use self::events::Events;
#[cfg(not(target_arch = "wasm32"))]
pub use self::events::events_script;
use self::lease_table::{LeaseRefill, LeaseTable};
use self::local_mode::LocalMode;
use self::memory::Memory;
pub use self::metric_names::MetricNames;
use self::on_request::{CarriedNumbers, KnownOverrides, LocalDenial, RequestChecks};
use self::pending::{CheckSeries, PendingRequest};
use self::queue::CheckQueue;
use self::redis_activity::RedisActivity;
pub use self::request_id::RequestId;
use self::reservations::OpenReservations;
use self::response_gate::ResponseGate;
use self::slots::Slots;
use self::start::{refresh, transport};
pub use self::ticker::Ticker;
use self::tickets::BackgroundCalls;
use self::warnings::Warnings;
use crate::config::Config;
use crate::descriptor::{Attributes, BadRequest};
use crate::limit::{Check, Scripts, SlotOwner, Verdict};
use crate::overrides::{KeyOverrides, Refresh, Units};
use crate::redis::Transport;
use crate::response;
use crate::table::Table;
use crate::units::Micros;

/// Limiter of one worker.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    scripts: Scripts,
    redis: Transport,
    /// Number of this worker, unique among the workers of all proxies.
    worker: u64,
    /// Number of requests checked so far; numbers the slot owners.
    checked: u64,
    pending: Table<PendingRequest>,
    /// Pending requests counted by bucket.
    contention: Contention,
    /// Pending requests that wait for room in the Redis transport.
    queue: CheckQueue,
    redis_activity: RedisActivity,
    last_tick: Micros,
    deny_cache: DenyCache,
    delay_queue: DelayQueue,
    slots: Slots,
    reservations: OpenReservations,
    response_gate: ResponseGate,
    /// Requests whose limits charge what responses cost. `None` where no limit does.
    charging: Option<Box<Charging>>,
    leases: LeaseTable,
    /// Background calls that refill or return leases.
    lease_refills: Table<LeaseRefill>,
    background: BackgroundCalls,
    counters: Counters,
    refresh: Option<Refresh>,
    key_overrides: Option<KeyOverrides>,
    /// Time of the last warning of a malformed override of a key.
    key_override_warned_at: Option<Micros>,
    events: Option<Events>,
    /// Shares of the limits, if any limit has `failure_mode: local`.
    local: Option<Box<LocalMode>>,
    memory: Memory,
    warnings: Warnings,
    /// Effects returned by [`Limiter::poll`] before further transport events.
    effects: VecDeque<Effect>,
}

impl Limiter {
    /// Creates a limiter of `config`. `seed` identifies the worker and seeds the jitter of its reconnects: use a
    /// different random seed for each worker of each proxy.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let units = Rc::new(Units::of(&config.limits));
        Self {
            scripts: Scripts::new(config.overrides.is_some_and(|overrides| overrides.per_key)),
            redis: transport(&config, seed),
            worker: seed,
            checked: 0,
            pending: Table::new(),
            contention: Contention::new(config.has_carried_numbers()),
            queue: CheckQueue::new(),
            redis_activity: RedisActivity::new(),
            last_tick: Micros::ZERO,
            deny_cache: DenyCache::new(config.deny_cache_entries, config.has_carried_numbers()),
            delay_queue: DelayQueue::new(config.max_delayed_requests),
            slots: Slots::new(config.redis.topology),
            reservations: OpenReservations::new(config.redis.topology),
            response_gate: ResponseGate::default(),
            charging: config.usage.as_ref().map(|usage| Box::new(Charging::new(usage))),
            leases: LeaseTable::new(config.overrides.is_some_and(|overrides| overrides.per_key)),
            lease_refills: Table::new(),
            background: BackgroundCalls::default(),
            counters: Counters::new(&config),
            refresh: refresh(&config, &units, seed),
            key_overrides: config
                .overrides
                .filter(|overrides| overrides.per_key)
                .map(|_| KeyOverrides::new(&config.redis.key_prefix).with_units(units)),
            key_override_warned_at: None,
            events: config.events.clone().map(|config| Events::new(config, seed)),
            local: LocalMode::new(&config, seed).map(Box::new),
            memory: Memory::new(config.healed_keys, seed),
            warnings: Warnings::new(&config.redis.cluster),
            effects: VecDeque::new(),
            config,
        }
    }

    /// Configuration of the limiter.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters of the worker.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Handles the arrival of a request.
    pub fn request(&mut self, now: Micros, request: RequestId, attributes: &dyn Attributes) -> Step {
        if let Some(refresh) = &mut self.refresh {
            refresh.wake(now);
        }
        if attributes.body().is_unreadable() {
            self.counters.body_unreadable();
        }
        let overrides = KnownOverrides {
            of_limits: self.refresh.as_ref().map(Refresh::overrides),
            of_keys: self.key_overrides.as_mut(),
            probes: true,
        };
        let mut carried = CarriedNumbers::new();
        let mut estimates = Estimates::default();
        match on_request::checks_of(&self.config, overrides, now, attributes, &mut carried, &mut estimates) {
            Ok(RequestChecks::Buckets(buckets, shadows)) if buckets.is_empty() && shadows.is_empty() => Step::Pass,
            Ok(checks) => {
                if let Some((charging, estimates)) = self.charging.as_mut().zip(estimates.finish()) {
                    charging.arrive(request, estimates, &self.config);
                }
                let is_kept = !carried.is_empty() && self.key_overrides.is_some();
                let series = is_kept.then(|| CheckSeries::of(carried));
                let protocol = self.config.responses.protocol(attributes.headers());
                self.check(now, request, checks, PendingRequest { series, ..PendingRequest::new(now, protocol) })
            }
            Err(bad) => {
                self.counters.rejected();
                if bad == BadRequest::UnknownModel {
                    self.counters.usage(UsageCounter::UnknownModel, 1);
                }
                let reply = response::bad_request(
                    &self.config.responses,
                    bad,
                    self.config.responses.protocol(attributes.headers()),
                );
                Step::Decided(Decision::Answer(Rc::new(reply)))
            }
        }
    }

    /// Decides a request from what the worker knows, or submits its check. `pending` has no check yet.
    fn check(&mut self, now: Micros, request: RequestId, checks: RequestChecks, mut pending: PendingRequest) -> Step {
        let buckets = match checks {
            RequestChecks::Buckets(buckets, shadows)
                if buckets.is_empty()
                    && shadows.is_empty()
                    && pending.lease_spends.is_empty()
                    && pending.earlier().is_empty() =>
            {
                return Step::Pass;
            }
            RequestChecks::Buckets(buckets, shadows) => {
                shadows.into_iter().for_each(|denial| self.passed_locally(request, denial));
                buckets
            }
            RequestChecks::Blocked(denial) => {
                let LocalDenial { check, outcome } = *denial;
                let verdict = Verdict { outcomes: vec![outcome], ..Verdict::default() };
                pending.check = Check::new(vec![check], SlotOwner::default());
                self.finish(now, request, &pending, false);
                return Step::Decided(self.decide(request, &verdict, &pending));
            }
            RequestChecks::Probe { asks, mut rest, shadows } => {
                shadows.into_iter().for_each(|denial| self.passed_locally(request, denial));
                let (asks, mut others) = self.first_part(asks, false);
                rest.append(&mut others);
                pending.check = Check::new(asks, SlotOwner::default());
                pending.series.get_or_insert_default().probed = Some(rest);
                return self.submit_check(now, request, pending);
            }
        };
        if let Some(local) = &mut self.local {
            local.count(now, &buckets);
        }
        if let Some(hit) = self.deny_cache.lookup(now, &buckets) {
            self.counters.deny_cache_hit();
            pending.check = Check::new(buckets, SlotOwner::default());
            self.finish(now, request, &pending, false);
            return Step::Decided(self.deny_again(now, request, &hit, &pending));
        }
        let mut buckets = self.spend_leases(now, buckets, &mut pending.lease_spends);
        pending.delay_reservation = self.reserve_delay(&mut buckets);
        self.checked = self.checked.wrapping_add(1);
        self.set_check(&mut pending, buckets);
        if pending.check.is_empty() {
            if pending.is_split() {
                return self.next_part(now, request, pending, SlotOwner::default());
            }
            let admitted = Verdict { admitted: true, ..Verdict::default() };
            let verdict = self.with_other_outcomes(now, request, admitted, &pending);
            return Step::Decided(self.decide(request, &verdict, &pending));
        }
        self.submit_check(now, request, pending)
    }

    /// Whether the request is held and not decided yet.
    #[must_use]
    pub fn is_waiting(&self, request: RequestId) -> bool {
        self.pending.contains(request.0) || self.delay_queue.holds(request)
    }

    /// Whether the limiter has state of the request. If so, [`done`](Self::done) must be called when the request ends.
    #[must_use]
    pub fn has_any_of(&self, request: RequestId) -> bool {
        self.is_waiting(request)
            || self.slots.holds(request)
            || self.reservations.holds(request)
            || self.holds_response(request)
            || self.is_charged(request)
    }

    /// Whether the request holds slots, which [`response_ends`](Self::response_ends) releases.
    #[must_use]
    pub fn holds_slots(&self, request: RequestId) -> bool {
        self.slots.holds(request)
    }

    /// Whether the end of the response is to be held until a [`Decision::EndResponse`] follows.
    #[must_use]
    pub fn holds_response(&self, request: RequestId) -> bool {
        self.response_gate.holds(request)
    }
}

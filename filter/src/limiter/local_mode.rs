//! State of `failure_mode: local`: buckets in a worker's memory while Redis cannot be asked, and the way back to it.
//!
//! ```text
//!            lost                    probe answered, all posts answered
//!   Asking ─────────▶ Lost ───────────────────────────────────────────────▶ Returning
//!     │ ▲              ▲  by its shares alone                                  ▲ │ │
//!     │ │              └───────────────────────────────────────────────────────┼─┘ │
//!     │ └──────────────────────────────────────────────────────────────────────┼───┘
//!     │                     after a time: all workers are back                 │
//!     └────────────────────────────────────────────────────────────────────────┘
//!                silent, or the connection was lost without a call in flight
//! ```
//!
//! While a worker returns, Redis and the worker's shares both decide: other workers, which are not back yet, still
//! spend their shares, and Redis does not know of it. A worker without requests pings Redis, so that it notices each
//! outage in which others may have decided by their shares: these wait for [`LOST_AFTER`] and a timeout, or lose their
//! connections.

use alloc::vec::Vec;

use super::grants::Grants;
use crate::config::Config;
use crate::limit::{Algorithm, BucketCheck, FixedWindow, LocalBucket, Share, Verdict};
use crate::redis::{Failure, Reply, Ticket};
use crate::table::{Recent, Table};
use crate::units::{Micros, Tokens};

/// Longest time from the first worker's return to the last one's. [`RECONNECT_WITHIN`] leaves time for a handshake.
const RETURN_WITHIN: Micros = Micros::from_millis(400);
/// Longest time between two attempts to connect.
pub(super) const RECONNECT_WITHIN: Micros = Micros::from_millis(200);
/// Longest time that workers differ in noticing that Redis is lost.
const NOTICED_WITHIN: Micros = Micros::from_millis(100);
/// Time between two probes.
const RETRY: Micros = Micros::from_millis(50);
/// Time without a reply after which Redis counts as lost, and a timeout more.
const LOST_AFTER: Micros = Micros::from_secs(1);
/// Time without a reply after which other workers may decide by their shares soon.
const SILENT_AFTER: Micros = Micros::from_millis(700);
/// Time without a reply after which a worker pings Redis.
const PING_AFTER: Micros = Micros(SILENT_AFTER.0 / 2);
/// End of a return that has not begun yet.
const NOT_YET: Micros = Micros(u64::MAX);

/// Buckets of one worker, and its shares of the limits.
#[derive(Debug)]
pub(super) struct LocalMode {
    /// Shares, in the order of the limits.
    shares: Vec<Share>,
    /// Grants of these shares. `None` where they are fixed by hand.
    pub(super) grants: Option<Grants>,
    phase: Phase,
    /// Buckets, each with the index of its limit.
    buckets: Recent<(usize, LocalBucket)>,
    /// Time at which unknown buckets count as used up: when Redis was lost, or when buckets were last forgotten.
    since: Micros,
    /// Number of times that buckets were forgotten, as of `since`.
    drops: u32,
    /// The worker's clock and Redis' clock at the last decision before `since`. `None`: the time of Redis' windows is
    /// unknown.
    clocks: Option<(Micros, Micros)>,
    /// The worker's clock and Redis' clock at the last decision.
    last_clocks: Option<(Micros, Micros)>,
    /// Calls without a reply that tell Redis what was spent.
    posts: Table<Vec<BucketCheck>>,
    /// Bucket that a probe or a ping spends from.
    probe: BucketCheck,
    /// Time of the last reply of Redis to a call that writes, or of the first request. `None` before it.
    heard: Option<Micros>,
    /// Time of the next ping. `None` before the first request, and while a ping is in flight.
    ping_at: Option<Micros>,
    /// The ping in flight.
    ping: Option<Ticket>,
}

#[derive(Debug)]
enum Phase {
    /// Redis decides.
    Asking,
    /// The worker decides.
    Lost {
        cause: Failure,
        at: Micros,
        /// Time of the next probe. `None`: calls are in flight.
        retry_at: Option<Micros>,
        /// Number of rounds of posts since the last probe.
        rounds: u8,
        /// Whether a call has failed since the last probe.
        has_failed: bool,
    },
    /// Redis and the worker both decide. [`NOT_YET`]: Redis has not replied since the worker noticed a loss.
    Returning { until: Micros },
}

impl LocalMode {
    /// Creates the state of a worker that asks Redis. `worker` is different for each worker. `None` where no limit has
    /// this failure mode.
    #[inline(never)]
    pub(super) fn new(config: &Config, worker: u64) -> Option<Self> {
        let local = config.local?;
        let share = local.share.unwrap_or(local.new_worker_share);
        let window = FixedWindow::new(1_u64, Micros::from_secs(1));
        let probe = BucketCheck {
            limit: 0,
            window: 0,
            key: [&config.redis.key_prefix, "local"].concat().into_bytes(),
            algorithm: window.map_or(Algorithm::NoTokens, Algorithm::FixedWindow),
            cost: Tokens(1),
            enforced: true,
            applied: None,
        };
        Some(Self {
            shares: vec![share; config.limits.len()],
            grants: local.share.is_none().then(|| Grants::new(config, share, worker)),
            phase: Phase::Asking,
            buckets: Recent::new(local.max_keys),
            since: Micros::ZERO,
            drops: 0,
            clocks: None,
            last_clocks: None,
            posts: Table::new(),
            probe,
            heard: None,
            ping_at: None,
            ping: None,
        })
    }

    /// Counts what a request asks for. Pings begin with the first request.
    pub(super) fn count(&mut self, now: Micros, checks: &[BucketCheck]) {
        if self.heard.is_none() {
            (self.heard, self.ping_at) = (Some(now), Some(now.plus(PING_AFTER)));
        }
        if let Some(grants) = &mut self.grants {
            grants.count(now, checks);
        }
    }

    /// Handles the end of a heartbeat.
    pub(super) fn on_heartbeat(&mut self, now: Micros, result: &Result<Reply, Failure>) {
        if result.is_ok() {
            self.hear(now);
        }
        if let Some(grants) = &mut self.grants {
            grants.handle(now, result, &mut self.shares);
        }
    }

    /// Handles a decision of Redis. `redis` is its time by Redis' clock.
    pub(super) fn on_decision(&mut self, now: Micros, redis: Micros) {
        self.last_clocks = Some((now, redis));
        self.hear(now);
    }

    /// Handles a reply of Redis to a call that writes.
    fn hear(&mut self, now: Micros) {
        if self.is_silent(now, SILENT_AFTER) {
            self.doubt(now);
        }
        self.heard = Some(now);
        if self.ping.is_none() {
            self.ping_at = Some(now.plus(PING_AFTER));
        }
        if let Phase::Returning { until: until @ NOT_YET } = &mut self.phase {
            *until = now.plus(RETURN_WITHIN);
        }
    }

    /// Whether Redis has not replied for a time.
    pub(super) fn is_silent(&self, now: Micros, span: Micros) -> bool {
        self.heard.is_some_and(|heard| now.minus(heard) >= span)
    }

    /// Handles a loss of the connection without calls in flight: pings Redis, to learn whether it is lost.
    pub(super) fn on_idle_loss(&mut self, now: Micros) {
        self.doubt(now);
        if self.ping.is_none() && self.heard.is_some() {
            self.ping_at = Some(now);
        }
    }

    /// Has the worker return once Redis replies: others may have decided by their shares meanwhile.
    fn doubt(&mut self, now: Micros) {
        match &mut self.phase {
            Phase::Lost { .. } => return,
            Phase::Asking => self.forget(now),
            Phase::Returning { .. } => {}
        }
        self.phase = Phase::Returning { until: NOT_YET };
    }

    /// Time without a reply after which Redis counts as lost.
    pub(super) fn patience(timeout: Micros) -> Micros {
        LOST_AFTER.plus(timeout)
    }

    /// Handles the loss of Redis.
    pub(super) fn lose(&mut self, now: Micros, cause: Failure) {
        match self.phase {
            Phase::Lost { .. } => return,
            // The worker has noticed it already.
            Phase::Returning { until: NOT_YET } => {}
            Phase::Asking | Phase::Returning { .. } => self.forget(now),
        }
        // Others may have lost it as soon as it was silent.
        let at = self.heard.filter(|_| self.is_silent(now, SILENT_AFTER)).unwrap_or(now);
        self.retry(now, cause, at);
    }

    /// Decides alone, and probes Redis soon.
    fn retry(&mut self, now: Micros, cause: Failure, at: Micros) {
        self.phase = Phase::Lost { cause, at, retry_at: Some(now.plus(RETRY)), rounds: 0, has_failed: false };
    }

    /// Cause of the loss, while the worker decides alone.
    pub(super) fn cause(&self) -> Option<Failure> {
        if let Phase::Lost { cause, .. } = self.phase { Some(cause) } else { None }
    }

    /// Whether Redis and the worker both decide at `now`.
    pub(super) fn is_returning(&mut self, now: Micros) -> bool {
        if let Phase::Asking = self.phase
            && self.is_silent(now, SILENT_AFTER)
        {
            self.doubt(now);
        }
        let Phase::Returning { until } = self.phase else { return false };
        if now >= until {
            self.phase = Phase::Asking;
            self.forget(now);
        }
        now < until
    }

    /// Decides a request by the worker's shares of these buckets, and spends from all of them or from none.
    #[inline(never)]
    pub(super) fn decide(&mut self, now: Micros, checks: &[&BucketCheck]) -> Verdict {
        let time = self.time(now);
        let (mut admitted, mut outcomes) = (true, Vec::new());
        for check in checks {
            admitted &= self.bucket(time, check).is_some_and(|bucket| bucket.admits(time, check.cost));
        }
        for check in checks {
            let Some(bucket) = self.bucket(time, check) else { continue };
            outcomes.push(bucket.outcome(time, check, admitted));
            if admitted {
                bucket.spend(time, check.cost);
            }
        }
        if self.buckets.drops() != self.drops {
            (self.drops, self.since) = (self.buckets.drops(), time);
        }
        // The time is not that of a decision of Redis.
        Verdict { admitted, outcomes, is_local: true, ..Verdict::default() }
    }

    /// Takes the probe or the ping that is due, if any, as `ticket`. Its end goes to [`posted`](Self::posted).
    pub(super) fn due_probe(&mut self, now: Micros, ticket: Ticket) -> Option<&BucketCheck> {
        if let Phase::Lost { retry_at, rounds, has_failed, .. } = &mut self.phase {
            retry_at.take_if(|at| *at <= now)?;
            (*rounds, *has_failed) = (0, false);
            self.posts.insert(ticket.0, Vec::new());
        } else {
            self.ping_at.take_if(|at| *at <= now)?;
            self.ping = Some(ticket);
        }
        Some(&self.probe)
    }

    /// Time at which the worker has something to do.
    pub(super) fn next_due(&self) -> Option<Micros> {
        let of_phase = match self.phase {
            Phase::Asking => self.ping_at,
            Phase::Lost { retry_at, .. } => retry_at,
            Phase::Returning { until } => Some(self.ping_at.map_or(until, |at| at.min(until))),
        };
        let of_grants = self.grants.as_ref().and_then(Grants::next_due);
        of_phase.map_or(of_grants, |at| Some(of_grants.map_or(at, |other| at.min(other))))
    }

    /// Takes what was spent and Redis does not know of: a check for each bucket. From the second round on, and where
    /// nothing was spent, the worker returns: it has told everything but what these checks tell.
    pub(super) fn take_spent(&mut self, now: Micros) -> Vec<BucketCheck> {
        let Phase::Lost { at, rounds, .. } = &mut self.phase else { return Vec::new() };
        *rounds = rounds.saturating_add(1);
        let (is_last, lost_for) = (*rounds > 1, now.minus(*at));
        let time = self.time(now);
        let mut checks = Vec::new();
        self.buckets.for_each(|key, (limit, bucket)| {
            if let Some(check) = bucket.take_spent(time, RETURN_WITHIN, key) {
                checks.push(BucketCheck { limit: *limit, ..check });
            }
        });
        if is_last || checks.is_empty() {
            // After a short outage, other workers try again as soon.
            let until = now.plus(RETURN_WITHIN.min(lost_for.plus(NOTICED_WITHIN)));
            self.phase = Phase::Returning { until };
        }
        checks
    }

    /// Notes that a post is in flight.
    pub(super) fn posts(&mut self, ticket: Ticket, spent: Vec<BucketCheck>) {
        self.posts.insert(ticket.0, spent);
    }

    /// Handles the end of a ping, a probe or a post. `None`: the ticket is of another call. Returns whether to
    /// [post](Self::take_spent) next.
    pub(super) fn posted(&mut self, now: Micros, ticket: Ticket, failure: Option<Failure>) -> Option<bool> {
        let is_ping = self.ping.take_if(|ping| *ping == ticket).is_some();
        let spent = if is_ping { Vec::new() } else { self.posts.remove(ticket.0)? };
        match failure {
            None => self.hear(now),
            Some(_) if is_ping => self.ping_at = Some(now.plus(RETRY)),
            Some(failure) => self.put_back(now, failure, spent),
        }
        if is_ping {
            return Some(false);
        }
        let Phase::Lost { retry_at, has_failed, .. } = &mut self.phase else { return Some(false) };
        *has_failed |= failure.is_some();
        if self.posts.len() > 0 {
            return Some(false);
        }
        if *has_failed {
            *retry_at = Some(now.plus(RETRY));
        }
        Some(!*has_failed)
    }

    /// Notes that Redis may not know of what was spent, and has the worker post it again.
    fn put_back(&mut self, now: Micros, failure: Failure, spent: Vec<BucketCheck>) {
        if let Phase::Asking = self.phase {
            self.forget(now);
        }
        let time = self.time(now);
        for check in spent {
            if self.buckets.get_mut(&check.key).is_none() {
                let _ = self.bucket(time, &check);
            }
            if let Some((_, bucket)) = self.buckets.get_mut(&check.key) {
                bucket.put_back(check.cost);
            }
        }
        // The worker was about to return, or has.
        if !matches!(self.phase, Phase::Lost { .. }) {
            self.retry(now, failure, now.minus(RETURN_WITHIN));
        }
    }

    fn forget(&mut self, now: Micros) {
        self.buckets.clear();
        self.clocks = self.last_clocks;
        self.since = self.time(now);
    }

    /// Time by Redis' clock, or by the worker's own where Redis' is unknown.
    fn time(&self, now: Micros) -> Micros {
        self.clocks.map_or(now, |(then, redis)| redis.plus(now.minus(then)))
    }

    #[inline(never)]
    fn bucket(&mut self, time: Micros, check: &BucketCheck) -> Option<&mut LocalBucket> {
        let known = self.buckets.get_mut(&check.key);
        let is_known = known.as_ref().is_some_and(|(_, bucket)| bucket.is_of(&check.algorithm));
        if !is_known {
            let since = if known.is_some() { time } else { self.since };
            let spent = known.map_or(Tokens(0), |(_, bucket)| bucket.spent());
            let has_windows = matches!(
                check.algorithm,
                Algorithm::FixedWindow(_) | Algorithm::SlidingWindow(_) | Algorithm::Quota(_)
            );
            let share = self.shares.get(check.limit).copied().filter(|_| self.clocks.is_some() || !has_windows);
            let mut bucket = LocalBucket::used_up(&check.algorithm, share.unwrap_or(Share::NONE), since);
            bucket.put_back(spent);
            self.buckets.insert(&check.key, (check.limit, bucket));
        }
        self.buckets.get_mut(&check.key).map(|(_, bucket)| bucket)
    }
}

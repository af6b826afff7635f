//! Requests whose check is pending.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::lease_table::LeaseSpend;
use super::on_request::CarriedNumbers;
use crate::limit::{BucketCheck, Check, Outcome, Scripts, Verdict};
use crate::redis::Call;
use crate::response::ClientProtocol;
use crate::units::Micros;

/// A request whose check Redis has not decided yet: queued, or sent to Redis.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) check: Check,
    /// Tokens that the request has spent from leases, without Redis.
    pub(super) lease_spends: Vec<LeaseSpend>,
    pub(super) arrived_at: Micros,
    pub(super) protocol: ClientProtocol,
    pub(super) delay_reservation: DelayReservation,
    /// Checks before and after this one, for few requests.
    pub(super) series: Option<Box<CheckSeries>>,
}

/// Checks of one request that are sent one after the other, since overrides of its keys are not known.
#[derive(Debug, Default)]
pub(super) struct CheckSeries {
    /// Number of checks that Redis has not decided, since it had other overrides.
    pub(super) undecided: u8,
    /// Checks that follow this one, which only asks Redis for the overrides of keys. `None`: this one decides.
    pub(super) probed: Option<Vec<BucketCheck>>,
    /// Numbers that the request carries, for the next check.
    pub(super) carried: CarriedNumbers,
    /// Buckets in other hash slots of a cluster, whose checks follow this one.
    pub(super) later: Vec<BucketCheck>,
    /// Whether each bucket has a check of its own, since its hash slot is moving.
    pub(super) is_single: bool,
    /// Checks in other hash slots that have admitted the request.
    pub(super) earlier: Vec<(Check, Verdict)>,
}

/// Reservation in the delay queue, made before the check is sent: Redis may delay the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DelayReservation {
    /// No limit of the request has `max_delay`.
    NotNeeded,
    /// The delay queue has an entry reserved for the request.
    Reserved,
    /// The delay queue is full: the check asks Redis to admit the request without delay or to deny it.
    Unavailable,
}

impl CheckSeries {
    /// Creates the state of a request that carries these numbers, before its first check.
    #[inline(never)]
    pub(super) fn of(carried: CarriedNumbers) -> Box<Self> {
        Box::new(Self { carried, ..Self::default() })
    }
}

impl PendingRequest {
    /// Whether the check only asks Redis for the overrides of keys.
    pub(super) fn is_probe(&self) -> bool {
        self.series.as_ref().is_some_and(|series| series.probed.is_some())
    }

    /// Whether checks in other hash slots decide the request as well.
    pub(super) fn is_split(&self) -> bool {
        self.has_later() || !self.earlier().is_empty()
    }

    /// Time for which the request is held before it goes on, by the verdict on this check and on earlier ones.
    pub(super) fn delay(&self, verdict: &Verdict) -> Micros {
        let earlier = self.earlier().iter().map(|(_, earlier)| earlier.delay());
        let delay = verdict.delay();
        if verdict.admitted { earlier.fold(delay, Micros::max) } else { delay }
    }

    /// Calls that refund the tokens of a held request, by the verdict on this check and on earlier ones.
    pub(super) fn refund_calls(&self, verdict: &Verdict, scripts: &Scripts) -> Vec<Call> {
        let mut calls = Vec::new();
        for (check, verdict) in self.earlier() {
            calls.extend(check.refund_call(verdict, scripts));
        }
        calls.extend(self.check.refund_call(verdict, scripts));
        calls
    }

    /// Whether checks in other hash slots follow this one.
    pub(super) fn has_later(&self) -> bool {
        self.series.as_ref().is_some_and(|series| !series.later.is_empty())
    }

    /// Checks in other hash slots that have admitted the request.
    pub(super) fn earlier(&self) -> &[(Check, Verdict)] {
        self.series.as_ref().map_or(&[], |series| &series.earlier)
    }

    /// Creates the state of a request that arrived at `arrived_at`, without a check.
    pub(super) fn new(arrived_at: Micros, protocol: ClientProtocol) -> Self {
        Self {
            check: Check::default(),
            lease_spends: Vec::new(),
            arrived_at,
            protocol,
            delay_reservation: DelayReservation::NotNeeded,
            series: None,
        }
    }

    /// Returns the bucket check of an outcome, whether Redis or a lease decided it.
    pub(super) fn bucket(&self, outcome: &Outcome) -> Option<&BucketCheck> {
        let mut lease_spends = self.lease_spends.iter().map(|spend| &spend.check);
        let of_earlier = || self.earlier().iter().find_map(|(check, _)| check.of(outcome));
        let of_leases = || lease_spends.find(|check| check.limit == outcome.limit);
        self.check.of(outcome).or_else(of_earlier).or_else(of_leases)
    }
}

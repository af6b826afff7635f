//! Requests whose check is pending.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::lease_table::LeaseSpend;
use super::on_request::CarriedNumbers;
use crate::limit::{BucketCheck, Check, Outcome};
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
        let lease_spends = self.lease_spends.iter().map(|spend| &spend.check);
        self.check.of(outcome).or_else(|| lease_spends.into_iter().find(|check| check.limit == outcome.limit))
    }
}

//! Metrics of a worker at the proxy.

use alloc::vec::Vec;

use super::{State, Worker};
use crate::config::Config;
use crate::host::{self, Metric};
use crate::limiter::MetricNames;

/// The proxy's ids of a worker's metrics.
pub(super) struct Metrics {
    /// Counters, in the order of [`MetricNames::counters`].
    counters: Vec<u32>,
    /// Gauge of the connected workers: each worker adds 1 while it is connected.
    connected: u32,
    /// Histogram of the round trips to Redis.
    round_trip: u32,
}

impl Metrics {
    /// Defines all metrics of `config` at the proxy. `None` where the proxy refuses one of them.
    pub(super) fn define(config: &Config) -> Option<Self> {
        let names = MetricNames::of(config);
        let counters = names.counters.iter().map(|name| host::define_metric(Metric::Counter, name).ok());
        Some(Self {
            counters: counters.collect::<Option<_>>()?,
            connected: host::define_metric(Metric::Gauge, &names.connected).ok()?,
            round_trip: host::define_metric(Metric::Histogram, &names.round_trip).ok()?,
        })
    }
}

impl Worker {
    /// Adds the counters' increments to the proxy's metrics, and reports the connection.
    pub(super) fn report(&self) {
        self.with(|state| {
            for (counter, gained) in state.limiter.counters().take() {
                if let Some(&counter) = self.metrics.counters.get(counter) {
                    let _ = host::increment(counter, i64::try_from(gained).unwrap_or(i64::MAX));
                }
            }
        });
        self.report_connection();
    }

    /// Adds this worker to the gauge of connected workers, or removes it, if its connection has changed.
    pub(super) fn report_connection(&self) {
        self.with(|state| {
            let is_connected = state.limiter.redis().is_connected();
            self.set_connected(state, is_connected);
        });
    }

    /// Removes this worker from the gauge of connected workers, at its end.
    pub(super) fn leave_gauge(&self) {
        self.with(|state| self.set_connected(state, false));
    }

    /// Records the round trips of the replies that have just arrived.
    pub(super) fn record_round_trips(&self, state: &mut State) {
        while let Some(round_trip) = state.limiter.redis().pop_round_trip() {
            let _ = host::record_value(self.metrics.round_trip, round_trip.0);
        }
    }

    fn set_connected(&self, state: &mut State, is_connected: bool) {
        if core::mem::replace(&mut state.is_connected, is_connected) != is_connected {
            let _ = host::increment(self.metrics.connected, if is_connected { 1 } else { -1 });
        }
    }
}

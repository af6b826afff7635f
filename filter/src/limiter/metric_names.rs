//! Names of all metrics of a worker.

use alloc::string::String;
use alloc::vec::Vec;

use super::counters::Counters;
use crate::config::Config;

/// Names of all metrics that a worker defines at the proxy. Each begins with `stat_prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricNames {
    /// Counters, in the order of [`Counters::names`].
    pub counters: Vec<String>,
    /// Gauge `{stat_prefix}.redis.connected`: workers that are connected to Redis.
    pub connected: String,
    /// Histogram `{stat_prefix}.redis.round_trip_us`: time from a command to its reply, in microseconds.
    pub round_trip: String,
}

impl MetricNames {
    /// Returns the names for `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let redis = |name| format!("{}.redis.{name}", config.stat_prefix);
        Self { counters: Counters::names(config), connected: redis("connected"), round_trip: redis("round_trip_us") }
    }
}

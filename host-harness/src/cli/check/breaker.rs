//! The proxy's circuit breaker in a limiter's way to Redis, where it calls out.

use weir_filter::config::{RedisConfig, Transport};

use super::Limiter;
use super::warning::Warning;
use crate::bootstrap::Cluster;

/// A threshold that a limiter may reach before `redis.max_in_flight`; displayed with its place in the plugin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "configuration.value: redis.max_in_flight: expected at most {threshold}, which is {name} of \
     static_resources.clusters[{index}].circuit_breakers, found {max_in_flight} (the proxy refuses callouts beyond it)"
)]
pub(super) struct LowThreshold {
    name: &'static str,
    threshold: u32,
    index: usize,
    max_in_flight: u32,
}

/// The first threshold that is too low, if any is.
pub(super) fn warnings(limiter: &Limiter<'_>) -> Vec<Warning> {
    low_threshold(&limiter.config.redis, &limiter.bootstrap.clusters).map(Warning::Breaker).into_iter().collect()
}

/// Only callouts reach thresholds: over the stream, a worker has one connection.
fn low_threshold(redis: &RedisConfig, clusters: &[Cluster]) -> Option<LowThreshold> {
    if redis.transport != Transport::Callout {
        return None;
    }
    let (index, cluster) = clusters.iter().enumerate().find(|(_, cluster)| cluster.name == redis.cluster)?;
    let breaker = cluster.circuit_breaker;
    let thresholds = [
        ("max_connections", breaker.max_connections),
        ("max_pending_requests", breaker.max_pending_requests),
        ("max_requests", breaker.max_requests),
    ];
    let max_in_flight = redis.max_in_flight.get();
    let (name, threshold) = thresholds.into_iter().find(|(_, threshold)| *threshold < max_in_flight)?;
    Some(LowThreshold { name, threshold, index, max_in_flight })
}

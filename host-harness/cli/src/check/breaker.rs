//! Circuit breaker of the Redis cluster, for limiters with `transport: callout`.

use weir_filter::config::RedisConfig;
use weir_filter::redis::TransportKind;
use weir_host::bootstrap::Cluster;

use super::Limiter;
use super::warning::Warning;

/// A circuit breaker threshold below the limiter's `redis.max_in_flight`. Its text begins with the path in the plugin.
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

/// A warning about the first threshold that is too low, if there is one.
pub(super) fn warnings(limiter: &Limiter<'_>) -> Vec<Warning> {
    low_threshold(&limiter.config.redis, &limiter.bootstrap.clusters).map(Warning::Breaker).into_iter().collect()
}

/// The first threshold below `max_in_flight`. Only callouts reach thresholds: a stream is one connection per worker.
fn low_threshold(redis: &RedisConfig, clusters: &[Cluster]) -> Option<LowThreshold> {
    if redis.transport != TransportKind::Callout {
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

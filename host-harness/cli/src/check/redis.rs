//! The Redis cluster of a limiter: its name, its protocol, and its bridge.

use weir_filter::redis::TransportKind;
use weir_host::bootstrap::Protocol;

use super::Limiter;
use super::problem::Problem;

/// Root id of the upstream filter that removes gRPC framing between a limiter's stream and Redis.
const BRIDGE: &str = "bridge";

/// Errors in the configured cluster. The bootstrap's static clusters are complete: loading refuses dynamic clusters.
pub(super) fn way_to_redis(limiter: &Limiter<'_>) -> Vec<Problem> {
    let (redis, clusters) = (&limiter.config.redis, &limiter.bootstrap.clusters);
    let Some((index, cluster)) = clusters.iter().enumerate().find(|(_, cluster)| cluster.name == redis.cluster) else {
        let known = clusters.iter().map(|cluster| cluster.name.clone()).collect();
        return vec![Problem::NoSuchCluster { found: redis.cluster.len(), known }];
    };
    let protocol = match cluster.protocol {
        Protocol::Tcp => None,
        found => Some(Problem::NotRawTcp { index, found }),
    };
    let has_bridge = cluster.filters.iter().any(|filter| filter.root_id == BRIDGE);
    let bridge = match (redis.transport, has_bridge) {
        (TransportKind::Stream, false) => Some(Problem::NoBridge { index }),
        (TransportKind::Callout, true) => Some(Problem::Bridge { index }),
        (TransportKind::Stream, true) | (TransportKind::Callout, false) => None,
    };
    protocol.into_iter().chain(bridge).collect()
}

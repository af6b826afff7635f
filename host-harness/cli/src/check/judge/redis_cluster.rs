//! The way to a Redis Cluster: `redis_proxy`, its settings, and the limiter's topology.

use weir_filter::redis::Topology;
use weir_filter::units::{Micros, Seconds};

use super::configuration::Findings as _;
use super::limiter::Limiter;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::files::{Cluster, RedisProxy};

pub(super) fn findings(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Vec<Finding> {
    match (limiter.config.redis.topology, limiter.inventory.redis_proxy(cluster)) {
        (Topology::Single, Some(proxy)) => single(limiter, proxy).into_iter().collect(),
        (Topology::Cluster, Some(proxy)) => {
            [op_timeout(limiter, proxy), redirection(proxy), start(limiter, proxy)].into_iter().flatten().collect()
        }
        (Topology::Cluster, None) => no_proxy(limiter, cluster).into_iter().collect(),
        (Topology::Single, None) => Vec::new(),
    }
}

/// Keys without hash tags are spread over the masters, whatever limits a request has.
fn single(limiter: &Limiter<'_, '_>, proxy: &RedisProxy<'_>) -> Option<Finding> {
    let (_, nodes) = limiter.inventory.cluster(proxy.cluster())?;
    nodes.is_redis_cluster().then(|| {
        let help = "add `topology: cluster`: without it, a request with several limits has keys of several masters in one call, which they refuse";
        limiter.written.at_path("redis.topology", |at| {
            Finding::at(rules::REDIS_CLUSTER, at, "\"cluster\", since redis_proxy leads to a Redis Cluster", "\"single\"", help)
        })
    })
}

/// Replies are in the order of the calls: all checks wait for a node that does not answer.
fn op_timeout(limiter: &Limiter<'_, '_>, proxy: &RedisProxy<'_>) -> Option<Finding> {
    let timeout = limiter.config.redis.timeout;
    let at = proxy.at.fields(["settings", "op_timeout"])?;
    let found = Micros::parse(at.text()?).ok().filter(|found| *found >= timeout)?;
    let [timeout, found] = [timeout, found].map(|duration| Seconds(duration).to_string());
    let expected = format!("an op_timeout below {timeout}, the limiter's redis.timeout");
    let help = "lower op_timeout to half of redis.timeout: replies are in the order of the calls, so that checks of all \
                nodes fail while one node does not answer";
    Some(Finding::at(rules::REDIS_CLUSTER, &at, expected, found, help))
}

fn redirection(proxy: &RedisProxy<'_>) -> Option<Finding> {
    let settings = proxy.at.field("settings")?;
    (!settings.is_set("enable_redirection")).then(|| {
        let help = "add `enable_redirection: true`: without it, the failure mode decides requests of hash slots that have \
                    moved, until Envoy reads the slots again";
        Finding::at_field(rules::REDIS_CLUSTER, &settings, "enable_redirection", "true", "none", help)
    })
}

/// Envoy waits for the slots when it starts, unless the cluster of the nodes says otherwise.
fn start(limiter: &Limiter<'_, '_>, proxy: &RedisProxy<'_>) -> Option<Finding> {
    let (_, nodes) = limiter.inventory.cluster(proxy.cluster())?;
    let field = "wait_for_warm_on_init";
    let waits = nodes.at.field(field).is_none() || nodes.at.is_set(field);
    (nodes.is_redis_cluster() && waits).then(|| {
        let help = "add `wait_for_warm_on_init: false`: without it, Envoy does not start while no node answers, so that no \
                    failure mode decides";
        Finding::at_field(rules::REDIS_CLUSTER, &nodes.at, field, "false", "true, which is the default", help)
    })
}

/// Nodes of a cluster answer each other's keys with redirections, which only the proxy follows.
fn no_proxy(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Option<Finding> {
    // A proxy behind a socket may be anywhere.
    let is_here = cluster.internal_listener().is_some() && limiter.inventory.is_whole();
    is_here.then(|| {
        let help = "name the internal listener with redis_proxy, as envoy/redis-cluster.yaml has it";
        let expected = "the internal listener of a redis_proxy";
        Finding::at_field(rules::REDIS_CLUSTER, &cluster.at, "load_assignment", expected, "another one", help)
    })
}

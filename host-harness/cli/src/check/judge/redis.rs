//! Inventory about the cluster of Redis: its name, its protocol, its bridge, its thresholds, its endpoints and its TLS.

use weir_filter::redis::{Topology, TransportKind};

use super::configuration::Findings as _;
use super::limiter::Limiter;
use super::{kubernetes, redis_cluster};
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::quoted;
use crate::files::{Cluster, Tls};

/// Most names of clusters in a finding.
const MAX_NAMES: usize = 16;

/// Checks of the cluster.
const CHECKS: [fn(&Limiter<'_, '_>, &Cluster<'_>) -> Option<Finding>; 4] = [protocol, breaker, endpoints, tls];

pub(super) fn findings(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let Some((index, cluster)) = kubernetes::cluster_of(limiter) else {
        return match &limiter.inventory.mesh {
            Some(mesh) if !limiter.inventory.is_bootstrap => {
                kubernetes::no_cluster(limiter, mesh).into_iter().collect()
            }
            _ => vec![no_cluster(limiter)],
        };
    };
    let mut found: Vec<Finding> = CHECKS.iter().filter_map(|check| check(limiter, cluster)).collect();
    found.extend(bridge(limiter, cluster, index));
    found.extend(redis_cluster::findings(limiter, cluster));
    found.extend(kubernetes::scope(limiter, cluster));
    found
}

/// No cluster has the name. The name is not shown, because it may be a misplaced password.
fn no_cluster(limiter: &Limiter<'_, '_>) -> Finding {
    let known = known(limiter);
    let length = limiter.config.redis.cluster.len();
    let (rule, help) = if limiter.inventory.is_whole() {
        let help = "add the cluster, or correct the name: without it, the failure mode decides all requests";
        (rules::MISSING_CLUSTER, help)
    } else {
        let help = "give the file with the cluster as well; without it, the way to Redis is not checked";
        (rules::UNKNOWN_CLUSTER, help)
    };
    limiter.written.at_path("redis.cluster", |at| {
        let expected = format!("a cluster of the files given ({known})");
        Finding::at(rule, at, expected, format!("another name of {length} bytes"), help)
    })
}

/// Names of the clusters that are there.
pub(super) fn known(limiter: &Limiter<'_, '_>) -> String {
    let clusters = &limiter.inventory.clusters;
    let mut known: Vec<String> = clusters.iter().take(MAX_NAMES).map(|cluster| quoted(cluster.name)).collect();
    if let Some(more) = clusters.len().checked_sub(MAX_NAMES).filter(|more| *more > 0) {
        known.push(format!("and {more} more"));
    }
    if known.is_empty() { "there is none".to_owned() } else { known.join(", ") }
}

/// Redis needs a cluster of raw TCP, an HTTP front end one of HTTP.
fn protocol(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Option<Finding> {
    let transport = limiter.config.redis.transport;
    if transport.front_end().is_some() {
        return cluster.is_raw_tcp().then(|| {
            let expected = format!("a cluster of HTTP, since the transport {} is an HTTP front end", shown(transport));
            let help = "remove `upstream_config`: the front end speaks HTTP, and Redis is behind it";
            let found = "a cluster of raw TCP";
            Finding::at_field(rules::RAW_TCP, &cluster.at, "upstream_config", expected, found, help)
        });
    }
    (!cluster.is_raw_tcp()).then(|| {
        let found = format!("a cluster that is sent {}", cluster.http_protocol());
        let help = "add `upstream_config` with TcpConnectionPoolProto, as envoy/quickstart.yaml has it: Redis does not \
                    speak HTTP";
        let expected = "a cluster of raw TCP (upstream_config: envoy.upstreams.http.tcp), since it leads to Redis";
        Finding::at_field(rules::RAW_TCP, &cluster.at, "upstream_config", expected, found, help)
    })
}

/// Name of a transport, in quotes.
fn shown(transport: TransportKind) -> &'static str {
    match transport {
        TransportKind::Stream => "\"stream\"",
        TransportKind::Callout => "\"callout\"",
        TransportKind::Webdis => "\"webdis\"",
        TransportKind::Upstash => "\"upstash\"",
    }
}

/// The stream needs a bridge; callouts must not have one.
fn bridge(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>, index: usize) -> Option<Finding> {
    let bridges = limiter.inventory.bridges(index);
    let (disabled, enabled): (Vec<_>, Vec<_>) = bridges.into_iter().partition(|filter| filter.is_disabled);
    if let (TransportKind::Stream, [filter, ..], []) = (limiter.config.redis.transport, &*disabled, &*enabled) {
        let help = "remove `disabled: true`: no route leads to Redis, so that none can enable the bridge, and without \
                    it, the failure mode decides all requests";
        return Some(Finding::at_field(
            rules::BRIDGE,
            &filter.at,
            "disabled",
            "an enabled bridge",
            "a disabled one",
            help,
        ));
    }
    let name = quoted(cluster.name);
    let transport = limiter.config.redis.transport;
    let (expected, found, help) = match (transport, enabled.len()) {
        (TransportKind::Stream, 0) => (
            format!("\"callout\", or an upstream filter with the root_id \"bridge\" in the cluster {name}"),
            "\"stream\" without one".to_owned(),
            "add the bridge to http_filters of the cluster's HttpProtocolOptions, as envoy/quickstart.yaml has it",
        ),
        (TransportKind::Stream, 2..) => (
            format!("one upstream filter with the root_id \"bridge\" in the cluster {name}"),
            "several".to_owned(),
            "remove all but one: each takes the framing off that the other one needs",
        ),
        (TransportKind::Callout, 1..) => (
            format!("\"stream\", or no upstream filter with the root_id \"bridge\" in the cluster {name}"),
            "\"callout\" with one".to_owned(),
            "remove `transport: callout`, or the bridge",
        ),
        (TransportKind::Webdis | TransportKind::Upstash, 1..) => (
            format!("no upstream filter with the root_id \"bridge\" in the cluster {name}"),
            format!("{} with one", shown(transport)),
            "remove the bridge: it speaks to Redis itself, and not to an HTTP front end",
        ),
        (TransportKind::Stream, 1) | (_, 0) => return None,
    };
    Some(limiter.written.at_path("redis.transport", |at| Finding::at(rules::BRIDGE, at, expected, found, help)))
}

/// The first threshold below `max_in_flight`. Only callouts reach thresholds: a stream is one connection per worker.
fn breaker(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Option<Finding> {
    if limiter.config.redis.transport == TransportKind::Stream {
        return None;
    }
    let max_in_flight = limiter.config.redis.max_in_flight.get();
    let thresholds = cluster.thresholds();
    let (name, threshold, at) = thresholds.iter().find(|(_, threshold, _)| *threshold < max_in_flight.into())?;
    let expected = format!("{name} of at least {max_in_flight}, the limiter's redis.max_in_flight");
    let help = format!(
        "raise {name} in circuit_breakers.thresholds, or lower redis.max_in_flight to {threshold}: the proxy refuses \
         callouts beyond it"
    );
    Some(Finding::at(rules::BREAKER, at, expected, threshold.to_string(), help))
}

/// Several endpoints are several Redis, each with its own buckets. Several front ends may have one Redis.
fn endpoints(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Option<Finding> {
    let endpoints = cluster.endpoints();
    let redis = &limiter.config.redis;
    // Several proxies may lead to one Redis Cluster, as several front ends to one Redis.
    if endpoints.len() < 2 || redis.transport.front_end().is_some() || redis.topology == Topology::Cluster {
        return None;
    }
    let (expected, missing) = match (cluster.has_selecting_health_check(), cluster.panics()) {
        (true, false) => return None,
        (false, _) => ("one endpoint, or a tcp_health_check that sends ROLE and receives `master`", "such a check"),
        (true, true) => ("one endpoint, or common_lb_config.healthy_panic_threshold: {value: 0}", "this threshold"),
    };
    let help = format!(
        "list one endpoint, or add the health check and the panic threshold of docs/src/configuration.md: a replica \
         answers PING as the master does, and above the threshold of 0, Envoy also uses endpoints that fail: each Redis has buckets of its own, so that {} endpoints admit up to {} times as much",
        endpoints.len(),
        endpoints.len()
    );
    let found = format!("{} endpoints without {missing}", endpoints.len());
    Some(Finding::at_field(rules::ENDPOINTS, &cluster.at, "load_assignment", expected, found, help))
}

fn tls(limiter: &Limiter<'_, '_>, cluster: &Cluster<'_>) -> Option<Finding> {
    let all = cluster.tls();
    if all.is_empty() && limiter.config.redis.http.token.is_some() {
        let help = "add an UpstreamTlsContext, as envoy/upstash.yaml has it: each callout carries the token";
        return Some(Finding::at_field(rules::TLS, &cluster.at, "transport_socket", "TLS", "none", help));
    }
    all.iter().find_map(unchecked)
}

/// TLS that does not check what it should.
fn unchecked(tls: &Tls<'_>) -> Option<Finding> {
    let (mut expected, mut found, mut help) = (Vec::new(), Vec::new(), Vec::new());
    if !tls.has_server_name {
        expected.push("sni");
        found.push("no sni");
        help.push("write `sni` with the name of Redis: servers with several certificates choose by it");
    }
    if !tls.checks_certificate {
        expected.push("a validation_context with trusted_ca");
        found.push("no check of the certificate");
        help.push(
            "add common_tls_context.validation_context with trusted_ca, and no ACCEPT_UNTRUSTED: anyone on the way could \
             be Redis",
        );
    } else if !tls.checks_name {
        expected.push("match_typed_subject_alt_names");
        found.push("no check of the certificate's name");
        help.push("add match_typed_subject_alt_names: any certificate of the authority is accepted as that of Redis");
    }
    let (expected, found, help) = (expected.join(" and "), found.join(" and "), help.join("; "));
    (!found.is_empty()).then(|| Finding::at(rules::TLS, &tls.context, expected, found, help))
}

//! `weir check FILE`: every problem of a bootstrap, and of the limiter configurations in it, with their paths.
//!
//! Of a limiter not only what the filter refuses: what it cannot see for itself as well, the plugin around its
//! configuration and the cluster that this names. Hosts start with such a file, and then requests are held, or Redis
//! never answers.

mod problem;

use std::path::PathBuf;
use std::process::ExitCode;

use weir_filter::config::{self, Config, RedisConfig, Transport};

use self::problem::Problem;
use crate::Bootstrap;
use crate::bootstrap::{Cluster, Plugin, Protocol};

/// The root id of Weir's limiter: the harness knows what its configuration may say.
const LIMITER: &str = "limiter";
/// The root id of what goes between the stream of a limiter and Redis.
const BRIDGE: &str = "bridge";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy bootstrap file, such as envoy/quickstart.yaml.
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let bootstrap = Bootstrap::load(&arguments.file)?;
    let limiters: Vec<&Plugin> = bootstrap.plugins().filter(|plugin| plugin.root_id == LIMITER).collect();
    let mut sound = true;
    for plugin in &limiters {
        for problem in problems(plugin, &bootstrap.clusters) {
            sound = false;
            eprintln!("{}: {}.{problem}", bootstrap.origin, plugin.path);
        }
    }
    if !sound {
        return Ok(ExitCode::FAILURE);
    }
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    println!(
        "{}: {}, {}, {}: all is well",
        bootstrap.origin,
        count(bootstrap.listeners.len(), "listener"),
        count(bootstrap.clusters.len(), "cluster"),
        count(limiters.len(), "limiter configuration"),
    );
    Ok(ExitCode::SUCCESS)
}

/// Everything wrong with a limiter among these clusters; empty: nothing. What its configuration says is held against
/// what is around it once the filter takes it.
fn problems(plugin: &Plugin, clusters: &[Cluster]) -> Vec<Problem> {
    let environment = plugin.vm.resolved_environment();
    let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match config::parse(&plugin.configuration, &variable) {
        Ok(config) => unseen_body(plugin, &config).into_iter().chain(way_to_redis(&config.redis, clusters)).collect(),
        Err(errors) => errors.iter().cloned().map(Problem::Configuration).collect(),
    }
}

fn unseen_body(plugin: &Plugin, config: &Config) -> Option<Problem> {
    let reading = config.limits.iter().enumerate().filter(|(_, limit)| limit.reads_body());
    let indexes: Vec<usize> = reading.map(|(index, _)| index).collect();
    (!plugin.sees_body_past_headers && !indexes.is_empty()).then_some(Problem::UnseenBody { indexes })
}

/// A bootstrap's clusters are all there are: dynamic ones are refused where it is read.
fn way_to_redis(redis: &RedisConfig, clusters: &[Cluster]) -> Vec<Problem> {
    let Some((index, cluster)) = clusters.iter().enumerate().find(|(_, cluster)| cluster.name == redis.cluster) else {
        let known = clusters.iter().map(|cluster| cluster.name.clone()).collect();
        return vec![Problem::NoSuchCluster { found: redis.cluster.clone(), known }];
    };
    let protocol = match cluster.protocol {
        Protocol::Tcp => None,
        found => Some(Problem::NotRawTcp { index, found }),
    };
    let has_bridge = cluster.filters.iter().any(|filter| filter.root_id == BRIDGE);
    let bridge = match (redis.transport, has_bridge) {
        (Transport::Stream, false) => Some(Problem::NoBridge { index }),
        (Transport::Callout, true) => Some(Problem::Bridge { index }),
        (Transport::Stream, true) | (Transport::Callout, false) => None,
    };
    protocol.into_iter().chain(bridge).collect()
}

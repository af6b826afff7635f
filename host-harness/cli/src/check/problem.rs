//! Errors that `weir check` finds in a limiter's configuration and in the bootstrap around it.

use weir_filter::config::ConfigError;
use weir_host::bootstrap::Protocol;

/// An error in a limiter's plugin. Its text begins with the path in the plugin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// The filter refuses the configuration.
    #[error("configuration.value: {0}")]
    Configuration(ConfigError),
    /// Limits read the body, which the proxy never shows to the filter.
    #[error(
        "allow_on_headers_stop_iteration: expected true, found it unset or false (the body is read by {}, and a proxy \
         shows no body to a filter that holds the headers: requests under these limits would be held until \
         request_body.timeout)",
        limits(indexes)
    )]
    UnseenBody {
        /// The indexes of these limits in the configuration; never empty.
        indexes: Vec<usize>,
    },
    /// No cluster has the name in `redis.cluster`.
    #[error(
        "configuration.value: redis.cluster: expected a cluster of this file ({}), found another name of {found} bytes",
        names(known)
    )]
    NoSuchCluster {
        /// The length of the name in bytes. The name is not shown, because it may be a misplaced password.
        found: usize,
        /// The names of the bootstrap's clusters.
        known: Vec<String>,
    },
    /// The cluster would speak HTTP to Redis.
    #[error(
        "configuration.value: redis.cluster: expected a cluster of raw TCP (upstream_config: \
         envoy.upstreams.http.tcp), found {}, which is sent {}",
        cluster(*index),
        sent(*found)
    )]
    NotRawTcp {
        /// The cluster's index in the file.
        index: usize,
        /// The protocol of the cluster.
        found: Protocol,
    },
    /// A plugin with the same VM does not list a variable that the limiter reads.
    #[error(
        "vm_config.environment_variables: expected {name} in the lists of both this plugin and {plugin}, which has the \
         same vm_id and code, found it in this one alone (Envoy up to 1.38 takes the other's list for both and does \
         not start; from 1.39 on, they have two VMs)"
    )]
    UnlistedVariable {
        /// The variable's name.
        name: String,
        /// The other plugin's path in the bootstrap.
        plugin: String,
    },
    /// Without a bridge, Redis would receive the stream's gRPC framing.
    #[error(
        "configuration.value: redis.transport: expected \"callout\", or an upstream filter with the root_id \
         \"bridge\" in {}, found \"stream\" without one",
        cluster(*index)
    )]
    NoBridge {
        /// The cluster's index in the file.
        index: usize,
    },
    /// The bridge would parse a callout's body as gRPC frames.
    #[error(
        "configuration.value: redis.transport: expected \"stream\", or no upstream filter with the root_id \"bridge\" \
         in {}, found \"callout\" with one",
        cluster(*index)
    )]
    Bridge {
        /// The cluster's index in the file.
        index: usize,
    },
}

fn limits(indexes: &[usize]) -> String {
    indexes.iter().map(|index| format!("limits[{index}]")).collect::<Vec<_>>().join(", ")
}

fn cluster(index: usize) -> String {
    format!("static_resources.clusters[{index}]")
}

fn names(known: &[String]) -> String {
    if known.is_empty() { "there is none".to_owned() } else { known.join(", ") }
}

fn sent(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2",
        Protocol::Tcp => "raw TCP",
    }
}

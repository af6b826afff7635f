//! What can be wrong with a limiter, in itself and where it stands.

use weir_filter::config::ConfigError;

use crate::bootstrap::Protocol;

/// One thing wrong with a limiter's plugin; displayed with its place in the plugin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// What the filter itself refuses.
    #[error("configuration.value: {0}")]
    Configuration(ConfigError),
    /// Limits read what the filter is never shown.
    #[error(
        "allow_on_headers_stop_iteration: expected true, found it unset or false (the body is read by {}, and a proxy \
         shows no body to a filter that holds the headers: such requests would be held for ever)",
        limits(indexes)
    )]
    UnseenBody {
        /// The places of these limits in the configuration; never empty.
        indexes: Vec<usize>,
    },
    /// `redis.cluster` leads nowhere.
    #[error(
        "configuration.value: redis.cluster: expected a cluster of this file ({}), found another name of {found} bytes",
        names(known)
    )]
    NoSuchCluster {
        /// The length of the name: a password in its place must not be shown.
        found: usize,
        /// The clusters there are.
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
        /// The cluster's place in the file.
        index: usize,
        /// What its hosts are sent.
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
        /// The path of the other plugin.
        plugin: String,
    },
    /// Redis would be sent the stream's gRPC framing.
    #[error(
        "configuration.value: redis.transport: expected \"callout\", or an upstream filter with the root_id \
         \"bridge\" in {}, found \"stream\" without one",
        cluster(*index)
    )]
    NoBridge {
        /// The cluster's place in the file.
        index: usize,
    },
    /// The bridge would take a callout's body for gRPC framing.
    #[error(
        "configuration.value: redis.transport: expected \"stream\", or no upstream filter with the root_id \"bridge\" \
         in {}, found \"callout\" with one",
        cluster(*index)
    )]
    Bridge {
        /// The cluster's place in the file.
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

//! Warnings about a limiter that works.

use weir_filter::config::ConfigNotice;

use super::breaker::LowThreshold;

/// A warning about a limiter's plugin. Its text begins with the path in the plugin, and contains no secrets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Warning {
    /// The configuration reads a variable that this process does not have.
    #[error(
        "vm_config.environment_variables: expected the environment variable {name} to have a value, found none here \
         (the proxy needs it to start)"
    )]
    UnsetVariable {
        /// The variable's name.
        name: String,
    },
    /// Limits match paths that the listener does not normalize.
    #[error(
        "configuration.value: expected the listener {listener:?} to have {}, found it without (the path is read by \
         {}, and a client may write one path in several ways, such as //login, /./login and /login%2F)",
        missing.join(", "),
        places.join(", ")
    )]
    Paths {
        /// The parts of the configuration that read paths; never empty.
        places: Vec<String>,
        /// The listener's name.
        listener: String,
        /// The missing settings of its connection manager; never empty.
        missing: Vec<&'static str>,
    },
    /// A circuit breaker threshold of the Redis cluster is below the limiter's `max_in_flight`.
    #[error(transparent)]
    Breaker(LowThreshold),
    /// The filter corrects a value.
    #[error("configuration.value: {0}")]
    Corrected(ConfigNotice),
    /// A plugin has the same `vm_id` and code, but another environment.
    #[error(
        "vm_config.environment_variables: expected the same list as {plugin}, which has the same vm_id and code (up to \
         Envoy 1.38, one of both lists holds for both plugins; from 1.39 on, they have two VMs, which is slower)"
    )]
    Environments {
        /// The other plugin's path in the bootstrap.
        plugin: String,
    },
}

//! Warnings about a limiter that works, with their places in its plugin.

use weir_filter::config::ConfigNotice;

use super::breaker::LowThreshold;

/// One warning; displayed with its place in the plugin. Holds nothing that may be secret.
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
    /// Limits match paths of which the listener leaves several forms.
    #[error(
        "configuration.value: expected the listener {listener:?} to have {}, found it without (the path is read by \
         {}, and a client may write one path in several ways, such as //login, /./login and /login%2F)",
        missing.join(", "),
        places.join(", ")
    )]
    Paths {
        /// The places of the configuration that read paths; never empty.
        places: Vec<String>,
        /// The listener's name.
        listener: String,
        /// The settings of its connection manager that it lacks; never empty.
        missing: Vec<&'static str>,
    },
    /// A circuit breaker of the cluster of Redis opens before the limiter's own bound.
    #[error(transparent)]
    Breaker(LowThreshold),
    /// The filter corrects a value.
    #[error("configuration.value: {0}")]
    Corrected(ConfigNotice),
    /// A plugin has the same VM, but for its environment.
    #[error(
        "vm_config.environment_variables: expected the same list as {plugin}, which has the same vm_id and code (up to \
         Envoy 1.38, one of both lists holds for both plugins; from 1.39 on, they have two VMs, which is slower)"
    )]
    Environments {
        /// The path of the other plugin.
        plugin: String,
    },
}

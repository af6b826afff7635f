//! A running host, whichever it is: ours, or Envoy. What the demo and the tests serve a scenario on.

use std::net::SocketAddr;

use clap::ValueEnum;
use thiserror::Error;

use crate::{
    Bootstrap, BootstrapError, Host, HostError, HostOptions, Running,
    provision::{
        ProvisionError,
        envoy::{EnvoyOptions, EnvoyServer},
    },
    scenario::Scenario,
};

/// What runs the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostKind {
    /// wasmtime and hyper, in this process
    Embedded,
    /// A real Envoy
    Envoy,
}

/// Why a scenario is not served.
#[derive(Debug, Error)]
pub enum ServingError {
    /// Envoy cannot be had or does not start.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The embedded host does not honour something in the scenario.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The embedded host does not start.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The scenario is served, but not where it was expected.
    #[error("no listener {name:?} on the {host:?} host{log}")]
    NoListener {
        /// The listener.
        name: String,
        /// The host.
        host: HostKind,
        /// The host's log, if it has one, on lines of its own.
        log: String,
    },
}

/// A host that serves a scenario. Dropped: stopped.
#[derive(Debug)]
pub enum Serving {
    /// Ours, in this process.
    Embedded(Running),
    /// An Envoy process.
    Envoy(EnvoyServer),
}

impl Serving {
    /// Serves `scenario` with this many worker threads, and returns when it is ready to.
    ///
    /// # Errors
    /// Where the host cannot be had or refuses the scenario.
    pub async fn start(host: HostKind, scenario: &Scenario, workers: u32) -> Result<Self, ServingError> {
        match host {
            HostKind::Embedded => {
                let bootstrap = Bootstrap::parse(&scenario.to_yaml(), scenario.origin())?;
                let workers = usize::try_from(workers).unwrap_or(usize::MAX);
                let options = HostOptions { workers, ..HostOptions::default() };
                Ok(Self::Embedded(blocking(|| Host::start(bootstrap, options)).await?))
            }
            HostKind::Envoy => {
                let options = EnvoyOptions { concurrency: workers, ..EnvoyOptions::new(scenario.to_yaml()) };
                Ok(Self::Envoy(blocking(|| EnvoyServer::start(options)).await?))
            }
        }
    }

    /// Where the listener `name` listens.
    ///
    /// # Errors
    /// [`ServingError::NoListener`] where there is none.
    pub fn listener(&self, name: &str) -> Result<SocketAddr, ServingError> {
        let absent = |log: String| ServingError::NoListener { name: name.into(), host: self.kind(), log };
        match self {
            Self::Embedded(running) => running.listener(name).ok_or_else(|| absent(String::new())),
            Self::Envoy(envoy) => envoy.listener(name).ok_or_else(|| absent(format!(":\n{}", envoy.log()))),
        }
    }

    /// Where its admin interface listens.
    pub fn admin(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded(running) => running.admin(),
            Self::Envoy(envoy) => Some(envoy.admin()),
        }
    }

    /// What it is.
    pub fn kind(&self) -> HostKind {
        match self {
            Self::Embedded(_) => HostKind::Embedded,
            Self::Envoy(_) => HostKind::Envoy,
        }
    }

    /// The Envoy, if it is one.
    pub fn envoy(&self) -> Option<&EnvoyServer> {
        match self {
            Self::Embedded(_) => None,
            Self::Envoy(envoy) => Some(envoy),
        }
    }

    /// Stops serving.
    pub async fn stop(self) {
        blocking(move || drop(self)).await;
    }
}

/// Does what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

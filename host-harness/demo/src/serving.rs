//! Running host of a scenario: the embedded host or Envoy. Used by the demo and the tests.

use std::{net::SocketAddr, path::PathBuf};

use clap::ValueEnum;
use thiserror::Error;
use weir_host::{Bootstrap, BootstrapError, Host, HostError, HostOptions, Running, scenario::Scenario};
use weir_provision::{
    ProvisionError, checkout,
    envoy::{EnvoyOptions, EnvoyServer},
};

/// Kind of host that runs the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostKind {
    /// The host in this process, with wasmtime and hyper
    Embedded,
    /// An Envoy process
    Envoy,
}

/// Error of a scenario that cannot be served.
#[derive(Debug, Error)]
pub enum ServingError {
    /// Envoy cannot be installed or started.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The embedded host does not support a part of the scenario.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The embedded host does not start.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The host runs, but does not have the listener.
    #[error("no listener {name:?} on the {host:?} host{log}")]
    NoListener {
        /// The listener.
        name: String,
        /// The host.
        host: HostKind,
        /// The host's log on separate lines; empty if the host has no log.
        log: String,
    },
}

/// Host that serves a scenario; dropping it stops the host.
#[derive(Debug)]
pub enum Serving {
    /// The embedded host, in this process.
    Embedded(Running),
    /// An Envoy process.
    Envoy(EnvoyServer),
}

impl Serving {
    /// Serves `scenario` with a number of worker threads; returns when the host is ready.
    ///
    /// # Errors
    /// If the host cannot be started or refuses the scenario.
    pub async fn start(host: HostKind, scenario: &Scenario, workers: u32) -> Result<Self, ServingError> {
        match host {
            HostKind::Embedded => {
                let bootstrap = Bootstrap::parse(&scenario.to_yaml(), scenario.origin())?;
                let workers = usize::try_from(workers).unwrap_or(usize::MAX);
                Ok(Self::Embedded(blocking(move || embedded(bootstrap, workers)).await?))
            }
            HostKind::Envoy => {
                let options = EnvoyOptions { concurrency: workers, ..EnvoyOptions::new(scenario.to_yaml()) };
                Ok(Self::Envoy(blocking(|| EnvoyServer::start(options)).await?))
            }
        }
    }

    /// Returns the address of the listener `name`.
    ///
    /// # Errors
    /// [`ServingError::NoListener`] if there is no listener with this name.
    pub fn listener(&self, name: &str) -> Result<SocketAddr, ServingError> {
        let absent = |log: String| ServingError::NoListener { name: name.into(), host: self.kind(), log };
        match self {
            Self::Embedded(running) => running.listener(name).ok_or_else(|| absent(String::new())),
            Self::Envoy(envoy) => envoy.listener(name).ok_or_else(|| absent(format!(":\n{}", envoy.log()))),
        }
    }

    /// Returns the address of the admin listener.
    pub fn admin(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded(running) => running.admin(),
            Self::Envoy(envoy) => Some(envoy.admin()),
        }
    }

    /// Returns the kind of the host.
    pub fn kind(&self) -> HostKind {
        match self {
            Self::Embedded(_) => HostKind::Embedded,
            Self::Envoy(_) => HostKind::Envoy,
        }
    }

    /// Returns the Envoy process, if the host is Envoy.
    pub fn envoy(&self) -> Option<&EnvoyServer> {
        match self {
            Self::Embedded(_) => None,
            Self::Envoy(envoy) => Some(envoy),
        }
    }

    /// Stops the host.
    pub async fn stop(self) {
        blocking(move || drop(self)).await;
    }
}

/// Starts the embedded host with the folder of compiled modules.
fn embedded(bootstrap: Bootstrap, workers: usize) -> Result<Running, HostError> {
    let options = HostOptions { workers, compiled_modules: compiled_modules(), ..HostOptions::default() };
    Host::start(bootstrap, options)
}

/// Folder for [`HostOptions::compiled_modules`], under cargo's target folder; `None` without a checkout. Compiling the
/// filter takes a second or more.
pub fn compiled_modules() -> Option<PathBuf> {
    checkout::target_dir().ok().map(|target| target.join("compiled-modules"))
}

/// Runs blocking work on tokio's pool of blocking threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

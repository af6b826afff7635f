//! The host under the demo: ours, or Envoy.

use std::net::SocketAddr;

use weir_harness::{
    provision::envoy::{EnvoyOptions, EnvoyServer},
    scenario::Scenario,
};

use super::{DemoError, HostKind, HostName, LISTENER};

/// A host that serves the scenario. Dropped: stopped.
pub(super) enum Serving {
    // The single place to complete when the embedded host is there.
    #[expect(dead_code, reason = "the embedded host is being written")]
    Embedded(std::convert::Infallible),
    Envoy(EnvoyServer),
}

impl Serving {
    pub(super) async fn start(host: HostKind, scenario: &Scenario, workers: u32) -> Result<Self, DemoError> {
        match host {
            HostKind::Embedded => Err(DemoError::Host(HostName::Embedded, "not built yet".into())),
            HostKind::Envoy => {
                let options = EnvoyOptions { concurrency: workers, ..EnvoyOptions::new(scenario.to_yaml()) };
                super::blocking(|| Ok(EnvoyServer::start(options)?)).await.map(Self::Envoy)
            }
        }
    }

    /// Where requests go.
    pub(super) fn ingress(&self) -> Result<SocketAddr, DemoError> {
        match self {
            Self::Embedded(never) => match *never {},
            Self::Envoy(envoy) => {
                let absent = || DemoError::Host(HostName::Envoy, format!("no listener {LISTENER:?}:\n{}", envoy.log()));
                envoy.listener(LISTENER).ok_or_else(absent)
            }
        }
    }

    pub(super) async fn stop(self) {
        match self {
            Self::Embedded(never) => match never {},
            Self::Envoy(envoy) => {
                let stop = move || {
                    envoy.stop();
                    Ok(())
                };
                let _ = super::blocking(stop).await;
            }
        }
    }
}

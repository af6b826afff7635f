//! Proxies in front of the endpoints of a bootstrap's cluster.

use std::io;
use std::net::SocketAddr;

use super::{FaultProxy, Faults};
use crate::bootstrap::{Bootstrap, Endpoint};
use crate::scenario::Scenario;

/// Error of faults that cannot be injected.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The bootstrap has no such cluster.
    #[error("no cluster `{name}` in {origin}; found {}", found(present))]
    NoCluster {
        /// Name of the cluster.
        name: String,
        /// Origin of the bootstrap.
        origin: String,
        /// Names of the bootstrap's clusters.
        present: Vec<String>,
    },
    /// A proxy cannot listen.
    #[error("the proxy for faults of cluster `{name}` cannot listen on 127.0.0.1: {source}")]
    Listen {
        /// Name of the cluster.
        name: String,
        /// The cause.
        source: io::Error,
    },
}

/// Document whose clusters can get proxies.
pub enum Target<'a> {
    /// File of the embedded host.
    Bootstrap(&'a mut Bootstrap),
    /// File of a real Envoy.
    Scenario(&'a mut Scenario),
}

fn found(present: &[String]) -> String {
    if present.is_empty() { "no clusters".to_owned() } else { present.join(", ") }
}

/// Puts a proxy with these faults in front of each endpoint of a cluster, and points the cluster to the proxies. Has to
/// be called in a tokio runtime. The same seed repeats the choices, if commands and connections are the same.
///
/// # Errors
/// If there is no such cluster, or a proxy cannot listen.
pub async fn inject(
    target: &mut Target<'_>,
    cluster: &str,
    faults: &Faults,
    seed: u64,
) -> Result<Vec<FaultProxy>, InjectError> {
    let Some(endpoints) = target.endpoints(cluster) else {
        let name = cluster.to_owned();
        return Err(InjectError::NoCluster { name, origin: target.origin(), present: target.clusters() });
    };
    let mut proxies = Vec::new();
    for (index, (host, port)) in endpoints.into_iter().enumerate() {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let proxy = FaultProxy::start(format!("{host}:{port}"), &format!("{cluster}/{index}"), seed)
            .await
            .map_err(|source| InjectError::Listen { name: cluster.to_owned(), source })?;
        proxy.set(faults.clone());
        proxies.push(proxy);
    }
    target.set_endpoints(cluster, &proxies.iter().map(FaultProxy::addr).collect::<Vec<_>>());
    Ok(proxies)
}

impl Target<'_> {
    fn origin(&self) -> String {
        match self {
            Self::Bootstrap(bootstrap) => bootstrap.origin.clone(),
            Self::Scenario(scenario) => scenario.origin().to_owned(),
        }
    }

    fn clusters(&mut self) -> Vec<String> {
        match self {
            Self::Bootstrap(bootstrap) => bootstrap.clusters.iter().map(|cluster| cluster.name.clone()).collect(),
            Self::Scenario(scenario) => scenario.clusters(),
        }
    }

    /// Hosts and ports of a cluster's endpoints; `None` if there is no such cluster.
    fn endpoints(&mut self, cluster: &str) -> Option<Vec<(String, u16)>> {
        match self {
            Self::Bootstrap(bootstrap) => {
                let found = bootstrap.cluster_mut(cluster)?;
                Some(found.endpoints.iter().map(|endpoint| (endpoint.host.clone(), endpoint.port)).collect())
            }
            Self::Scenario(scenario) => scenario.hosts(cluster),
        }
    }

    fn set_endpoints(&mut self, cluster: &str, addresses: &[SocketAddr]) {
        match self {
            Self::Bootstrap(bootstrap) => {
                let endpoints = bootstrap.cluster_mut(cluster).map(|found| found.endpoints.iter_mut());
                for (endpoint, address) in endpoints.into_iter().flatten().zip(addresses) {
                    *endpoint = Endpoint { host: address.ip().to_string(), port: address.port() };
                }
            }
            Self::Scenario(scenario) => {
                // The addresses are as many as the endpoints.
                let _ = scenario.endpoints(cluster, addresses);
            }
        }
    }
}

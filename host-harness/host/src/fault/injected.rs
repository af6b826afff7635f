//! Proxies in front of the endpoints of a bootstrap's cluster.

use std::io;

use super::{FaultProxy, Faults};
use crate::bootstrap::{Bootstrap, Endpoint};

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

fn found(present: &[String]) -> String {
    if present.is_empty() { "no clusters".to_owned() } else { present.join(", ") }
}

/// Puts a proxy with these faults in front of each endpoint of a cluster, and points the cluster to the proxies. Has to
/// be called in a tokio runtime. The same seed repeats the choices, if commands and connections are the same.
///
/// # Errors
/// If there is no such cluster, or a proxy cannot listen.
pub async fn inject(
    bootstrap: &mut Bootstrap,
    cluster: &str,
    faults: &Faults,
    seed: u64,
) -> Result<Vec<FaultProxy>, InjectError> {
    let Some(found) = bootstrap.clusters.iter_mut().find(|known| known.name == cluster) else {
        return Err(InjectError::NoCluster {
            name: cluster.to_owned(),
            origin: bootstrap.origin.clone(),
            present: bootstrap.clusters.iter().map(|cluster| cluster.name.clone()).collect(),
        });
    };
    let mut proxies = Vec::new();
    for (index, endpoint) in found.endpoints.iter_mut().enumerate() {
        let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
        let target = format!("{host}:{}", endpoint.port);
        let proxy = FaultProxy::start(target, &format!("{cluster}/{index}"), seed)
            .await
            .map_err(|source| InjectError::Listen { name: cluster.to_owned(), source })?;
        proxy.set(faults.clone());
        *endpoint = Endpoint { host: proxy.addr().ip().to_string(), port: proxy.addr().port() };
        proxies.push(proxy);
    }
    Ok(proxies)
}

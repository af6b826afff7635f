//! Blocking GET client for Envoy's admin interface.

use std::{io, net::SocketAddr, thread, time::Duration};

use crate::client;

const LIMIT: Duration = Duration::from_secs(5);

/// The body of a `200` response; any other status is an error.
pub(super) fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    // A thread with its own runtime: the caller may run inside a runtime, which must not be blocked.
    let answered = thread::scope(|scope| {
        let exchange = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(client::get(admin, path, LIMIT)).map_err(io::Error::other)
        };
        scope.spawn(exchange).join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })?;
    let body = String::from_utf8_lossy(&answered.body).into_owned();
    let refused = || io::Error::other(format!("GET {path}: {}: {body}", answered.status));
    if answered.status == 200 { Ok(body) } else { Err(refused()) }
}

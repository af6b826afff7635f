//! Redis in a container, through testcontainers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    os::unix::net::UnixStream,
    process::Command,
    thread,
    time::Duration,
};

use testcontainers::{
    ContainerAsync, GenericImage, ImageExt, TestcontainersError,
    core::{IntoContainerPort, WaitFor},
    runners::AsyncRunner,
};
use tokio::sync::oneshot;

use crate::{ProvisionError, command};

const IMAGE: (&str, &str) = ("redis", "7-alpine");

/// A running Redis container. Dropping it removes the container.
#[derive(Debug)]
pub struct RedisContainer {
    addr: SocketAddr,
    /// Ends the thread that owns the container.
    stop: Option<oneshot::Sender<()>>,
    keeper: Option<thread::JoinHandle<()>>,
}

impl RedisContainer {
    /// Starts `redis:7-alpine` on the engine that testcontainers finds.
    ///
    /// # Errors
    /// If no engine answers, or the image cannot be fetched.
    pub fn start() -> Result<Self, ProvisionError> {
        let (stop, stopped) = oneshot::channel();
        let (tell, started) = std::sync::mpsc::channel();
        // A thread with its own runtime: the caller may run inside a runtime or outside any.
        let keeper = thread::spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(why) => return drop(tell.send(Err(why.to_string()))),
            };
            runtime.block_on(async move {
                match run().await {
                    Ok((container, addr)) => {
                        let _ = tell.send(Ok(addr));
                        let _ = stopped.await;
                        let _ = container.rm().await;
                    }
                    Err(why) => drop(tell.send(Err(why.to_string()))),
                }
            });
        });
        let addr = started.recv().map_err(|why| why.to_string()).and_then(|told| told).map_err(|why| {
            let try_command = format!("docker run --rm {}:{} redis-server --version", IMAGE.0, IMAGE.1);
            ProvisionError::Missing { what: "Redis container", why, try_command }
        })?;
        Ok(Self { addr, stop: Some(stop), keeper: Some(keeper) })
    }

    /// The host address that the container's port is mapped to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL, `redis://host:port`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }
}

impl Drop for RedisContainer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Whether a container engine answers; returns quickly if there is none.
pub(super) fn engine_answers() -> bool {
    let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let at_socket = || UnixStream::connect(socket.strip_prefix("unix://")?).ok();
    at_socket().is_some() || command::run_within(Command::new("docker").arg("version"), Duration::from_secs(5)).is_ok()
}

async fn run() -> Result<(ContainerAsync<GenericImage>, SocketAddr), TestcontainersError> {
    let image = GenericImage::new(IMAGE.0, IMAGE.1)
        .with_exposed_port(6379.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        // Clients come through a mapped port, from a non-loopback address that protected mode would refuse.
        .with_cmd(["redis-server", "--protected-mode", "no"]);
    let container = image.start().await?;
    let port = container.get_host_port_ipv4(6379.tcp()).await?;
    let host = container.get_host().await?.to_string();
    let resolved = (host.as_str(), port).to_socket_addrs().ok().and_then(|mut found| found.find(SocketAddr::is_ipv4));
    let addr = resolved.unwrap_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    Ok((container, addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gives_a_redis_that_answers_if_an_engine_runs() {
        if !engine_answers() {
            // No failure even with `CI=true`: installing an engine needs root.
            eprintln!("skipped: no container engine answers; try: docker info");
            return;
        }
        let redis = RedisContainer::start().unwrap();
        super::super::server::ping(&redis.url()).unwrap();
        let url = redis.url();
        drop(redis);
        assert!(super::super::server::ping(&url).is_err());
    }
}

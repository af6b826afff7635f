//! A registry of OCI images, from Debian's package `docker-registry`: installed, or a private copy.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use super::{
    ProvisionError, checkout, command, debian, port,
    process::{self, ServerProcess, last_lines},
    tools,
};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// A registry without authentication. Dropping it stops the process and removes its images.
pub struct RegistryServer {
    addr: SocketAddr,
    _process: ServerProcess,
    _scratch: TempDir,
}

/// Finds a registry, or fetches a private copy.
fn find_or_fetch() -> Result<PathBuf, ProvisionError> {
    if let Some(binary) = command::on_path("docker-registry") {
        return Ok(binary);
    }
    tools::executable("docker-registry", |dir| {
        crate::announce(format_args!("weir: no docker-registry on PATH: fetching Debian's package into target/tools"));
        debian::unpack(&["docker-registry"], dir).map_err(|why| ProvisionError::Missing {
            what: "docker-registry",
            why: why.to_string(),
            try_command: "apt-get install docker-registry".into(),
        })?;
        Ok(dir.join("usr/bin/docker-registry"))
    })
}

impl RegistryServer {
    /// Starts a registry on a free port, and waits until it accepts connections.
    ///
    /// # Errors
    /// If there is no executable, or it does not start within 20 s. The latter error shows the end of its log.
    pub fn start() -> Result<Self, ProvisionError> {
        let binary = find_or_fetch()?;
        port::on_a_free_port(|addr| {
            let scratch = checkout::scratch_dir("registry")?;
            let file = scratch.path().join("config.yml");
            let images = scratch.path().join("images");
            let written = format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{addr}'}}\n",
                images.display()
            );
            std::fs::write(&file, written).map_err(ProvisionError::io(&file))?;
            let mut serve = Command::new(&binary);
            serve.args(["serve", "config.yml"]).current_dir(scratch.path());
            let mut started = ServerProcess::spawn(&mut serve, &scratch.path().join("output.log"))?;
            let what = format!("docker-registry on {addr}");
            started.wait_until_ready(&what, READY_WITHIN, last_lines, || process::accepts(addr))?;
            Ok(Self { addr, _process: started, _scratch: scratch })
        })
    }

    /// The address of its listener.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl std::fmt::Debug for RegistryServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

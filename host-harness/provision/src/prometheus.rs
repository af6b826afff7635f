//! Prometheus and promtool: those on `PATH`, or private copies from Debian's package.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    ProvisionError, checkout, command, debian, port,
    process::{ServerProcess, accepts, last_lines},
    tools,
};

const READY_WITHIN: Duration = Duration::from_secs(30);
/// The package of 19 MB has both programs, which need no library but libc.
const PACKAGE: &str = "prometheus";

/// A Prometheus process with an empty database. Dropping it stops the process.
pub struct PrometheusServer {
    addr: SocketAddr,
    process: ServerProcess,
    scratch: TempDir,
}

/// Returns the path of `promtool`, fetched if none is found.
///
/// # Errors
/// If there is none and the download failed.
pub fn promtool() -> Result<PathBuf, ProvisionError> {
    find_or_fetch("promtool")
}

fn find_or_fetch(name: &str) -> Result<PathBuf, ProvisionError> {
    if let Some(path) = command::on_path(name) {
        return Ok(path);
    }
    let place = tools::dir()?.join(PACKAGE);
    let binary = place.join("usr/bin").join(name);
    let _lock = tools::lock(PACKAGE)?;
    if !command::is_executable(&binary) {
        crate::announce(format_args!("weir: fetching Prometheus into target/tools (19 MB)"));
        debian::unpack(&[PACKAGE], &place).map_err(|why| ProvisionError::Missing {
            what: "Prometheus",
            why: why.to_string(),
            try_command: format!("apt-get install {PACKAGE}"),
        })?;
    }
    Ok(binary)
}

impl PrometheusServer {
    /// Starts a Prometheus on a free port, and waits until it is ready.
    ///
    /// `files` are names and contents of files beside its configuration, such as rules.
    ///
    /// # Errors
    /// If there is no executable, or Prometheus ends or is not ready within 30 s. The latter error shows the end of its
    /// log.
    pub fn start(config: &str, files: &[(&str, &str)]) -> Result<Self, ProvisionError> {
        let binary = find_or_fetch("prometheus")?;
        port::on_a_free_port(|addr| {
            let scratch = checkout::scratch_dir("prometheus")?;
            for (name, contents) in files.iter().chain(&[("prometheus.yml", config)]) {
                let file = scratch.path().join(name);
                std::fs::write(&file, contents).map_err(ProvisionError::io(&file))?;
            }
            let mut prometheus = Command::new(&binary);
            prometheus.current_dir(scratch.path()).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
            prometheus.arg(format!("--web.listen-address={addr}"));
            let mut process = ServerProcess::spawn(&mut prometheus, &log(&scratch))?;
            let is_ready = || {
                accepts(addr)?;
                let has = |text: &str| std::fs::read_to_string(log(&scratch)).is_ok_and(|log| log.contains(text));
                if has("ready to receive web requests") { Ok(()) } else { Err("not ready".to_owned()) }
            };
            process.wait_until_ready(&format!("Prometheus on {addr}"), READY_WITHIN, last_lines, is_ready)?;
            Ok(Self { addr, process, scratch })
        })
    }

    /// The address of its API.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The folder of its configuration and data.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn log(scratch: &TempDir) -> PathBuf {
    scratch.path().join("prometheus.log")
}

impl std::fmt::Debug for PrometheusServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrometheusServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::or_skip;

    #[test]
    fn promtool_says_its_version() {
        let Some(promtool) = or_skip(promtool()) else { return };
        let version = command::run(Command::new(promtool).arg("--version")).unwrap();
        assert!(version.starts_with("promtool, version "), "{version}");
    }

    #[test]
    fn a_prometheus_that_refuses_its_configuration_says_why() {
        match PrometheusServer::start("scrape_configs: nonsense", &[]) {
            Err(ProvisionError::Start { log, .. }) => assert!(log.contains("nonsense"), "{log}"),
            other => drop(or_skip(other)),
        }
    }
}

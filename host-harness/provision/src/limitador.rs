//! Limitador, a rate limit service for Envoy's own rate limit filter; `weir bench` compares Weir with it.
//!
//! `WEIR_LIMITADOR` names a `limitador-server`. Without it, `benches/limitador` is built into `target/tools`: the crate
//! `limitador` with a gRPC service around it. Both take the same arguments.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    ProvisionError, checkout, command, port,
    process::{ServerProcess, accepts, last_lines},
    tools,
};

const READY_WITHIN: Duration = Duration::from_secs(20);
const OVERRIDE: &str = "WEIR_LIMITADOR";

/// Name of our build in reports; `benches/limitador` pins the crate's version.
const OURS: &str = "the crate limitador 0.12.0 with a service around it";

/// A limit per user in Envoy's domain `bench`, too high for any run to reach.
const LIMITS: &str = "- namespace: bench
  max_value: 1000000000
  seconds: 3600
  conditions: []
  variables: [\"descriptors[0].user\"]
";

/// A running Limitador process. Dropping it stops the process.
pub struct LimitadorServer {
    addr: SocketAddr,
    _scratch: TempDir,
    process: ServerProcess,
}

/// The Limitador executable. Builds it if there is none yet, which takes some minutes.
///
/// # Errors
/// If `WEIR_LIMITADOR` is not an executable, or the build fails.
pub fn find_or_build() -> Result<PathBuf, ProvisionError> {
    if let Some(path) = overriding() {
        let absolute = path.canonicalize().ok().filter(|path| command::is_executable(path));
        return absolute.ok_or(ProvisionError::Override { variable: OVERRIDE, path });
    }
    let target = tools::dir()?.join("limitador");
    let binary = target.join("release/weir-bench-limitador");
    let _lock = tools::lock("limitador")?;
    if !command::is_executable(&binary) {
        crate::announce(format_args!("weir: building Limitador into target/tools (takes minutes)"));
        build(&checkout::root()?, &target).map_err(|why| ProvisionError::Missing {
            what: "Limitador",
            why: why.to_string(),
            try_command: format!("{OVERRIDE}=path/to/limitador-server"),
        })?;
    }
    Ok(binary)
}

/// Name and version of the Limitador that would run.
pub fn version() -> String {
    let Some(path) = overriding() else { return OURS.to_owned() };
    let printed = command::run(Command::new(path).arg("--version")).unwrap_or_default();
    // `Limitador Server v2.4.0 (a hash) …`
    let version = printed.split_whitespace().find_map(|word| word.strip_prefix('v')).unwrap_or("of unknown version");
    format!("limitador-server {version}")
}

fn overriding() -> Option<PathBuf> {
    std::env::var_os(OVERRIDE).filter(|it| !it.is_empty()).map(PathBuf::from)
}

fn build(root: &Path, target: &Path) -> Result<(), ProvisionError> {
    let mut cargo = checkout::cargo();
    cargo.current_dir(root).args(["build", "--release", "--locked", "--quiet", "--manifest-path"]);
    cargo.arg("benches/limitador/Cargo.toml").arg("--target-dir").arg(target);
    command::run(&mut cargo).map(drop)
}

impl LimitadorServer {
    /// Starts a Limitador that counts in this Redis, and waits until it accepts connections.
    ///
    /// # Errors
    /// If there is no executable, or Limitador does not accept connections within 20 s. The latter error shows the
    /// end of its log.
    pub fn start(redis: SocketAddr) -> Result<Self, ProvisionError> {
        let binary = find_or_build()?;
        port::on_a_free_port(|addr| Self::start_on(&binary, addr, redis))
    }

    fn start_on(binary: &Path, addr: SocketAddr, redis: SocketAddr) -> Result<Self, ProvisionError> {
        let scratch = checkout::scratch_dir("limitador")?;
        let limits = scratch.path().join("limits.yaml");
        std::fs::write(&limits, LIMITS).map_err(ProvisionError::io(&limits))?;
        let http = port::free_port()?.release();
        let mut limitador = Command::new(binary);
        limitador.args(["--rls-ip", "127.0.0.1", "--rls-port", &addr.port().to_string()]);
        limitador.args(["--http-ip", "127.0.0.1", "--http-port", &http.port().to_string()]);
        limitador.arg(&limits).args(["redis", &format!("redis://{redis}")]);
        let mut process = ServerProcess::spawn(&mut limitador, &scratch.path().join("limitador.log"))?;
        process.wait_until_ready(&format!("Limitador on {addr}"), READY_WITHIN, last_lines, || accepts(addr))?;
        Ok(Self { addr, _scratch: scratch, process })
    }

    /// The address of its gRPC service.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl std::fmt::Debug for LimitadorServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LimitadorServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_version_is_the_pinned_version_of_the_crate() {
        let manifest = include_str!("../../../benches/limitador/Cargo.toml");
        let pinned = manifest.split_once("limitador = { version = \"=").and_then(|(_, rest)| rest.split_once('"'));
        assert!(OURS.contains(&format!(" {} ", pinned.unwrap().0)), "{OURS}");
    }
}

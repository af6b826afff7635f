//! Envoy processes.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

use super::admin;
use crate::{
    ProvisionError, checkout, command,
    process::{ServerProcess, raise_open_files_limit},
};

/// Time limit of a start: V8 needs seconds to compile the filter on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Number of log lines that an error shows.
const LOG_LINES: usize = 20;

/// Options of an [`EnvoyServer`].
#[derive(Debug, Clone)]
pub struct EnvoyOptions {
    /// The bootstrap, as YAML or JSON. An `admin` is required; ports may be 0. Relative paths start from the checkout's
    /// root.
    pub config: String,
    /// The executable; `None`: [`binary`](super::binary).
    pub binary: Option<PathBuf>,
    /// Worker threads.
    pub concurrency: u32,
    /// The folder of its configuration and `envoy.log`; `None`: a new folder under `target/`, removed with the handle.
    pub dir: Option<PathBuf>,
    /// The log level, `trace` to `off`.
    pub log_level: String,
    /// Environment variables in addition to those of this process.
    pub env: Vec<(String, String)>,
    /// Arguments in addition to those of this crate.
    pub args: Vec<String>,
    /// Whether the process takes part in a hot restart.
    pub hot_restart: HotRestart,
}

/// Part of a process in a hot restart, in which a new process takes over the listeners of an old one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HotRestart {
    /// None: Envoys on one machine share memory otherwise, and each needs a base id of its own.
    #[default]
    Off,
    /// The first process, which gets a free base id.
    First,
    /// The process that replaces the one before; its epoch is 1 for the first successor.
    Successor {
        /// [`EnvoyServer::base_id`] of the first process.
        base_id: u32,
        /// Number of processes before this one, ≥ 1.
        epoch: u32,
    },
}

impl EnvoyOptions {
    /// Options with one worker, log level `info` and a new folder.
    pub fn new(config: impl Into<String>) -> Self {
        Self {
            config: config.into(),
            binary: None,
            concurrency: 1,
            dir: None,
            log_level: "info".into(),
            env: Vec::new(),
            args: Vec::new(),
            hot_restart: HotRestart::Off,
        }
    }
}

/// A running Envoy process. Dropping it stops the process.
pub struct EnvoyServer {
    admin: SocketAddr,
    dir: PathBuf,
    _scratch: Option<TempDir>,
    process: Mutex<ServerProcess>,
    base_id: Option<u32>,
}

impl EnvoyServer {
    /// Starts an Envoy and waits until it is ready to serve.
    ///
    /// # Errors
    /// If no executable is found or fetched, or Envoy ends or is not ready within 90 s. The latter two errors show the
    /// errors of Envoy's log.
    pub fn start(options: EnvoyOptions) -> Result<Self, ProvisionError> {
        let binary = options.binary.map_or_else(super::binary, Ok)?;
        raise_open_files_limit();
        let (dir, scratch) = match options.dir {
            Some(dir) => (dir, None),
            None => checkout::scratch_dir("envoy").map(|scratch| (scratch.path().to_path_buf(), Some(scratch)))?,
        };
        std::fs::create_dir_all(&dir).map_err(ProvisionError::io(&dir))?;
        let dir = dir.canonicalize().map_err(ProvisionError::io(&dir))?;
        let (config, told) = (dir.join("envoy.yaml"), dir.join("admin-address"));
        let told_base_id = dir.join("base-id");
        std::fs::write(&config, &options.config).map_err(ProvisionError::io(&config))?;
        let _ = std::fs::remove_file(&told);
        let mut envoy = Command::new(binary);
        envoy.current_dir(checkout::root()?).arg("-c").arg(&config).arg("--admin-address-path").arg(&told);
        match options.hot_restart {
            HotRestart::Off => envoy.arg("--disable-hot-restart"),
            HotRestart::First => envoy.arg("--use-dynamic-base-id").arg("--base-id-path").arg(&told_base_id),
            HotRestart::Successor { base_id, epoch } => {
                envoy.args(["--base-id", &base_id.to_string(), "--restart-epoch", &epoch.to_string()])
            }
        };
        envoy.args(["--concurrency", &options.concurrency.to_string(), "--log-level", &options.log_level]);
        envoy.args(options.args).envs(options.env);
        let mut process = ServerProcess::spawn(&mut envoy, &dir.join("envoy.log"))?;
        let admin = wait_until_ready(&mut process, &told)?;
        let base_id = std::fs::read_to_string(told_base_id).ok().and_then(|text| text.trim().parse().ok());
        Ok(Self { admin, dir, _scratch: scratch, process: Mutex::new(process), base_id })
    }

    /// The base id of the first process of a hot restart; `None` for any other process.
    pub fn base_id(&self) -> Option<u32> {
        self.base_id
    }

    /// Runs `envoy --mode validate` on a bootstrap.
    ///
    /// # Errors
    /// Envoy's errors, if Envoy refuses the bootstrap.
    pub fn validate(config: &Path) -> Result<(), ProvisionError> {
        let config = config.canonicalize().map_err(ProvisionError::io(config))?;
        let mut envoy = Command::new(super::binary()?);
        envoy.current_dir(checkout::root()?).args(["--mode", "validate", "--disable-hot-restart", "-c"]).arg(config);
        command::run(&mut envoy).map(drop).map_err(|why| match why {
            ProvisionError::Command { command, how, output } => {
                ProvisionError::Command { command, how, output: telling_lines(&output) }
            }
            other => other,
        })
    }

    /// The address of its admin interface.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The address of the listener with this name; needed if its configured port is 0.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.admin_get("/listeners").ok()?;
        let of_this = |line: &str| line.strip_prefix(name)?.strip_prefix("::")?.trim().parse().ok();
        listeners.lines().find_map(of_this)
    }

    /// The response body of a GET on the admin interface, for example of `/stats/prometheus`.
    ///
    /// # Errors
    /// If the admin interface does not answer within five seconds, or answers with another status than `200`.
    pub fn admin_get(&self, path: &str) -> io::Result<String> {
        admin::get(self.admin, path)
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// The folder of its configuration and log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process().id()
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        self.process().is_alive()
    }

    /// Stops the process with SIGTERM, as an operator would.
    pub fn stop(&self) {
        self.process().stop();
    }

    /// Kills the process with SIGKILL: it closes no connection in order.
    pub fn kill(&self) {
        self.process().kill();
    }

    fn process(&self) -> MutexGuard<'_, ServerProcess> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EnvoyServer {
    /// Removes the memory that processes of a hot restart share, which Envoy leaves behind.
    fn drop(&mut self) {
        if let Some(base_id) = self.base_id {
            // Envoy numbers the sockets of a base id from ten times the id on, and names the memory likewise.
            let _ = std::fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}", 10 * base_id));
        }
    }
}

impl std::fmt::Debug for EnvoyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvoyServer").field("admin", &self.admin).field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn wait_until_ready(process: &mut ServerProcess, told: &Path) -> Result<SocketAddr, ProvisionError> {
    let ready = || {
        let admin = std::fs::read_to_string(told).ok().and_then(|text| text.trim().parse().ok());
        let is_live = |admin: &SocketAddr| admin::get(*admin, "/ready").is_ok_and(|body| body.starts_with("LIVE"));
        admin.filter(is_live).ok_or_else(|| "not ready".to_owned())
    };
    process.wait_until_ready("Envoy", READY_WITHIN, telling_lines, ready)
}

/// The errors of a log, at most 20 lines; the last 20 lines if the log has no errors. An error of several lines is cut
/// to its first and last line: Envoy prints the whole message between them, and the cause in the last.
fn telling_lines(log: &str) -> String {
    let mut errors: Vec<Vec<&str>> = Vec::new();
    let mut in_error = false;
    for line in log.lines() {
        let starts_entry = line.starts_with("[20");
        if starts_entry {
            in_error = line.contains("[critical]") || line.contains("[error]");
        }
        match errors.last_mut() {
            Some(error) if in_error && !starts_entry => error.push(line),
            _ if in_error => errors.push(vec![line]),
            _ => {}
        }
    }
    let told = errors.iter().flat_map(|error| match error.as_slice() {
        [first, .., last] => vec![*first, *last],
        whole => whole.to_vec(),
    });
    let lines: Vec<&str> = if errors.is_empty() { log.lines().collect() } else { told.collect() };
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::or_skip;

    const HELLO: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: hello}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#;

    #[test]
    fn two_envoys_serve_side_by_side_on_ports_of_their_own() {
        let Some(first) = or_skip(EnvoyServer::start(EnvoyOptions::new(HELLO))) else { return };
        let second = EnvoyServer::start(EnvoyOptions::new(HELLO)).unwrap();
        let (one, two) = (first.listener("ingress").unwrap(), second.listener("ingress").unwrap());
        assert_ne!(one, two);
        assert_eq!(first.admin_get("/ready").unwrap().trim(), "LIVE");
        assert!(std::net::TcpStream::connect(two).is_ok());
        second.stop();
        assert!(!second.is_alive() && first.is_alive());
        assert!(std::net::TcpStream::connect(two).is_err());
    }

    #[test]
    fn a_successor_takes_over_the_listener_and_ends_the_first_process() {
        let port = crate::port::free_port().unwrap().release().port();
        let config = HELLO.replacen("port_value: 0", "port_value: PORT", 2).replacen("PORT", "0", 1);
        let options = EnvoyOptions {
            args: ["--drain-time-s", "1", "--parent-shutdown-time-s", "1"].map(str::to_owned).to_vec(),
            hot_restart: HotRestart::First,
            ..EnvoyOptions::new(config.replace("PORT", &port.to_string()))
        };
        let Some(first) = or_skip(EnvoyServer::start(options.clone())) else { return };
        let base_id = first.base_id().unwrap();
        let hot_restart = HotRestart::Successor { base_id, epoch: 1 };
        let second = EnvoyServer::start(EnvoyOptions { hot_restart, ..options }).unwrap();
        let deadline = std::time::Instant::now() + READY_WITHIN;
        while first.is_alive() {
            assert!(std::time::Instant::now() < deadline, "{}", second.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(second.listener("ingress"), Some(([127, 0, 0, 1], port).into()));
        assert!(std::net::TcpStream::connect(second.listener("ingress").unwrap()).is_ok());
        let memory = PathBuf::from(format!("/dev/shm/envoy_shared_memory_{}", 10 * base_id));
        assert!(memory.exists());
        drop((first, second));
        assert!(!memory.exists());
    }

    #[test]
    fn an_envoy_that_refuses_its_configuration_says_why() {
        let bad = HELLO.replace("stat_prefix: ingress", "no_such_field: 1");
        match EnvoyServer::start(EnvoyOptions::new(&bad)) {
            Err(ProvisionError::Start { log, .. }) => assert!(log.contains("no_such_field"), "{log}"),
            other => drop(or_skip(other)),
        }
    }

    #[test]
    fn an_error_that_prints_a_whole_message_is_cut_to_its_start_and_cause() {
        let log = "[2026-01-01][info] starting\n[2026-01-01][critical] bad 'x': goo.gle\nfilters {\n}\n: must be 1\n\
                   [2026-01-01][info] exiting";
        assert_eq!(telling_lines(log), "[2026-01-01][critical] bad 'x': goo.gle\n: must be 1");
        assert_eq!(telling_lines("only\nthis"), "only\nthis");
    }

    #[test]
    fn validating_tells_good_from_bad() {
        let Some(_) = or_skip(super::super::binary()) else { return };
        let dir = checkout::scratch_dir("envoy").unwrap();
        let file = dir.path().join("envoy.yaml");
        std::fs::write(&file, HELLO).unwrap();
        EnvoyServer::validate(&file).unwrap();
        std::fs::write(&file, HELLO.replace("domains: [\"*\"]", "domains: []")).unwrap();
        let why = EnvoyServer::validate(&file).unwrap_err().to_string();
        assert!(why.contains("Domains"), "{why}");
    }
}

//! Envoy process that takes the place of the embedded host, or is compared with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{eventually, text, try_send};

pub struct Envoy {
    process: Child,
    log: PathBuf,
    pub ingress: SocketAddr,
    pub admin: SocketAddr,
}

/// Returns the Envoy binary of `WEIR_ENVOY` if `WEIR_TEST_HOST` is `envoy`.
pub fn asked_for() -> Option<PathBuf> {
    let asked = std::env::var("WEIR_TEST_HOST").is_ok_and(|host| host == "envoy");
    asked.then(|| PathBuf::from(std::env::var_os("WEIR_ENVOY").expect("WEIR_ENVOY names an Envoy binary")))
}

impl Envoy {
    /// Starts Envoy; its log, if it ends before it listens.
    pub fn start(binary: &Path, yaml: impl AsRef<[u8]>, files: &Path, workers: usize) -> Result<Self, String> {
        let (config, log, admin_file) = (files.join("envoy.yaml"), files.join("envoy.log"), files.join("admin"));
        std::fs::write(&config, yaml).expect("the configuration");
        let output = std::fs::File::create(&log).expect("a log");
        let process = Command::new(binary)
            .args(["--disable-hot-restart", "--log-level", "warn", "--component-log-level", "wasm:info"])
            .args(["--log-format", "%l %v", "--concurrency", &workers.to_string()])
            .arg("-c")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("Envoy runs");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut envoy = Self { process, log, ingress: nowhere, admin: nowhere };
        let mut ended = false;
        eventually("Envoy listens or ends", || {
            ended = envoy.process.try_wait().expect("its state").is_some();
            let Some(admin) = std::fs::read_to_string(&admin_file).ok().and_then(|at| at.parse().ok()) else {
                return ended;
            };
            envoy.admin = admin;
            let listeners =
                envoy.ask("/ready").filter(|ready| ready.starts_with("LIVE")).and_then(|_| envoy.ask("/listeners"));
            let found =
                listeners.unwrap_or_default().lines().find_map(|line| line.strip_prefix("ingress::")?.parse().ok());
            ended || found.map(|found| envoy.ingress = found).is_some()
        });
        if ended { Err(envoy.log()) } else { Ok(envoy) }
    }

    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.ask(&format!("/stats?filter=^{name}$")).unwrap_or_default();
        stats.trim().rsplit(": ").next().and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Returns the log so far: `level message` in each line.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn is_alive(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|ended| ended.is_none())
    }

    pub fn ask(&self, path: &str) -> Option<String> {
        try_send(self.admin, hyper::Request::get(path), b"").ok().map(|response| text(&response))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

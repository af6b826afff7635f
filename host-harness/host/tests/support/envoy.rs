//! Envoy process that replaces the embedded host in the tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{eventually, send, text};

pub struct Envoy {
    process: Child,
    pub ingress: SocketAddr,
    pub admin: SocketAddr,
}

/// Returns the Envoy binary of `WEIR_ENVOY` if `WEIR_TEST_HOST` is `envoy`.
pub fn asked_for() -> Option<PathBuf> {
    let asked = std::env::var("WEIR_TEST_HOST").is_ok_and(|host| host == "envoy");
    asked.then(|| PathBuf::from(std::env::var_os("WEIR_ENVOY").expect("WEIR_ENVOY names an Envoy binary")))
}

impl Envoy {
    pub fn start(binary: &Path, yaml: &str, files: &Path, workers: usize) -> Self {
        let (config, log, admin_file) = (files.join("envoy.yaml"), files.join("envoy.log"), files.join("admin"));
        std::fs::write(&config, yaml).expect("the configuration");
        let output = std::fs::File::create(&log).expect("a log");
        let process = Command::new(binary)
            .args(["--use-dynamic-base-id", "--log-level", "warn", "--concurrency", &workers.to_string()])
            .arg("-c")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("Envoy runs");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut envoy = Self { process, ingress: nowhere, admin: nowhere };
        eventually("Envoy has an admin listener", || {
            let over = envoy.process.try_wait().expect("its state").is_some();
            assert!(!over, "Envoy ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            std::fs::read_to_string(&admin_file).is_ok_and(|at| at.parse().map(|at| envoy.admin = at).is_ok())
        });
        eventually("Envoy is ready", || envoy.ask("/ready").starts_with("LIVE"));
        eventually("Envoy listens", || {
            let listeners = envoy.ask("/listeners");
            let found = listeners.lines().find_map(|line| line.strip_prefix("ingress::")?.parse().ok());
            found.map(|found| envoy.ingress = found).is_some()
        });
        envoy
    }

    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.ask(&format!("/stats?filter=^{name}$"));
        stats.trim().rsplit(": ").next().and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn ask(&self, path: &str) -> String {
        text(&send(self.admin, hyper::Request::get(path), b""))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

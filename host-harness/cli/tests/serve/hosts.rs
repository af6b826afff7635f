//! Runs of the same file and requests on the embedded host and on Envoy.

use std::net::SocketAddr;

use weir_harness::serving::{HostKind, Serving};
use weir_host::scenario::Scenario;
use weir_provision::{envoy, or_skip};

use crate::support::{self, exchange};

/// Answers and sorted access log lines of a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) answers: Vec<String>,
    pub(crate) log: Vec<String>,
}

/// Whether there is an Envoy to compare with.
pub(crate) fn has_envoy() -> bool {
    or_skip(envoy::binary()).is_some()
}

/// Runs the same exchanges on both hosts, and returns the answers of the embedded host after comparing them.
pub(crate) fn on_both(yaml: &str, listener: &str, requests: &[&str]) -> Vec<String> {
    observed_on_both(yaml, listener, requests).answers
}

/// Runs the same exchanges on both hosts, and returns what the embedded host did after comparing both. `LOG` in the
/// file is the path of an access log.
pub(crate) fn observed_on_both(yaml: &str, listener: &str, requests: &[&str]) -> Observed {
    let [embedded, envoy] = [HostKind::Embedded, HostKind::Envoy].map(|host| observe(host, yaml, listener, requests));
    for ((request, embedded), envoy) in requests.iter().zip(&embedded.answers).zip(&envoy.answers) {
        // Envoy shows the error of its TLS library.
        if embedded.starts_with("503 ") && envoy.contains("transport failure reason") {
            continue;
        }
        assert_eq!(embedded, envoy, "left: the embedded host, right: Envoy; request: {request:?}");
    }
    assert_eq!(embedded.log, envoy.log, "left: the embedded host, right: Envoy");
    embedded
}

fn observe(host: HostKind, yaml: &str, listener: &str, requests: &[&str]) -> Observed {
    let files = tempfile::tempdir().expect("a folder");
    let log = files.path().join("access.log");
    let yaml = yaml.replace("LOG", &log.display().to_string());
    let answers = serving(host, &yaml, |serving| {
        let address: SocketAddr = serving.listener(listener).expect("the listener");
        requests.iter().map(|request| exchange(address, request)).collect()
    });
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let mut log: Vec<String> = log.lines().map(str::to_owned).collect();
    log.sort();
    Observed { answers, log }
}

/// Serves a file while `act` runs.
pub(crate) fn serving<T>(host: HostKind, yaml: &str, act: impl FnOnce(&Serving) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let scenario = Scenario::parse(yaml, "parity.yaml").expect("YAML");
    let serving = runtime.block_on(Serving::start(host, &scenario, 1)).expect("the host starts");
    let done = act(&serving);
    runtime.block_on(serving.stop());
    done
}

/// Returns the lines of a connection manager with an access log at `LOG`.
pub(crate) fn access_log(format: &str) -> String {
    let message = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    support::manager_line(&format!(
        "access_log: {{name: file, typed_config: {{\"@type\": {message}, path: LOG, log_format: {{text_format_source: \
         {{inline_string: \"{format}\\n\"}}}}}}}}"
    ))
}

//! Rules and dashboards of the chart, with a real Prometheus that scrapes real Envoys of all forms of names under load;
//! decisions in traces.
//!
//! `WEIR_PICTURES=docs/src/metrics WEIR_METRICS_SECONDS=240 cargo test -p weir --test metrics -- scraped --nocapture`
//! draws the pictures of the docs.

mod dashboards;
mod expressions;
mod fleet;
mod picture;
mod plot;
mod prometheus;
mod rules;
mod scraped;
mod tracing;

use std::{fs, path::PathBuf};

use weir_provision::checkout;

/// Folder of the rules and of the dashboards.
fn folder() -> PathBuf {
    checkout::root().unwrap().join("envoy/helm/weir/files/metrics")
}

/// Text of the rules.
fn rules() -> String {
    fs::read_to_string(folder().join("rules.yaml")).unwrap()
}

//! `weir check FILE`: every problem of a bootstrap, and of the limiter configurations in it, with their paths.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::Bootstrap;
use crate::bootstrap::Plugin;

/// The root id of Weir's limiter: the harness knows what its configuration may say.
const LIMITER: &str = "limiter";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy bootstrap file, such as envoy/quickstart.yaml.
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let bootstrap = Bootstrap::load(&arguments.file)?;
    let limiters: Vec<&Plugin> = bootstrap.plugins().filter(|plugin| plugin.root_id == LIMITER).collect();
    let mut sound = true;
    for plugin in &limiters {
        for problem in configuration_problems(plugin) {
            sound = false;
            eprintln!("{}: {}.configuration.value: {problem}", bootstrap.origin, plugin.path);
        }
    }
    if !sound {
        return Ok(ExitCode::FAILURE);
    }
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    println!(
        "{}: {}, {}, {}: all is well",
        bootstrap.origin,
        count(bootstrap.listeners.len(), "listener"),
        count(bootstrap.clusters.len(), "cluster"),
        count(limiters.len(), "limiter configuration"),
    );
    Ok(ExitCode::SUCCESS)
}

/// What the filter would refuse in a limiter's configuration, one line each; empty: nothing.
fn configuration_problems(plugin: &Plugin) -> Vec<String> {
    let environment = plugin.vm.resolved_environment();
    let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match weir_filter::config::parse(&plugin.configuration, &variable) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

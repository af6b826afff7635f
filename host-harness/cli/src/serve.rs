//! `weir serve FILE`: serves a bootstrap until interrupted.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use weir_host::{Bootstrap, Host, HostOptions};

use crate::serving::compiled_modules;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy bootstrap file, such as envoy/quickstart.yaml.
    file: PathBuf,
    /// Number of worker threads.
    #[arg(long, default_value_t = 1, value_name = "N")]
    workers: usize,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let bootstrap = Bootstrap::load(&arguments.file)?;
    let options =
        HostOptions { workers: arguments.workers, compiled_modules: compiled_modules(), ..HostOptions::default() };
    let running = Host::start(bootstrap, options)?;
    for (name, address) in running.listeners() {
        println!("listener `{name}` on http://{address}");
    }
    if let Some(address) = running.admin() {
        println!("admin on http://{address}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(interrupted()).context("cannot wait for an interrupt")?;
    running.shutdown();
    Ok(ExitCode::SUCCESS)
}

async fn interrupted() -> std::io::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}

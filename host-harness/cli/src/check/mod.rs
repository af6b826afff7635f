//! `weir check FILE`: errors and warnings about a bootstrap and the limiter configurations in it, with their paths.
//!
//! Errors are about configurations that the filter refuses, and about files with which a host starts but then holds
//! requests or never reaches Redis. Warnings are about files that work, but slower or less safely than their author may
//! think.
//!
//! A new warning needs a variant of [`Warning`] and, in [`WARNINGS`], a function that finds it.

mod breaker;
mod environment;
mod paths;
mod problem;
mod redis;
mod warning;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use weir_filter::config::{self, Config};
use weir_host::Bootstrap;
use weir_host::bootstrap::{Listener, Plugin};

use self::problem::Problem;
use self::warning::Warning;

/// Root id of Weir's limiter. The harness can check the configurations of this root id.
const LIMITER: &str = "limiter";

/// Checks that find errors in a limiter with a configuration that the filter accepts.
const PROBLEMS: [fn(&Limiter<'_>) -> Vec<Problem>; 3] = [unseen_body, redis::way_to_redis, environment::problems];
/// Checks that find warnings, each in the file of its topic.
const WARNINGS: [fn(&Limiter<'_>) -> Vec<Warning>; 4] =
    [environment::warnings, paths::warnings, breaker::warnings, corrected];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy bootstrap file, such as envoy/quickstart.yaml.
    file: PathBuf,
    /// Fail on warnings, too.
    #[arg(long)]
    strict: bool,
}

/// A limiter with a configuration that the filter accepts, and its bootstrap.
struct Limiter<'a> {
    plugin: &'a Plugin,
    config: Config,
    /// Environment variables that the configuration reads.
    variables: Vec<String>,
    /// The listener with this filter; `None` for an upstream filter of a cluster.
    listener: Option<&'a Listener>,
    bootstrap: &'a Bootstrap,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let bootstrap = Bootstrap::load(&arguments.file)?;
    let limiters = limiters(&bootstrap);
    let (mut problems, mut warnings) = (0, 0);
    for (plugin, listener) in &limiters {
        let (found, warned) = findings(plugin, *listener, &bootstrap);
        for problem in &found {
            eprintln!("{}: {}.{problem}", bootstrap.origin, plugin.path);
        }
        for warning in &warned {
            eprintln!("{}: warning: {}.{warning}", bootstrap.origin, plugin.path);
        }
        problems += found.len();
        warnings += warned.len();
    }
    if problems > 0 {
        return Ok(ExitCode::FAILURE);
    }
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    println!(
        "{}: {}, {}, {}: {}",
        bootstrap.origin,
        count(bootstrap.listeners.len(), "listener"),
        count(bootstrap.clusters.len(), "cluster"),
        count(limiters.len(), "limiter configuration"),
        if warnings == 0 { "all is well".to_owned() } else { format!("no errors, {}", count(warnings, "warning")) },
    );
    Ok(if arguments.strict && warnings > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All limiters of the bootstrap, with their listeners; `None` for upstream filters.
fn limiters(bootstrap: &Bootstrap) -> Vec<(&Plugin, Option<&Listener>)> {
    let of_listener = |listener| move |plugin| (plugin, Some(listener));
    let downstream = bootstrap.listeners.iter().flat_map(|listener| listener.plugins().map(of_listener(listener)));
    let upstream = bootstrap.clusters.iter().flat_map(|cluster| &cluster.filters).map(|plugin| (plugin, None));
    downstream.chain(upstream).filter(|(plugin, _)| plugin.root_id == LIMITER).collect()
}

/// All errors and warnings about a limiter. The bootstrap around the limiter is checked only if the filter accepts the
/// limiter's configuration.
fn findings(plugin: &Plugin, listener: Option<&Listener>, bootstrap: &Bootstrap) -> (Vec<Problem>, Vec<Warning>) {
    let variables = RefCell::new(Vec::new());
    let read = |name: &str| {
        variables.borrow_mut().push(name.to_owned());
        environment::variable(plugin, name)
    };
    match config::parse(&plugin.configuration, &read) {
        Ok(config) => {
            let limiter = Limiter { plugin, config, variables: variables.into_inner(), listener, bootstrap };
            let problems = PROBLEMS.iter().flat_map(|check| check(&limiter)).collect();
            (problems, WARNINGS.iter().flat_map(|check| check(&limiter)).collect())
        }
        Err(errors) => (errors.iter().cloned().map(Problem::Configuration).collect(), Vec::new()),
    }
}

/// Warnings about values that the filter corrects and logs when it starts.
fn corrected(limiter: &Limiter<'_>) -> Vec<Warning> {
    limiter.config.notices.iter().cloned().map(Warning::Corrected).collect()
}

fn unseen_body(limiter: &Limiter<'_>) -> Vec<Problem> {
    let reading = limiter.config.limits.iter().enumerate().filter(|(_, limit)| limit.reads_body());
    let indexes: Vec<usize> = reading.map(|(index, _)| index).collect();
    let is_unseen = !limiter.plugin.sees_body_past_headers && !indexes.is_empty();
    is_unseen.then_some(Problem::UnseenBody { indexes }).into_iter().collect()
}

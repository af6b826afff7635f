//! `weir check FILE`: errors and warnings about a bootstrap and the limiter configurations in it, with their paths.
//!
//! An error is what the filter refuses, or a file with which a host starts and then holds requests or never reaches
//! Redis. A warning is a file that works, but less well or less safely than its author may think.
//!
//! To add a warning: a variant of [`Warning`], and a function in [`WARNINGS`] that finds it.

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

use self::problem::Problem;
use self::warning::Warning;
use crate::Bootstrap;
use crate::bootstrap::{Listener, Plugin};

/// Root id of Weir's limiter: the harness knows what its configuration may say.
const LIMITER: &str = "limiter";

/// Checks that find errors in a limiter whose configuration the filter takes.
const PROBLEMS: [fn(&Limiter<'_>) -> Vec<Problem>; 3] = [unseen_body, redis::way_to_redis, environment::problems];
/// Checks that find warnings. Each is a function of its own, in the file of its topic.
const WARNINGS: [fn(&Limiter<'_>) -> Vec<Warning>; 4] =
    [environment::warnings, paths::warnings, breaker::warnings, corrected];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy bootstrap file, such as envoy/quickstart.yaml.
    file: PathBuf,
    /// Fails on warnings, too.
    #[arg(long)]
    strict: bool,
}

/// A limiter whose configuration the filter takes, and the file around it.
struct Limiter<'a> {
    plugin: &'a Plugin,
    config: Config,
    /// Environment variables that the configuration reads.
    variables: Vec<String>,
    /// The listener that it is a filter of; `None` for a cluster's.
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

/// All limiters, with the listeners that they are filters of.
fn limiters(bootstrap: &Bootstrap) -> Vec<(&Plugin, Option<&Listener>)> {
    let of_listener = |listener| move |plugin| (plugin, Some(listener));
    let downstream = bootstrap.listeners.iter().flat_map(|listener| listener.plugins().map(of_listener(listener)));
    let upstream = bootstrap.clusters.iter().flat_map(|cluster| &cluster.filters).map(|plugin| (plugin, None));
    downstream.chain(upstream).filter(|(plugin, _)| plugin.root_id == LIMITER).collect()
}

/// All errors and warnings about a limiter. What is around it is checked once the filter takes its configuration.
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

/// Values that the filter corrects, as it says when it starts.
fn corrected(limiter: &Limiter<'_>) -> Vec<Warning> {
    limiter.config.notices.iter().cloned().map(Warning::Corrected).collect()
}

fn unseen_body(limiter: &Limiter<'_>) -> Vec<Problem> {
    let reading = limiter.config.limits.iter().enumerate().filter(|(_, limit)| limit.reads_body());
    let indexes: Vec<usize> = reading.map(|(index, _)| index).collect();
    let is_unseen = !limiter.plugin.sees_body_past_headers && !indexes.is_empty();
    is_unseen.then_some(Problem::UnseenBody { indexes }).into_iter().collect()
}

//! `weir limits`: shows and changes limits at run time. The command talks only to Redis, never to a proxy.
//!
//! Overrides are written to the hash that the workers read, in the format of `weir_filter::overrides`. Buckets are read
//! by the filter's own script, without its writes. The command never blocks Redis: it reads keys with SCAN.

mod configured;
mod emptiest;
mod error;
mod list;
mod peek;
mod render;
mod span;
mod store;
mod wanted;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use weir_filter::limit::Algorithms;
use weir_filter::units::Tokens;

pub use self::error::LimitsError;

use self::configured::{Configured, Target};
use self::render::ruling_and_rest;
use self::store::{Found, Store};
use self::wanted::{Numbers, Wanted};

/// Arguments of `weir limits`.
#[derive(Debug, clap::Args)]
pub struct Limits {
    /// The Redis that holds the limits' buckets: redis://[[user]:password@]host[:port][/database].
    #[arg(
        long,
        global = true,
        env = "REDIS_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379"
    )]
    redis: String,
    /// The limits' configuration: an Envoy bootstrap file, or the filter's configuration alone. The default is
    /// envoy/quickstart.yaml, if that file exists.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Key prefix that replaces the configuration's redis.key_prefix.
    #[arg(long, global = true, value_name = "PREFIX")]
    key_prefix: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows the limits with their overrides; with --limited, also the emptiest buckets.
    List {
        /// Show only this limit.
        limit: Option<String>,
        /// Show buckets that are not full, the emptiest first. Scans all keys of the database and spends nothing.
        #[arg(long)]
        limited: bool,
        /// Maximum number of rows in a table.
        #[arg(long, value_name = "N", default_value_t = 20)]
        top: usize,
    },
    /// Shows the override in force.
    Get(#[command(flatten)] Place),
    /// Sets an override: set LIMIT [KEY]... unlimited|blocked|shadow|off, or set LIMIT [KEY]... --rate 100/60s.
    ///
    /// --rate, --quota and --max each change one window of the limit and leave its other windows as they are; together
    /// they change several. A new override replaces the override that was set before. Instead of a word, JSON such as
    /// '{"fixed_window": {"max_requests": 10, "window": "60s"}}' sets windows of any kind.
    Set {
        /// The limit's name.
        limit: String,
        /// The values of a key, none for the whole limit; then, without --rate, --quota or --max, a word or JSON.
        #[arg(value_name = "KEY|RULING")]
        words: Vec<String>,
        #[command(flatten)]
        numbers: Numbers,
        /// Time until the override expires, such as 90s, 10m, 12h or 7d; without --for, it lasts until it is unset.
        #[arg(long = "for", value_name = "TIME")]
        lasting: Option<String>,
        /// The key is given as `list` shows it, not as its values.
        #[arg(long)]
        encoded: bool,
    },
    /// Removes an override.
    Unset(#[command(flatten)] Place),
    /// Shows the tokens left to a key, and spends nothing.
    Peek {
        #[command(flatten)]
        place: Place,
        /// Cost of the request, in tokens.
        #[arg(long, default_value_t = 1, value_name = "TOKENS")]
        cost: u64,
    },
    /// Deletes a key's buckets, which makes them full. Requests in flight no longer count.
    Reset(#[command(flatten)] Place),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The limit's name.
    limit: String,
    /// The key's values, one for each entry of the limit's descriptor.
    key: Vec<String>,
    /// The key is given as `list` shows it, not as its values.
    #[arg(long)]
    encoded: bool,
}

pub(super) fn run(arguments: &Limits) -> anyhow::Result<ExitCode> {
    match arguments.perform(&mut io::stdout().lock()) {
        // The reader closed the pipe, for example `head`.
        Err(LimitsError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => Ok(done.map(|()| ExitCode::SUCCESS)?),
    }
}

impl Limits {
    /// Parses the arguments after `weir limits`.
    ///
    /// # Errors
    /// The error in the arguments, or the help text if they ask for it.
    pub fn parse(arguments: &[&str]) -> Result<Self, clap::Error> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("limits").no_binary_name(true));
        <Self as clap::FromArgMatches>::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    /// Runs the command and writes its result to `out`.
    ///
    /// # Errors
    /// If the arguments do not fit the configuration, Redis fails, or `out` cannot be written.
    pub fn perform(&self, out: &mut dyn Write) -> Result<(), LimitsError> {
        let configured = Configured::load(self.config.as_deref(), self.key_prefix.as_deref())?;
        let connect = || Store::connect(&self.redis);
        match &self.action {
            Action::List { limit, limited, top } => {
                let limits = configured.selected(limit.as_deref())?;
                list::run(&mut connect()?, &limits, limited.then_some(*top), *top, out)
            }
            Action::Get(place) => get(&mut connect()?, &place.target(&configured)?, out),
            Action::Set { limit, words, numbers, lasting, encoded } => {
                let limit = configured.limit(limit)?;
                let wanted = Wanted::of(limit, words, numbers, lasting.as_deref())?;
                let target = limit.target(wanted.key, *encoded)?;
                set(&mut connect()?, &target, &wanted, out)
            }
            Action::Unset(place) => unset(&mut connect()?, &place.target(&configured)?, out),
            Action::Peek { place, cost } => peek::run(&mut connect()?, &place.bucket(&configured)?, Tokens(*cost), out),
            Action::Reset(place) => reset(&mut connect()?, &place.bucket(&configured)?, out),
        }
    }
}

impl Place {
    fn target<'a>(&self, configured: &'a Configured) -> Result<Target<'a>, LimitsError> {
        configured.limit(&self.limit)?.target(&self.key, self.encoded)
    }

    fn bucket<'a>(&self, configured: &'a Configured) -> Result<Target<'a>, LimitsError> {
        configured.limit(&self.limit)?.bucket(&self.key, self.encoded)
    }
}

fn get(store: &mut Store, target: &Target<'_>, out: &mut dyn Write) -> Result<(), LimitsError> {
    let own = store.setting(&target.limit.overrides(), &target.field())?;
    if let Some(malformed @ Found::Malformed(_)) = own {
        writeln!(out, "{target}: {}", ruling_and_rest(&malformed))?;
    }
    match in_force(store, target)? {
        None => writeln!(out, "{target}: no override")?,
        Some((found, is_own)) => {
            let inherited = if is_own { "" } else { ", as all of the limit" };
            writeln!(out, "{target}: {}{inherited}", ruling_and_rest(&found))?;
        }
    }
    Ok(())
}

fn set(store: &mut Store, target: &Target<'_>, wanted: &Wanted<'_>, out: &mut dyn Write) -> Result<(), LimitsError> {
    let hash = target.limit.overrides();
    let now = store.time()?;
    let value = wanted.value(now)?;
    store.sweep(&hash, now)?;
    let total = store.set(&hash, &target.field(), &value)?;
    let set = match Found::read(value.as_bytes(), now) {
        Found::InForce { ruling, .. } => Found::InForce { ruling, left: wanted.lasting },
        other => other,
    };
    writeln!(out, "{target}: {}", ruling_and_rest(&set))?;
    if total > weir_filter::overrides::MAX_ENTRIES as u64 {
        let most = weir_filter::overrides::MAX_ENTRIES;
        writeln!(out, "there are {total} overrides now, of which a worker keeps {most}")?;
    }
    Ok(())
}

fn unset(store: &mut Store, target: &Target<'_>, out: &mut dyn Write) -> Result<(), LimitsError> {
    let hash = target.limit.overrides();
    let was_set = store.unset(&hash, &target.field())?;
    let now = store.time()?;
    store.sweep(&hash, now)?;
    writeln!(out, "{target}: {}", if was_set { "no override any more" } else { "there was no override" })?;
    Ok(())
}

fn reset(store: &mut Store, target: &Target<'_>, out: &mut dyn Write) -> Result<(), LimitsError> {
    let overridden = in_force(store, target)?;
    let windows = target.limit.windows_under(overridden.as_ref().and_then(|(found, _)| found.ruling()));
    let both: [&Algorithms; 2] = [&target.limit.windows, &windows];
    let check = both.into_iter().flat_map(|windows| windows.checks(0, target.key(), Tokens(0), true));
    let keys: BTreeSet<Vec<u8>> = check.map(|check| check.key).collect();
    let was_there = store.reset(&keys.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    writeln!(
        out,
        "{target}: {}",
        if was_there { "deleted, so it is full" } else { "there is no such bucket: it is full" }
    )?;
    Ok(())
}

/// The override in force for the target: its own (`true`), otherwise the override of its limit (`false`).
fn in_force(store: &mut Store, target: &Target<'_>) -> Result<Option<(Found, bool)>, LimitsError> {
    let hash = target.limit.overrides();
    let is_in_force = |found: &Found| found.ruling().is_some();
    if let Some(own) = store.setting(&hash, &target.field())?.filter(is_in_force) {
        return Ok(Some((own, true)));
    }
    let of_limit = store.setting(&hash, target.limit.name.as_bytes())?;
    Ok(of_limit.filter(is_in_force).map(|found| (found, false)))
}

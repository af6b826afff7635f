//! `weir limits`: shows and changes limits at run time. The command talks only to Redis, never to a proxy.
//!
//! Overrides are written where the workers read them, in the format of `weir_filter::overrides`. Buckets are read by the
//! filter's own script, without its writes. The command never blocks Redis: it reads keys with SCAN.

mod access;
pub(crate) mod change;
mod cluster;
pub(crate) mod configured;
pub(crate) mod emptiest;
mod endpoint;
mod error;
pub(crate) mod found;
pub(crate) mod list;
pub(crate) mod live;
mod migrate;
mod nodes;
mod offline;
mod peek;
mod reason;
pub(crate) mod render;
mod sentinel;
mod server;
mod source;
pub(crate) mod span;
pub(crate) mod store;
mod stored;
mod tls;
mod url;
mod wanted;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use weir_filter::units::Tokens;

pub use self::error::{LimitsError, Misread, OpenError, SentinelError, TlsError, UrlError};
pub(crate) use self::offline::Change;

pub(crate) use self::access::Access;
use self::configured::{Configured, Target};
use self::found::Found;
use self::list::Selection;
use self::render::{key_json, override_json, ruling_and_rest};
pub(crate) use self::server::RedisOptions;
use self::store::Store;
use self::wanted::{Lasting, Numbers, Wanted};
use crate::output::{Notes, OutputError};

/// Arguments of `weir limits`.
#[derive(Debug, clap::Args)]
pub struct Limits {
    #[command(flatten)]
    access: Access,
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
        /// Maximum number of rows in a table: overrides of keys of each limit, buckets.
        #[arg(long, value_name = "N", default_value_t = 20)]
        top: usize,
        /// Form of the output; json is one object per line, with all overrides.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,
    },
    /// Shows the override in force.
    Get {
        #[command(flatten)]
        place: Place,
        /// Form of the output.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,
    },
    /// Sets an override: set LIMIT [KEY]... unlimited|blocked|shadow|off, or set LIMIT [KEY]... --max 10.
    ///
    /// --rate and --quota each change one window of the limit and leave its other windows as they are; together they
    /// change several. --max is the number of a limit's only window, --times multiplies those of all windows. A new
    /// override replaces the override that was set before; spent tokens stay spent. Instead of a word, JSON such as
    /// '{"fixed_window": {"max_requests": 10, "window": "60s"}}' sets windows of any kind.
    Set {
        /// The limit's name.
        limit: String,
        /// The values of a key, none for the whole limit; then, without numbers, a word or JSON.
        #[arg(value_name = "KEY|RULING")]
        words: Vec<String>,
        #[command(flatten)]
        numbers: Numbers,
        #[command(flatten)]
        lasting: Lasting,
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
        /// Form of the output.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,
    },
    /// Deletes a key's buckets, which makes them full. Requests in flight no longer count.
    Reset(#[command(flatten)] Place),
    /// Moves overrides of keys that an earlier version wrote, from the hash of overrides to the keys' buckets.
    ///
    /// Workers read both. It can be run at any time and again; malformed overrides are reported and left.
    Migrate,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON, one object per line.
    Json,
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
    let mut out = io::stdout().lock();
    match arguments.perform(&mut out, &mut Notes).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(LimitsError::Output(error)) => Err(OutputError::from(error).into()),
        // The texts of these errors contain their causes.
        Err(error) => Err(anyhow::Error::msg(error.to_string())),
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

    /// Runs the command and writes its result to `out`, and to `notes` what else an operator should know.
    ///
    /// # Errors
    /// If the arguments do not fit the configuration, Redis fails, or `out` or `notes` cannot be written.
    pub fn perform(&self, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), LimitsError> {
        let (source, configured) = self.access.load()?;
        self.action.run(&configured, &|| self.access.connect(source.as_ref()), out, notes)
    }
}

impl Action {
    /// Runs the command for these limits.
    fn run(
        &self,
        configured: &Configured,
        connect: &dyn Fn() -> Result<Store, LimitsError>,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<(), LimitsError> {
        match self {
            Self::List { limit, limited, top, format } => {
                configured.selected(limit.as_deref())?;
                let selection = Selection { limit: limit.as_deref(), limited: *limited, rows: *top, format: *format };
                list::run(&mut connect()?, configured, &selection, out)
            }
            Self::Get { place, format } => {
                let target = place.former(configured)?;
                target.note_form(place.encoded, notes)?;
                get(&mut connect()?, configured, &target, *format, out)
            }
            Self::Set { limit, words, numbers, lasting, encoded } => {
                let limit = configured.limit(limit)?.overridable()?;
                let wanted = Wanted::of(&limit, words, *encoded, numbers, lasting)?;
                let target = limit.target(wanted.key, *encoded)?;
                target.note_form(*encoded, notes)?;
                change::set(&mut connect()?, &target, &wanted, out, notes)
            }
            Self::Unset(place) => {
                let target = place.former(configured)?;
                target.note_form(place.encoded, notes)?;
                change::unset(&mut connect()?, configured, &target, out, notes)
            }
            Self::Peek { place, cost, format } => {
                let target = place.bucket(configured)?;
                peek::run(&mut connect()?, &target, Tokens(*cost), *format, out)
            }
            Self::Reset(place) => {
                let target = place.bucket(configured)?;
                change::reset(&mut connect()?, &target, out, notes)
            }
            Self::Migrate => {
                let mut store = connect()?;
                change::note_place(&store, notes)?;
                migrate::run(&mut store, configured, out)
            }
        }
    }
}

impl Place {
    /// A limit or a key, also of a limit that is not in the configuration any more.
    fn former(&self, configured: &Configured) -> Result<Target, LimitsError> {
        configured.limit_or_former(&self.limit)?.target(&self.key, self.encoded)
    }

    /// A key of a configured limit.
    fn bucket(&self, configured: &Configured) -> Result<Target, LimitsError> {
        if !configured.is_known {
            return Err(LimitsError::NeedsConfig);
        }
        configured.limit(&self.limit)?.bucket(&self.key, self.encoded)
    }
}

fn get(
    store: &mut Store,
    configured: &Configured,
    target: &Target,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let limit = Some(&target.limit);
    let malformed = store.own(target)?.filter(Found::is_malformed);
    let found = in_force(store, target)?;
    if malformed.is_none() && found.is_none() && configured.is_missing(&target.limit) {
        return Err(configured.unknown_limit(&target.limit.name));
    }
    if format == Format::Json {
        let json = json!({
            "key_prefix": target.limit.key_prefix,
            "limit": target.limit.name,
            "key": key_json(&target.field()),
            "override": found.as_ref().map(|(found, _)| override_json(found, limit)),
            "inherited": found.as_ref().is_some_and(|(_, is_own)| !is_own),
            "ignored": malformed.as_ref().map(|found| override_json(found, limit)),
        });
        return Ok(writeln!(out, "{json}")?);
    }
    if let Some(malformed) = malformed {
        writeln!(out, "{target}: {}", ruling_and_rest(&malformed, limit))?;
    }
    match found {
        None => writeln!(out, "{target}: no override")?,
        Some((found, is_own)) => {
            let inherited = if is_own { "" } else { ", as all of the limit" };
            writeln!(out, "{target}: {}{inherited}", ruling_and_rest(&found, limit))?;
        }
    }
    Ok(())
}

/// The override in force for the target: its own (`true`), otherwise the override of its limit (`false`).
pub(crate) fn in_force(store: &mut Store, target: &Target) -> Result<Option<(Found, bool)>, LimitsError> {
    let is_in_force = |found: &Found| found.ruling().is_some();
    if let Some(own) = store.own(target)?.filter(is_in_force) {
        return Ok(Some((own, true)));
    }
    let of_limit = store.of_limit(&target.limit.key_prefix, &target.limit.name)?;
    Ok(of_limit.filter(is_in_force).map(|found| (found, false)))
}

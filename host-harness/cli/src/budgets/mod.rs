//! `weir budgets`: shows, gives back and exports what keys have spent of limits with a charge.
//!
//! The command talks only to Redis. Spending of the present window and of the one before is in the budgets' states; that
//! of earlier windows is the sum of the ledger's entries, each of which says which windows it has changed, and by how
//! much.

mod amount;
mod charged;
mod credit;
mod error;
mod export;
mod get;
mod group;
mod ledger;
mod list;
pub(crate) mod live;
mod period;
mod record;
mod sums;

use std::io::{self, Write};
use std::process::ExitCode;

use weir_filter::limit::CreditAmount;

pub use self::error::BudgetsError;

use self::charged::{ChargedLimits, Stream, ledger_of, unit};
use self::list::Selection;
use self::period::WindowChoice;
use crate::limits::configured::{Configured, Limit, Target};
use crate::limits::{Access, LimitsError};
use crate::output::{Notes, OutputError, note};

/// Name of the ledger's stream after the key prefix, without a configuration.
const STREAM: &str = "events";

/// Arguments of `weir budgets`.
#[derive(Debug, clap::Args)]
pub struct Budgets {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows what all keys have spent in a window, the most first. Scans the keys of the limits, but not for past windows.
    List {
        /// Show only this limit.
        #[arg(long, value_name = "NAME")]
        limit: Option<String>,
        /// Window: current, previous, or by its date, such as 2026-09. Earlier windows are read from the ledger.
        #[arg(long, value_name = "WINDOW", default_value = "current")]
        window: WindowChoice,
        /// Maximum number of keys of each limit in a table.
        #[arg(long, value_name = "N", default_value_t = 20)]
        top: usize,
        /// Form of the output; json is one object per line, with all keys.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Form,
    },
    /// Shows the budget of a key: spent, reserved by open requests, and left.
    Get {
        #[command(flatten)]
        place: Place,
        /// The key's values, one for each entry of the limit's descriptor.
        key: Vec<String>,
        /// Window: current, previous, or by its date, such as 2026-09. Earlier windows are read from the ledger.
        #[arg(long, value_name = "WINDOW", default_value = "current")]
        window: WindowChoice,
        /// Form of the output.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Form,
    },
    /// Gives back spending of a key, at most what it has spent: credit KEY 12.50.
    ///
    /// Open reservations stay as they are. The ledger has an entry with the source `credit`.
    Credit {
        #[command(flatten)]
        place: Place,
        /// The key's values, then the amount: dollars such as 12.50, or tokens, as the limit counts.
        #[arg(value_name = "KEY|AMOUNT", required = true, allow_negative_numbers = true)]
        words: Vec<String>,
        #[command(flatten)]
        options: credit::Options,
    },
    /// Gives back all that a key has spent.
    ///
    /// Open reservations stay as they are. The ledger has an entry with the source `reset`.
    Reset {
        #[command(flatten)]
        place: Place,
        /// The key's values, one for each entry of the limit's descriptor.
        key: Vec<String>,
        #[command(flatten)]
        options: credit::Options,
    },
    /// Writes the ledger as records: what each request has cost, and which budgets that has changed.
    Export(#[command(flatten)] export::Options),
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    #[default]
    Table,
    /// JSON, one object per line.
    Json,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The limit's name; it can be left out if one limit has a charge.
    #[arg(long, value_name = "NAME")]
    limit: Option<String>,
    /// The key is given as `list` shows it, not as its values.
    #[arg(long)]
    encoded: bool,
}

pub(super) fn run(arguments: &Budgets) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match arguments.perform(&mut out, &mut Notes).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(BudgetsError::Output(error) | BudgetsError::Limits(LimitsError::Output(error))) => {
            Err(OutputError::from(error).into())
        }
        // The texts of these errors contain their causes.
        Err(error) => {
            note(&error);
            Ok(if error.is_of_arguments() { ExitCode::from(2) } else { ExitCode::FAILURE })
        }
    }
}

impl Budgets {
    /// Parses the arguments after `weir budgets`.
    ///
    /// # Errors
    /// The error in the arguments, or the help text if they ask for it.
    pub fn parse(arguments: &[&str]) -> Result<Self, clap::Error> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("budgets").no_binary_name(true));
        <Self as clap::FromArgMatches>::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    /// Runs the command and writes its result to `out`, and to `notes` what else an operator should know.
    ///
    /// # Errors
    /// If the arguments do not fit the configuration, Redis fails, or `out` or `notes` cannot be written.
    pub fn perform(&self, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), BudgetsError> {
        let (source, configured) = self.access.load()?;
        let connect = || self.access.connect(source.as_ref());
        match &self.action {
            Action::List { limit, window, top, format } => {
                let limits = ChargedLimits::of(&configured)?.selected(limit.as_deref())?;
                let selection = Selection { window, rows: *top, form: *format };
                list::run(&mut connect()?, &limits, &selection, out, notes)
            }
            Action::Get { place, key, window, format } => {
                let target = place.target(&configured, key)?;
                get::run(&mut connect()?, &target, window, *format, out)
            }
            Action::Credit { place, words, options } => {
                let Some((amount, key)) = words.split_last() else { return Err(LimitsError::NeedsConfig.into()) };
                let limit = ChargedLimits::of(&configured)?.one(place.limit.as_deref())?;
                let amount = CreditAmount::Most(unit(&limit).parse(amount)?);
                let target = limit.bucket(key, place.encoded)?;
                credit::run(&mut connect()?, &target, amount, options, out, notes)
            }
            Action::Reset { place, key, options } => {
                let target = place.target(&configured, key)?;
                credit::run(&mut connect()?, &target, CreditAmount::All, options, out, notes)
            }
            Action::Export(options) => {
                let stream = stream(&configured, options.limit())?;
                export::run(&mut connect()?, &configured, &stream, options, out, notes)
            }
        }
    }
}

impl Place {
    fn target(&self, configured: &Configured, key: &[String]) -> Result<Target, BudgetsError> {
        let limit = ChargedLimits::of(configured)?.one(self.limit.as_deref())?;
        Ok(limit.bucket(key, self.encoded)?)
    }
}

/// The ledger of the configuration; without one, that of the default name.
fn stream(configured: &Configured, limit: Option<&str>) -> Result<Stream, BudgetsError> {
    if !configured.is_known {
        let prefix = configured.prefixes.first().map_or("", String::as_str);
        return Ok(Stream { key: format!("{prefix}{STREAM}"), max_len: 0 });
    }
    let limits: Vec<&Limit> = ChargedLimits::of(configured)?.selected(limit)?;
    ledger_of(&limits)
}

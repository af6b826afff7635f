//! Errors of `weir budgets`.

use std::io;

use crate::limits::LimitsError;

/// Reasons why a `weir budgets` command failed.
#[derive(Debug, thiserror::Error)]
pub enum BudgetsError {
    /// The Redis, the configuration, or a limit or key of it.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// No limit of the configuration has a charge.
    #[error("expected a limit with `charge` in the configuration, found none")]
    NoBudgets,
    /// The limit counts requests.
    #[error("limit `{limit}` has no `charge`; expected one of {}", known.join(", "))]
    NoCharge {
        /// The limit's name.
        limit: String,
        /// Names of limits with a charge.
        known: Vec<String>,
    },
    /// Several limits have a charge.
    #[error("expected --limit with one of {}, found no --limit", known.join(", "))]
    WhichLimit {
        /// Names of limits with a charge.
        known: Vec<String>,
    },
    /// The limiter writes no ledger.
    #[error(
        "expected a ledger, found events.usage off in the limiter's configuration: past windows and exports are read \
         from it"
    )]
    NoLedger,
    /// Several limiters write ledgers of different keys.
    #[error("expected --limit with a limit of one ledger, found ledgers {}", streams.join(" and "))]
    SeveralLedgers {
        /// Keys of the streams.
        streams: Vec<String>,
    },
    /// The text names no window.
    #[error(
        "expected current, previous, or a window such as 2026, 2026-09, 2026-09-14, 2026-09-14T10 or 2026-09-14T10:30, \
         found {found:?}"
    )]
    Window {
        /// The text that was given.
        found: String,
    },
    /// The limit has windows of another kind.
    #[error("--window: limit `{limit}`: expected {expected}, found {found}")]
    OtherWindow {
        /// The limit's name.
        limit: String,
        /// The windows that the limit has.
        expected: String,
        /// The text that was given.
        found: String,
    },
    /// The window has not begun.
    #[error("--window: expected a window that has begun, found {found}, which begins at {start}")]
    FutureWindow {
        /// The text that was given.
        found: String,
        /// Start of the window.
        start: String,
    },
    /// The last word of `credit` is no amount.
    #[error("amount: expected {expected}, found {found:?}")]
    Amount {
        /// The amounts that can be given back.
        expected: &'static str,
        /// The text that was given.
        found: String,
    },
    /// The text of `--since` is no time.
    #[error("--since: expected an instant such as 2026-12-01T00:00Z, or a time such as 90s or 24h, found {found:?}")]
    Since {
        /// The text that was given.
        found: String,
    },
    /// There is no terminal on which the operator could confirm.
    #[error("expected --yes, found no terminal to ask on: {change}")]
    Unasked {
        /// The change.
        change: String,
    },
    /// The operator has not confirmed.
    #[error("not confirmed, so nothing was changed")]
    Declined,
    /// The connection broke before Redis has answered a change.
    #[error("{source}; the change may have been made: repeat it with --id {id}, which makes it once")]
    Unknown {
        /// The error.
        source: LimitsError,
        /// Name of the operation.
        id: String,
    },
    /// The reply of Redis has an unexpected form.
    #[error("redis at {address}: expected {expected}, found another reply")]
    Reply {
        /// Redis' host and port.
        address: String,
        /// The form.
        expected: &'static str,
    },
    /// The result cannot be written to standard output.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl BudgetsError {
    /// Whether the arguments or the configuration are wrong, and not Redis or the output.
    pub(super) fn is_of_arguments(&self) -> bool {
        match self {
            Self::Declined | Self::Unknown { .. } | Self::Reply { .. } | Self::Output(_) => false,
            Self::Limits(error) => error.is_of_arguments(),
            _ => true,
        }
    }
}

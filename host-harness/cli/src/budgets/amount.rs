//! Amounts of budgets: tokens, or dollars in billionths.

use std::fmt;

use weir_filter::limit::{Charged, MAX_AMOUNT};

use super::error::BudgetsError;

const DECIMALS: usize = 9;
const BILLION: u64 = 1_000_000_000;

/// Unit of a budget's amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Tokens,
    /// Billionths of a dollar.
    NanoUsd,
}

impl Unit {
    pub(super) fn of(charged: Charged) -> Self {
        match charged {
            Charged::Cost => Self::NanoUsd,
            Charged::Tokens(_) => Self::Tokens,
        }
    }

    /// Name in JSON and CSV.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::NanoUsd => "nano_usd",
        }
    }

    /// An amount as text: `1250 tokens`, or `1.25 USD` with no more decimals than it needs, and at least two.
    pub(super) fn shown(self, amount: impl Into<i128>) -> String {
        let amount = amount.into();
        match self {
            Self::Tokens => format!("{amount} token{}", if amount == 1 { "" } else { "s" }),
            Self::NanoUsd => format!("{} USD", Usd(amount)),
        }
    }

    /// Parses an amount above 0: whole tokens, or dollars with at most nine decimals.
    pub(super) fn parse(self, text: &str) -> Result<u64, BudgetsError> {
        let amount = match self {
            Self::Tokens => digits(text),
            Self::NanoUsd => nano_usd(text),
        };
        let is_possible = |amount: &u64| (1..=MAX_AMOUNT).contains(amount);
        amount.filter(is_possible).ok_or_else(|| BudgetsError::Amount {
            expected: match self {
                Self::Tokens => "whole tokens from 1 to 9007199254740991",
                Self::NanoUsd => "dollars such as 12.50, above 0, up to 9007199.254740991, with at most nine decimals",
            },
            found: text.to_owned(),
        })
    }
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn nano_usd(text: &str) -> Option<u64> {
    let (whole, decimals) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    if decimals.len() > DECIMALS {
        return None;
    }
    let nanos = digits(&format!("{decimals:0<DECIMALS$}"))?;
    digits(whole)?.checked_mul(BILLION)?.checked_add(nanos)
}

/// Billionths of a dollar as exact dollars, without zeros at the end: `12.50`, `0.00001485`.
pub(super) struct Usd(pub(super) i128);

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, amount) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, nanos) = (amount / u128::from(BILLION), amount % u128::from(BILLION));
        let decimals = format!("{nanos:09}");
        let needed = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{whole}.{}", decimals.get(..needed).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_exact() {
        for (text, nanos) in
            [("12.50", 12_500_000_000), ("0.000000001", 1), ("3", 3_000_000_000), ("9007199.254740991", MAX_AMOUNT)]
        {
            assert_eq!(Unit::NanoUsd.parse(text).unwrap(), nanos, "{text}");
        }
        let shown = [0, 1, 14_850, 12_500_000_000, -1_250_000_000, 3_000_000_000_i128].map(|n| Usd(n).to_string());
        assert_eq!(shown, ["0.00", "0.000000001", "0.00001485", "12.50", "-1.25", "3.00"]);
    }

    #[test]
    fn an_amount_that_is_none_is_refused() {
        for text in ["", "0", "0.00", "-3", "+3", "1e3", "1.", ".5", "1.0000000001", "9007199.254740992", "1,5", "x"] {
            let error = Unit::NanoUsd.parse(text).unwrap_err().to_string();
            assert!(error.ends_with(&format!("found {text:?}")), "{error}");
        }
        for text in ["", "0", "-3", "1.5", "9007199254740992", "99999999999999999999999"] {
            assert!(Unit::Tokens.parse(text).is_err(), "{text}");
        }
        assert_eq!(Unit::Tokens.parse("150000").unwrap(), 150_000);
    }
}

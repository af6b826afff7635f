//! Expectations of budgets: what is spent, and what open requests hold.

use std::fmt;

use crate::documents::{Entry, Position, Value};
use crate::reader::Reader;

/// Billionths of a token or a dollar.
const NANO: u128 = 1_000_000_000;
/// Digits behind the decimal point.
const DIGITS: usize = 9;
/// Most tokens or dollars.
const MAX_AMOUNT: u128 = 1 << 53;
const EXPECTED: &str = "a number of tokens or dollars, or a range such as 0.01..0.02";

/// Expectation of one key's budget of a limit.
#[derive(Debug, Clone)]
pub(crate) struct BudgetExpectation {
    pub(crate) limit: String,
    pub(crate) limit_place: Position,
    /// Values of the key as `weir limits` takes them; empty for a limit with one bucket.
    pub(crate) key: Vec<String>,
    pub(crate) spent: Option<(Amount, Position)>,
    pub(crate) held: Option<(Amount, Position)>,
}

/// Tokens or dollars from the first to the last number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Billionths.
    first: u128,
    last: u128,
}

/// Limits, each with a map of `key`, `spent` and `held`.
pub(super) fn budgets(node: Reader<'_>) -> Option<Vec<BudgetExpectation>> {
    let budget = |Entry { key: limit, position, value }: &Entry| {
        let node = node.of(value);
        let fields = node.fields(&["key", "spent", "held"])?;
        let value = |node: Reader<'_>| node.text("a key, or a list of its values");
        let key = fields.take("key").map_or(Some(Vec::new()), |node| match &node.node.value {
            Value::List(_) => node.list()?.map(value).collect(),
            _ => Some(vec![value(node)?]),
        });
        let placed = |name: &str| match fields.take(name) {
            Some(node) => Some(Some((amount(node)?, node.place()))),
            None => Some(None),
        };
        let (spent, held) = (placed("spent"), placed("held"));
        let (spent, held) = (spent?, held?);
        if spent.is_none() && held.is_none() && !fields.has_unknown() {
            return node.refuse("expected `spent`, `held` or both");
        }
        Some(BudgetExpectation { limit: limit.clone(), limit_place: *position, key: key?, spent, held })
    };
    node.entries()?.iter().map(budget).collect()
}

fn amount(node: Reader<'_>) -> Option<Amount> {
    let parsed = match &node.node.value {
        Value::Number(number) => billionths(&number.to_string()).map(|only| Amount { first: only, last: only }),
        Value::Text(text) => text.split_once("..").and_then(|(first, last)| {
            let range = Amount { first: billionths(first.trim())?, last: billionths(last.trim())? };
            (range.first <= range.last).then_some(range)
        }),
        _ => None,
    };
    parsed.or_else(|| node.expected(EXPECTED))
}

/// Parses a number with up to 9 decimals.
fn billionths(text: &str) -> Option<u128> {
    // A small fraction as the parser of YAML writes it: `4e-7`.
    let text = match text.contains('e') {
        true => format!("{:.DIGITS$}", text.parse::<f64>().ok()?),
        false => text.to_owned(),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > DIGITS || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole: u128 = whole.parse().ok().filter(|whole| *whole <= MAX_AMOUNT)?;
    let fraction: u128 = format!("{fraction:0<DIGITS$}").parse().ok()?;
    whole.checked_mul(NANO)?.checked_add(fraction)
}

impl Amount {
    /// Whether an amount that Redis counts is as expected: nano-USD where it `is_money`, else tokens.
    pub(crate) fn accepts(self, amount: u64, is_money: bool) -> bool {
        let unit = if is_money { 1 } else { NANO };
        (self.first..=self.last).contains(&u128::from(amount).saturating_mul(unit))
    }

    /// Whether the numbers are whole.
    pub(crate) fn is_whole(self) -> bool {
        self.first.is_multiple_of(NANO) && self.last.is_multiple_of(NANO)
    }
}

/// Returns an amount that Redis counts as text: dollars where it `is_money`, else tokens.
pub(crate) fn shown(amount: u64, is_money: bool) -> String {
    if is_money { decimal(amount.into()) } else { amount.to_string() }
}

fn decimal(billionths: u128) -> String {
    let text = format!("{}.{:0>DIGITS$}", billionths / NANO, billionths % NANO);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => f.write_str(&decimal(self.first)),
            false => write!(f, "{}..{}", decimal(self.first), decimal(self.last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_to_a_billionth() {
        assert_eq!(billionths("0.00045"), Some(450_000));
        assert_eq!((billionths("4e-7"), billionths("12")), (Some(400), Some(12 * NANO)));
        for wrong in ["", ".5", "-1", "0.0000000001", "1.5.2", "a", "1e99"] {
            assert_eq!(billionths(wrong), None, "{wrong}");
        }
        let (tokens, money) = (Amount { first: NANO, last: 2 * NANO }, Amount { first: 450_000, last: 450_000 });
        assert!(tokens.accepts(2, false) && !tokens.accepts(3, false) && tokens.is_whole());
        assert!(money.accepts(450_000, true) && !money.accepts(450_001, true) && !money.is_whole());
        assert_eq!((tokens.to_string(), money.to_string()), ("1..2".to_owned(), "0.00045".to_owned()));
    }
}

//! Prices of models that operators set at run time, as fields of the hash `{prefix}prices`: `exact:NAME` or
//! `prefix:NAME`, with the fields of an item of `usage.prices` as JSON.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::setting::{MAX_VALUE, shown};
use crate::config;
use crate::table::Keyed;
use crate::usage::ModelPrice;

/// Prices that a worker keeps, at most. If the hash has more, which of them are kept is unspecified.
pub const MAX_PRICES: usize = 1_024;
/// Bytes of their fields and values, at most.
const MAX_BYTES: usize = 65_536;
const MAX_NAME: usize = 128;

/// Prices that have been read so far.
#[derive(Debug, Default)]
pub(super) struct PriceTable {
    prices: Keyed<ModelPrice>,
    /// Number of malformed entries.
    malformed: usize,
    /// Bytes of all entries.
    bytes: usize,
}

/// Returns the key of the Redis hash.
#[must_use]
pub fn prices_key(key_prefix: &str) -> String {
    [key_prefix, "prices"].concat()
}

impl PriceTable {
    /// Whether there is room for an entry.
    pub(super) fn has_room(&self, field: &[u8], value: &[u8]) -> bool {
        let bytes = self.bytes.saturating_add(field.len()).saturating_add(value.len());
        self.prices.len().saturating_add(self.malformed) < MAX_PRICES && bytes <= MAX_BYTES
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If it is malformed. The text tells its place, what was found and what was expected.
    pub(super) fn add(&mut self, field: Vec<u8>, value: &[u8]) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(field.len()).saturating_add(value.len());
        match read(&field, value) {
            Ok(price) => {
                self.prices.insert(field.into_boxed_slice(), price);
                Ok(())
            }
            Err(problem) => {
                self.malformed = self.malformed.saturating_add(1);
                Err(["field ", &shown(&field), ": ", &problem].concat())
            }
        }
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let is_known = |(field, price): &(Box<[u8]>, ModelPrice)| other.prices.get(field) == Some(price);
        self.prices.len() == other.prices.len() && self.prices.iter().all(is_known)
    }

    pub(super) fn models(&self) -> Vec<ModelPrice> {
        self.prices.iter().map(|(_, price)| price.clone()).collect()
    }
}

fn read(field: &[u8], value: &[u8]) -> Result<ModelPrice, String> {
    let pattern = str::from_utf8(field).ok().and_then(|field| field.split_once(':'));
    let (is_exact, name) = match pattern {
        Some(("exact", name)) => (true, name),
        Some(("prefix", name)) => (false, name),
        _ => (false, ""),
    };
    if !(1..=MAX_NAME).contains(&name.len()) {
        return Err("expected exact: or prefix: and a model's name of 1 to 128 bytes".to_owned());
    }
    let json = serde_json::from_slice(value).ok().filter(|_| value.len() <= MAX_VALUE);
    let Some(json) = json else {
        return Err(["expected a JSON object of at most 1024 bytes, found ", &shown(value)].concat());
    };
    config::run_time_price(name, is_exact, &json).map_err(|errors| errors.first().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Price, Rates};

    fn added(field: &str, value: &str) -> Result<ModelPrice, String> {
        let mut table = PriceTable::default();
        table.add(field.into(), value.as_bytes())?;
        Ok(table.models().remove(0))
    }

    #[test]
    fn a_price_has_the_fields_of_the_configuration() {
        let price = added("exact:anthropic.claude-v1:0", r#"{"input": 3, "output": "0.5"}"#).unwrap();
        let three = Price(3_000_000);
        let rates = Rates {
            input: three,
            cached_input: three,
            cache_write: three,
            cache_write_1h: three,
            output: Price(500_000),
        };
        let name = "anthropic.claude-v1:0".to_owned();
        assert_eq!(price, ModelPrice { name, is_exact: true, rates, above: None });
        let long = r#"{"input": 3, "above": {"input_tokens": 200000, "input": 6}}"#;
        let price = added("prefix:claude-", long).unwrap();
        assert_eq!((price.is_exact, price.above.map(|(tokens, _)| tokens)), (false, Some(200_000)));
    }

    #[test]
    fn a_malformed_price_is_refused_with_its_place() {
        let name = "x".repeat(129);
        let named = "expected exact: or prefix: and a model's name of 1 to 128 bytes";
        for field in ["gpt-4o", "exact:", "prefix:", "suffix:a", "", &["exact:", &name].concat()] {
            let refused = added(field, r#"{"input": 3}"#).unwrap_err();
            assert!(refused.starts_with("field ") && refused.ends_with(named), "{refused}");
        }
        for (value, expected) in [
            ("", "expected a JSON object of at most 1024 bytes, found "),
            ("3", "configuration: expected an object, found 3"),
            ("{\"input\": 3", "expected a JSON object of at most 1024 bytes, found {\"input\": 3"),
            ("{}", "input: expected dollars for a million tokens, found nothing"),
            (r#"{"input": -1}"#, "input: expected dollars from 0 to 1099511 with at most 6 decimals, found -1"),
            (
                r#"{"input": 1, "output": 1e300}"#,
                "output: expected dollars from 0 to 1099511 with at most 6 decimals, found a number beyond 2⁵³",
            ),
            (
                r#"{"input": 1, "model": "a"}"#,
                "model: unknown field, expected one of input, cached_input, cache_write, cache_write_1h, output, above",
            ),
        ] {
            assert_eq!(added("exact:a", value).unwrap_err(), ["field exact:a: ", expected].concat());
        }
        let long = format!(r#"{{"input": 3{}}}"#, " ".repeat(1_100));
        assert!(added("exact:a", &long).unwrap_err().contains("at most 1024 bytes"));
        assert!(added("exact:\u{1b}[31m", "1").unwrap_err().starts_with("field exact:?[31m: "));
    }

    #[test]
    fn a_table_has_bounds() {
        let mut table = PriceTable::default();
        let field = |nth: usize| format!("exact:{nth}").into_bytes();
        for nth in 0..MAX_PRICES {
            assert!(table.has_room(&field(nth), b"{\"input\": 1}"));
            table.add(field(nth), b"{\"input\": 1}").unwrap();
        }
        assert!(!table.has_room(b"exact:x", b"{\"input\": 1}"));
        let mut table = PriceTable::default();
        let value = format!("{{\"input\": 1{}}}", " ".repeat(1_000));
        let added = (0..).take_while(|nth| {
            let has_room = table.has_room(&field(*nth), value.as_bytes());
            table.add(field(*nth), value.as_bytes()).unwrap();
            has_room
        });
        assert_eq!(added.count(), 64);
    }
}

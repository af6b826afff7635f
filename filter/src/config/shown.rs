//! Values as errors show them, and values that no error may show.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};

use serde_json::Value;

use crate::double::MAX_EXACT;

/// Most characters of a value that an error shows.
pub(super) const MAX_SHOWN: usize = 60;

/// Returns the kind of a secret value, for an error: for a string with its length.
#[inline(never)]
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::String(text) => hidden(text),
        Value::Number(_) => "a number".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        list_or_object => shown(list_or_object),
    }
}

/// Returns the kind and the length of a secret text, for an error.
#[inline(never)]
pub(super) fn hidden(text: &str) -> String {
    format!("a string of {} bytes", text.len())
}

/// Whether a text may be a URL or an address with a password in it, which no error shows at any path.
#[inline(never)]
fn may_hold_password(text: &str) -> bool {
    text.as_bytes().contains(&b'@') || is_url(text)
}

#[inline(never)]
pub(super) fn is_url(text: &str) -> bool {
    text.as_bytes().windows(3).any(|window| window == b"://")
}

/// Returns a value as an error shows it: scalars as JSON, shortened; for lists and objects only the kind.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) if fields.is_empty() => "an empty object".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
        Value::Bool(true) => "true".to_owned(),
        Value::Bool(false) => "false".to_owned(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.to_string(),
            None => decimal(number.as_f64().unwrap_or(f64::INFINITY)),
        },
    }
}

/// Formats a number with up to six decimals. Exact printing of doubles would add 26 KB to the filter.
fn decimal(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude > MAX_EXACT {
        return "a number beyond 2⁵³".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 2⁵³")]
    let whole = magnitude as u64;
    let fraction = magnitude - whole as f64;
    #[expect(clippy::cast_possible_truncation, reason = "below 10⁶")]
    let (below, nearest) = ((fraction * 1e6) as u64, (fraction * 1e6 + 0.5) as u64);
    // Whether six decimals are all that there are.
    let is_exact = whole as f64 + nearest as f64 / 1e6 == magnitude;
    match if is_exact { nearest } else { below } {
        0 if is_exact => format!("{sign}{whole}"),
        millionths if is_exact => format!("{sign}{whole}.{}", format!("{millionths:06}").trim_end_matches('0')),
        millionths => format!("{sign}{whole}.{millionths:06}…"),
    }
}

/// Returns a text in quotes, shortened, with unprintable characters escaped. Of a text that may hold a password only
/// the length.
pub(crate) fn quoted(text: &str) -> String {
    if may_hold_password(text) {
        return hidden(text);
    }
    let dots = if text.chars().nth(MAX_SHOWN).is_some() { "…" } else { "" };
    let mut shown = String::from("\"");
    for char in text.chars().take(MAX_SHOWN) {
        match char {
            '"' | '\\' => shown.extend(char.escape_default()),
            // Without invisible characters and characters that change the writing direction.
            ' '..='~' | '\u{a1}'..='\u{1fff}' | '\u{2070}'..='\u{fdff}' => shown.push(char),
            _ => shown.extend(char.escape_default()),
        }
    }
    shown.push_str(dots);
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_shown_as_json() {
        for text in ["20.5", "-1", "-0.25", "0.05", "null", "true", "\"fünf\"", "9007199254740993", "0"] {
            assert_eq!(shown(&serde_json::from_str(text).unwrap()), text);
        }
        assert_eq!(shown(&json!(1e10)), "10000000000");
        assert_eq!(shown(&json!(1e-9)), "0.000000…");
        assert_eq!(shown(&json!(0.999_999_999)), "0.999999…");
        assert_eq!(shown(&json!(0.57)), "0.57");
        assert_eq!(shown(&json!(-1e300)), "a number beyond 2⁵³");
        assert_eq!(shown(&json!("a\"\\\n\u{202e}‘")), r#""a\"\\\n\u{202e}\u{2018}""#);
    }

    #[test]
    fn a_url_or_an_address_with_a_password_is_not_shown() {
        for text in ["redis://:pw@redis:6379", "rediss://redis/?password=pw", ":pw@redis", "pw@redis:6379"] {
            let expected = format!("a string of {} bytes", text.len());
            assert_eq!(
                (shown(&json!(text)), quoted(text), kind(&json!(text))),
                (expected.clone(), expected.clone(), expected)
            );
        }
    }

    #[test]
    fn of_a_secret_only_the_kind_is_shown() {
        for (value, expected) in [
            (json!("hunter2"), "a string of 7 bytes"),
            (json!(1234), "a number"),
            (json!(true), "a boolean"),
            (json!(null), "null"),
            (json!(["hunter2"]), "a list of 1"),
            (json!({"hunter2": 1}), "an object"),
        ] {
            assert_eq!(kind(&value), expected);
        }
    }
}

//! Types of scalars, by the rules of yaml-cpp as Envoy applies them.
//!
//! Envoy tries a boolean and a 64-bit integer, and takes everything else as text, also `20.0` and `1e3`. An integer beyond
//! 32 bits becomes text, too: protobuf's JSON mapping accepts text for any field of numbers, and a `Struct` keeps it.

use serde_json::Number;

use super::node::Value;

/// Value of a scalar of YAML. A scalar in quotes without a tag is text.
pub(super) fn of_yaml(text: &str, is_plain: bool, has_tag: bool) -> Value {
    if is_plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") && !has_tag {
        return Value::Null;
    }
    if !is_plain && !has_tag {
        return Value::Text(text.to_owned());
    }
    if let Some(flag) = boolean(text) {
        return Value::Bool(flag);
    }
    match integer(text) {
        Some(whole) if i32::try_from(whole).is_ok() => Value::Number(whole.into()),
        Some(whole) => Value::Text(whole.to_string()),
        None => Value::Text(text.to_owned()),
    }
}

/// Value of a scalar of JSON. `None` for a text without quotes.
pub(super) fn of_json(text: &str, is_plain: bool) -> Option<Value> {
    if !is_plain {
        return Some(Value::Text(text.to_owned()));
    }
    match serde_json::from_str(text).ok()? {
        serde_json::Value::Null => Some(Value::Null),
        serde_json::Value::Bool(flag) => Some(Value::Bool(flag)),
        serde_json::Value::Number(number) => Some(Value::Number(number)),
        _ => None,
    }
}

/// Value of a scalar by YAML 1.2's core schema. A scalar that is not plain is text.
pub(super) fn of_core(text: &str, is_plain: bool) -> Value {
    if !is_plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let radix = |prefix: &str, radix: u32| {
        // `from_str_radix` accepts a sign of its own.
        let digits =
            text.strip_prefix(prefix).filter(|digits| digits.starts_with(|first: char| first.is_digit(radix)))?;
        u64::from_str_radix(digits, radix).ok()
    };
    let is_number =
        text.trim_start_matches(['-', '+']).starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let whole = || radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| text.parse().ok()).map(Number::from);
    let negative = || text.parse::<i64>().ok().map(Number::from);
    let double = || text.parse().ok().filter(|double: &f64| double.is_finite()).and_then(Number::from_f64);
    let number = if is_number { whole().or_else(negative).or_else(double) } else { None };
    number.map_or_else(|| Value::Text(text.to_owned()), Value::Number)
}

/// A word for a boolean, in lower case, in upper case, or with a capital.
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let rest = text.get(1..)?;
    let is_one_case = text == lower || text == text.to_ascii_uppercase() || rest == lower.get(1..)?;
    match lower.as_str() {
        _ if !is_one_case => None,
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// An integer in decimal, hexadecimal (`0x1f`) or octal (`017`) digits.
fn integer(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    // `from_str_radix` accepts a sign of its own.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let whole = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if is_negative { -whole } else { whole }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        shown(of_yaml(text, true, false))
    }

    fn shown(value: Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) | Value::Map(_) => "a collection".to_owned(),
        }
    }

    #[test]
    fn plain_scalars_have_the_types_of_envoy() {
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("Null", "null"),
            ("nULL", r#""nULL""#),
            ("yes", "true"),
            ("Off", "false"),
            ("TRUE", "true"),
            ("tRUE", r#""tRUE""#),
            ("20", "20"),
            ("-1", "-1"),
            ("0x1f", "31"),
            ("017", "15"),
            ("08", r#""08""#),
            ("2147483647", "2147483647"),
            ("2147483648", r#""2147483648""#),
            ("0.5", r#""0.5""#),
            ("20.0", r#""20.0""#),
            ("1e3", r#""1e3""#),
            (".inf", r#"".inf""#),
            ("inf", r#""inf""#),
            ("1_000", r#""1_000""#),
            ("60s", r#""60s""#),
            ("+-5", r#""+-5""#),
            ("é", r#""é""#),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn a_scalar_in_quotes_is_text_unless_it_has_a_tag() {
        assert_eq!(shown(of_yaml("20", false, false)), r#""20""#);
        assert_eq!(shown(of_yaml("20", false, true)), "20");
    }

    #[test]
    fn json_has_large_integers_and_no_words() {
        assert_eq!(of_json("2147483648", true).map(shown).as_deref(), Some("2147483648"));
        assert!(of_json("yes", true).is_none() && of_json("0x10", true).is_none() && of_json("", true).is_none());
        assert_eq!(of_json("true", false).map(shown).as_deref(), Some(r#""true""#));
    }

    #[test]
    fn the_core_schema_has_floats_and_large_integers_and_no_words() {
        for (text, expected) in [
            ("", "null"),
            ("yes", r#""yes""#),
            ("True", "true"),
            ("0x1f", "31"),
            ("0o17", "15"),
            ("017", "17"),
            ("-7", "-7"),
            ("2147483648", "2147483648"),
            ("1.5", "1.5"),
            ("1e3", "1000.0"),
            ("inf", r#""inf""#),
            (".inf", r#"".inf""#),
            ("1.2.3.4", r#""1.2.3.4""#),
            ("60s", r#""60s""#),
            ("2026-01-01", r#""2026-01-01""#),
        ] {
            assert_eq!(shown(of_core(text, true)), expected, "{text}");
        }
        assert_eq!(shown(of_core("20", false)), r#""20""#);
    }
}

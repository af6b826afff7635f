//! Kinds of fields, and the values that Envoy takes for them.

use crate::check::judge::schema::package;
use crate::documents::Value;

/// Words of YAML for a boolean.
const BOOLEANS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];
/// Digits of a text of base64 in one group of three bytes.
const GROUP: usize = 4;

/// Kind of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Judged elsewhere or not at all, such as a duration.
    Other,
    /// A whole number: the least and the greatest.
    Integer(i128, i128),
    Float,
    Bool,
    Text,
    /// Bytes, as text in base64.
    Bytes,
    /// A name or a number.
    Enum,
    /// An object with any fields.
    Object,
    /// A message of any type.
    Any,
    /// A message, by its full name.
    Message(String),
}

impl Kind {
    /// The kind of a word in the line of a message.
    pub(super) fn of(text: &str, message: &str) -> Self {
        match text {
            "" => Self::Other,
            "u32" => Self::Integer(0, u32::MAX.into()),
            "i32" => Self::Integer(i32::MIN.into(), i32::MAX.into()),
            "u64" => Self::Integer(0, u64::MAX.into()),
            "i64" => Self::Integer(i64::MIN.into(), i64::MAX.into()),
            "f64" => Self::Float,
            "bool" => Self::Bool,
            "text" => Self::Text,
            "bytes" => Self::Bytes,
            "enum" => Self::Enum,
            "object" => Self::Object,
            "any" => Self::Any,
            _ => match text.strip_prefix('.') {
                Some(rest) => Self::Message(format!("{}.{rest}", package(message))),
                None => Self::Message(text.to_owned()),
            },
        }
    }

    /// Whether Envoy takes a value: numbers and booleans also as text, booleans in all words of YAML, texts never as
    /// numbers or booleans, and `null` everywhere. The fields of objects are not looked at.
    pub(super) fn takes(&self, value: &Value, is_wrapped: bool) -> bool {
        let is_object = matches!(self, Self::Object | Self::Any | Self::Message(_));
        let text = match value {
            Value::Null | Value::List(_) => return true,
            _ if *self == Self::Other => return true,
            Value::Map(_) => return is_wrapped || is_object,
            _ if is_object => return false,
            Value::Bool(_) => return *self == Self::Bool,
            Value::Text(text) => match self {
                Self::Text | Self::Enum => return true,
                Self::Bytes => return is_base64(text),
                _ => text.clone(),
            },
            Value::Number(number) => number.to_string(),
        };
        match self {
            Self::Integer(least, most) => integer(&text).is_some_and(|number| (*least..=*most).contains(&number)),
            Self::Float => text.parse::<f64>().is_ok() || matches!(text.as_str(), "Infinity" | "-Infinity"),
            Self::Bool => {
                matches!(value, Value::Text(_)) && BOOLEANS.iter().any(|word| word.eq_ignore_ascii_case(&text))
            }
            Self::Enum => integer(&text).is_some(),
            _ => false,
        }
    }

    pub(super) fn expected(&self) -> String {
        match self {
            Self::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Self::Bool => "true or false".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Bytes => "a text in base64".to_owned(),
            Self::Enum => "a name or a whole number".to_owned(),
            Self::Object | Self::Any | Self::Message(_) => "an object".to_owned(),
            Self::Float | Self::Other => "a number".to_owned(),
        }
    }
}

/// A whole number, also in hexadecimal, with an exponent or with zeros behind the point.
#[expect(clippy::cast_possible_truncation, reason = "whole and within bounds")]
fn integer(text: &str) -> Option<i128> {
    let hexadecimal = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
    if let Some(digits) = hexadecimal {
        return i128::from_str_radix(digits, 16).ok();
    }
    text.parse().ok().or_else(|| {
        let number = text.parse::<f64>().ok().filter(|number| number.fract() == 0.0 && number.abs() < 1e19)?;
        Some(number as i128)
    })
}

/// Whether protobuf takes a text for bytes: in either alphabet, and with all padding or none.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let is_digit = |digit: u8| digit.is_ascii_alphanumeric() || b"+/-_".contains(&digit);
    let is_whole = padding == 0 || padding < GROUP - 1 && text.len().is_multiple_of(GROUP);
    digits.bytes().all(is_digit) && digits.len() % GROUP != 1 && is_whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(kind: &Kind, text: &str) -> bool {
        kind.takes(&Value::Text(text.to_owned()), false)
    }

    #[test]
    fn numbers_and_booleans_may_be_texts() {
        let number = |text: &str| takes(&Kind::Integer(0, 100), text);
        assert!(["0", "100", "1e2", "7.0", "0x1", "+7"].iter().all(|text| number(text)));
        assert!(["", "a", "101", "-1", "1.5", "0o1", "1 ", "1_0"].iter().all(|text| !number(text)));
        let flag = |text: &str| takes(&Kind::Bool, text);
        assert_eq!([flag("true"), flag("yes"), flag("abc"), flag("")], [true, true, false, false]);
        assert_eq!([Kind::Float, Kind::Bool].map(|kind| kind.takes(&Value::Bool(true), false)), [false, true]);
    }

    #[test]
    fn texts_are_no_numbers_and_objects_no_texts() {
        let kinds = [Kind::Text, Kind::Bytes, Kind::Enum, Kind::Object, Kind::Any, Kind::Message("a".to_owned())];
        let takes = |value: &Value| kinds.each_ref().map(|kind| kind.takes(value, false));
        assert_eq!(takes(&Value::Text("abcd".to_owned())), [true, true, true, false, false, false]);
        assert_eq!(takes(&Value::Number(5.into())), [false, false, true, false, false, false]);
        assert_eq!(takes(&Value::Bool(true)), [false; 6]);
        assert_eq!(takes(&Value::Map(Vec::new())), [false, false, false, true, true, true]);
        assert_eq!(takes(&Value::Null), [true; 6]);
        assert!(Kind::Text.takes(&Value::Map(Vec::new()), true), "in its wrapper");
    }

    /// Envoy 1.36 and 1.40 were observed to take and refuse the same texts.
    #[test]
    fn bytes_are_base64_of_either_alphabet_with_all_padding_or_none() {
        for text in ["", "aGk=", "aGk", "aa==", "a-_=", "+/-_", "ab", "abc"] {
            assert!(takes(&Kind::Bytes, text), "{text}");
        }
        for text in ["!!!", "a", "aGk=x", "aGk==", "ab=", "====", " aGk=", "abcde", "a\n"] {
            assert!(!takes(&Kind::Bytes, text), "{text}");
        }
    }
}

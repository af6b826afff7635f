//! Fields of Envoy's messages: unknown names, and values that are no numbers or booleans.
//!
//! Each line of a table has a message and its fields: `NAME`, or `NAME=KIND` where the kind matters here. A kind is
//! `u32`, `i64`, `f64` and the like, `bool`, the same with `?` for a message around the value, `any`, or the name of a
//! message. A name that begins with a dot is of the same package; `NAME[]` is a list, or may be one, and `NAME{}` a
//! map. The tables are the union of the descriptors in Envoy 1.36 and 1.40. Messages of other builds are not in them,
//! and their fields are not judged.
//!
//! Envoy refuses unknown fields of a bootstrap, and warns of those in files that it reads later.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::schema::package;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, Message, Value, camel_case, quoted};
use crate::files::is_bootstrap;
use crate::spelling::nearest;

/// Words of YAML for a boolean.
const BOOLEANS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];
const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
const TABLES: [&str; 6] = [
    include_str!("catalog/config.txt"),
    include_str!("catalog/http_filters.txt"),
    include_str!("catalog/filters.txt"),
    include_str!("catalog/extensions_a_k.txt"),
    include_str!("catalog/extensions_l_z.txt"),
    include_str!("catalog/types.txt"),
];

/// Fields of each message, by its name.
static MESSAGES: LazyLock<HashMap<&str, Vec<Field>>> =
    LazyLock::new(|| TABLES.iter().flat_map(|table| table.lines()).map(message).collect());

/// Field of a message.
#[derive(Debug)]
struct Field {
    name: &'static str,
    /// Name in camel case, if it differs.
    camel: Option<String>,
    kind: Kind,
    is_map: bool,
    is_list: bool,
    /// Whether a message may stand around the value: `{value: 5}`.
    is_wrapped: bool,
}

/// Kind of a field's value, as far as it is judged here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A text, an enum, a duration, or free fields.
    Other,
    /// A whole number: the least and the greatest.
    Integer(i128, i128),
    Float,
    Bool,
    /// A message of any type.
    Any,
    /// A message, by its full name.
    Message(String),
}

/// Findings about a bootstrap.
pub(super) fn of_document(document: &Document) -> Vec<Finding> {
    let mut found = Vec::new();
    if is_bootstrap(document) {
        fields(&At::root(document), BOOTSTRAP, &mut found);
    }
    found
}

/// Judges the fields of a message and of the messages in them.
fn fields(at: &At<'_>, message: &str, found: &mut Vec<Finding>) {
    let Some(known) = MESSAGES.get(message) else { return };
    for (key, value) in at.entries() {
        match known.iter().find(|field| field.name == key || field.camel.as_deref() == Some(key)) {
            Some(field) if matches!(value.node.value, Value::List(_)) && !field.is_list => {
                let help = "write the value alone; Envoy refuses a list here";
                let expected = if field.is_map { "an object" } else { "one value" };
                found.push(Finding::at(rules::TYPE, &value, expected, value.kind(), help));
            }
            Some(field) if field.is_map => {
                value.entries().for_each(|(_, value)| field.judge(&value, found));
            }
            Some(field) => value.items().iter().for_each(|value| field.judge(value, found)),
            // A merge key has a finding of its own.
            None if key == "@type" || key == "<<" => {}
            None => found.push(unknown(at, &value, key, message, known)),
        }
    }
}

/// The finding about a field that a message does not have.
fn unknown(at: &At<'_>, value: &At<'_>, key: &str, message: &str, known: &[Field]) -> Finding {
    let names: Vec<&str> = known.iter().map(|field| field.name).collect();
    let help = match nearest(key, &names) {
        Some(meant) => format!("did you mean {meant}? Envoy refuses fields that it does not know"),
        None => "remove it: Envoy refuses fields that it does not know".to_owned(),
    };
    let short = message.rsplit('.').next().unwrap_or(message);
    let expected = match names.is_empty() {
        true => format!("no field of {short}, which has none"),
        false => format!("a field of {short} ({})", names.join(", ")),
    };
    Finding::at(rules::UNKNOWN_FIELD, at, expected, "an unknown field", help).at_key(value)
}

impl Field {
    /// Judges a value of this field.
    fn judge(&self, at: &At<'_>, found: &mut Vec<Finding>) {
        match &self.kind {
            Kind::Other => {}
            Kind::Any => {
                // A `TypedStruct` without a value has no fields.
                if let Some(Message { name, body, url }) = Message::of(at)
                    && (body.path != at.path || url.path.ends_with("@type"))
                {
                    fields(&body, name, found);
                }
            }
            Kind::Message(name) => fields(at, name, found),
            kind if kind.takes(&at.node.value, self.is_wrapped) => {}
            kind => {
                let shown = at.text().map_or_else(|| at.kind(), quoted);
                let help = "change the value; Envoy refuses it";
                found.push(Finding::at(rules::TYPE, at, kind.expected(), shown, help));
            }
        }
    }
}

impl Kind {
    fn of(text: &str, message: &str) -> Self {
        match text {
            "" => Self::Other,
            "u32" => Self::Integer(0, u32::MAX.into()),
            "i32" => Self::Integer(i32::MIN.into(), i32::MAX.into()),
            "u64" => Self::Integer(0, u64::MAX.into()),
            "i64" => Self::Integer(i64::MIN.into(), i64::MAX.into()),
            "f64" => Self::Float,
            "bool" => Self::Bool,
            "any" => Self::Any,
            _ => match text.strip_prefix('.') {
                Some(rest) => Self::Message(format!("{}.{rest}", package(message))),
                None => Self::Message(text.to_owned()),
            },
        }
    }

    /// Whether Envoy takes a value for a number or a boolean: also as text, and for a boolean all words of YAML.
    fn takes(&self, value: &Value, is_wrapped: bool) -> bool {
        let text = match value {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(_) => return *self == Self::Bool,
            Value::Map(_) => return is_wrapped,
            Value::Null | Value::List(_) => return true,
        };
        match self {
            Self::Integer(least, most) => integer(&text).is_some_and(|number| (*least..=*most).contains(&number)),
            Self::Float => text.parse::<f64>().is_ok() || matches!(text.as_str(), "Infinity" | "-Infinity"),
            Self::Bool => {
                matches!(value, Value::Text(_)) && BOOLEANS.iter().any(|word| word.eq_ignore_ascii_case(&text))
            }
            Self::Other | Self::Any | Self::Message(_) => true,
        }
    }

    fn expected(&self) -> String {
        match self {
            Self::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Self::Bool => "true or false".to_owned(),
            _ => "a number".to_owned(),
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

/// Parses a line of a table.
fn message(line: &'static str) -> (&'static str, Vec<Field>) {
    let mut words = line.split(' ');
    let message = words.next().unwrap_or_default();
    let field = |word: &'static str| {
        let (marked, marked_kind) = word.split_once('=').unwrap_or((word, ""));
        let kind = marked_kind.trim_end_matches('?');
        let name = marked.trim_end_matches("{}").trim_end_matches("[]");
        let camel = Some(camel_case(name)).filter(|camel| camel != name);
        let (is_map, is_list, is_wrapped) = (marked.ends_with("{}"), marked.ends_with("[]"), kind != marked_kind);
        Field { name, camel, kind: Kind::of(kind, message), is_map, is_list, is_wrapped }
    };
    (message, words.map(field).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::judge::types;

    #[test]
    fn every_message_of_a_field_and_of_a_file_is_in_the_tables() {
        let lines: usize = TABLES.iter().map(|table| table.lines().count()).sum();
        assert_eq!(MESSAGES.len(), lines, "each message is in one line");
        for (name, fields) in MESSAGES.iter() {
            for Field { name: field, kind, .. } in fields {
                if let Kind::Message(inner) = kind {
                    assert!(MESSAGES.contains_key(inner.as_str()), "{name}.{field}: {inner}");
                }
            }
        }
        let of_files = types::messages().map(|(package, message)| format!("{package}.{message}"));
        let missing: Vec<String> = of_files.filter(|name| !MESSAGES.contains_key(name.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn numbers_and_booleans_may_be_texts() {
        let number = |text: &str| Kind::Integer(0, 100).takes(&Value::Text(text.to_owned()), false);
        assert!(["0", "100", "1e2", "7.0", "0x1", "+7"].iter().all(|text| number(text)));
        assert!(["", "a", "101", "-1", "1.5", "0o1", "1 ", "1_0"].iter().all(|text| !number(text)));
        let flag = |text: &str| Kind::Bool.takes(&Value::Text(text.to_owned()), false);
        assert_eq!([flag("true"), flag("yes"), flag("abc"), flag("")], [true, true, false, false]);
        assert_eq!([Kind::Float, Kind::Bool].map(|kind| kind.takes(&Value::Bool(true), false)), [false, true]);
    }
}

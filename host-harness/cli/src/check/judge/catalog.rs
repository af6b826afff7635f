//! Fields of Envoy's messages: unknown names, and values of other types.
//!
//! Each line of a table has a message and its fields: `NAME`, or `NAME=KIND` where the kind is judged here. A kind is
//! `text`, `bytes`, `enum`, `bool`, `u32`, `i64`, `f64` and the like, the same with `?` for a message around the value,
//! `object` for free fields, `any`, or the name of a message. A name that begins with a dot is of the same package;
//! `NAME[]` is a list, or may be one, and `NAME{}` a map. The tables are the union of the descriptors in Envoy 1.36 and
//! 1.40; `catalog/extract.py` writes them. Messages of other builds are not in them, and their fields are not judged.
//!
//! Envoy refuses unknown fields of a bootstrap, and warns of those in files that it reads later.

mod kind;
mod needs;

use std::collections::HashMap;
use std::sync::LazyLock;

use self::kind::Kind;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, Message, TYPED_STRUCTS, Value, camel_case, quoted};
use crate::files::is_bootstrap;
use crate::spelling::nearest;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
/// Tables of Envoy's messages, and of those that have a form of their own beside `@type`.
const TABLES: [&str; 7] = [
    include_str!("catalog/config.txt"),
    include_str!("catalog/http_filters.txt"),
    include_str!("catalog/filters.txt"),
    include_str!("catalog/extensions_a_k.txt"),
    include_str!("catalog/extensions_l_z.txt"),
    include_str!("catalog/types.txt"),
    include_str!("catalog/protobuf.txt"),
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
    found.extend(needs::missing(at, message));
    for (key, value) in at.entries() {
        match known.iter().find(|field| field.name == key || field.camel.as_deref() == Some(key)) {
            Some(field) if matches!(value.node.value, Value::List(_)) && !field.is_list => {
                let help = "write the value alone; Envoy refuses a list here";
                let expected = if field.is_map { "an object" } else { "one value" };
                found.push(Finding::at(rules::TYPE, &value, expected, value.kind(), help));
            }
            Some(field) if field.is_map => {
                if !Kind::Object.takes(&value.node.value, false) {
                    found.push(refused(&value, &Kind::Object));
                }
                value.entries().for_each(|(_, value)| {
                    found.extend(needs::untyped_override(&value, field.name));
                    field.judge(&value, found);
                });
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
            kind if !kind.takes(&at.node.value, self.is_wrapped) => found.push(refused(at, kind)),
            Kind::Any => any(at, found),
            Kind::Message(name) => fields(at, name, found),
            _ => {}
        }
    }
}

/// Judges a message of any type.
fn any(at: &At<'_>, found: &mut Vec<Finding>) {
    if let Some((_, url)) = at.entries().find(|(key, url)| *key == "@type" && url.text().is_none() && !url.is_null()) {
        let help = "write the name of the message behind type.googleapis.com/; Envoy refuses other values";
        found.push(Finding::at(rules::TYPE, &url, "the URL of a type", url.kind(), help));
    }
    if let Some(outer) = Message::outer(at).filter(|outer| TYPED_STRUCTS.contains(&outer.name)) {
        fields(at, outer.name, found);
    }
    // A `TypedStruct` without a value has no fields.
    if let Some(Message { name, body, url }) = Message::of(at)
        && (body.path != at.path || url.path.ends_with("@type"))
    {
        fields(&body, name, found);
    }
}

/// The finding about a value of another kind.
fn refused(at: &At<'_>, kind: &Kind) -> Finding {
    // A text in the place of an object or of bytes may be a key.
    let may_be_shown = matches!(kind, Kind::Integer(..) | Kind::Float | Kind::Bool | Kind::Enum);
    let shown = at.text().filter(|_| may_be_shown).map_or_else(|| at.kind(), quoted);
    let help = match (kind, &at.node.value) {
        (Kind::Text | Kind::Bytes, Value::Bool(_)) => {
            "write it in quotes: Envoy reads the bare word as a boolean, and refuses it"
        }
        (Kind::Text | Kind::Bytes, Value::Number(_)) => {
            "write it in quotes: Envoy reads the bare value as a number, and refuses it"
        }
        _ => "change the value; Envoy refuses it",
    };
    Finding::at(rules::TYPE, at, kind.expected(), shown, help)
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
}

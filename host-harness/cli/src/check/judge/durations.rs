//! Durations that Envoy refuses, in any message that it knows.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, Message, quoted};
use crate::files::is_bootstrap;

/// Messages of Envoy 1.36 to 1.40 with durations at any depth. In each line a message, the names of its durations, and
/// its fields with such messages: `field=message`, `field{}=message` for a map. A message that begins with a dot is of
/// the same package.
const MESSAGES: &str = include_str!("durations.txt");
const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
/// Longest duration of protobuf, in seconds: 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;
/// Most decimals of a duration.
const MAX_DECIMALS: usize = 9;

/// Fields of a message on the way to durations.
#[derive(Default)]
struct Fields {
    durations: Vec<&'static str>,
    /// Fields with their messages; `true` for a map.
    messages: Vec<(&'static str, bool, String)>,
}

/// Fields by the names of their messages.
static FIELDS: LazyLock<HashMap<&str, Fields>> = LazyLock::new(|| MESSAGES.lines().map(Fields::of).collect());

/// Findings about all durations of a document.
pub(super) fn of_document(document: &Document) -> Vec<Finding> {
    let mut found = Vec::new();
    let root = At::root(document);
    if is_bootstrap(document) {
        of_message(&root, BOOTSTRAP, &mut found);
    }
    search(&root, &mut found);
    found
}

/// Looks for typed messages. A `Struct` has any fields.
fn search(at: &At<'_>, found: &mut Vec<Finding>) {
    let message = Message::of(at);
    if message.as_ref().is_some_and(|message| message.name == "google.protobuf.Struct") {
        return;
    }
    if let Some(message) = message {
        of_message(&message.body, message.name, found);
    }
    at.children().iter().for_each(|at| search(at, found));
}

/// Findings about a message and the messages in its fields, but for those of any type.
fn of_message(at: &At<'_>, name: &str, found: &mut Vec<Finding>) {
    let Some(fields) = FIELDS.get(name) else { return };
    found.extend(fields.durations.iter().filter_map(|name| refused(&at.field(name)?)));
    for (name, is_map, message) in &fields.messages {
        for value in at.each(name) {
            let values = if *is_map { value.children() } else { vec![value] };
            values.iter().filter(|value| value.is_object()).for_each(|value| of_message(value, message, found));
        }
    }
}

/// The finding about a value that is no duration.
fn refused(at: &At<'_>) -> Option<Finding> {
    if at.text().is_some_and(is_duration) || is_message(at) {
        return None;
    }
    let found = at.text().map_or_else(|| at.kind(), quoted);
    let help = "write seconds, at most nine decimals, and `s`; Envoy refuses other units, spaces and bare numbers";
    Some(Finding::at(rules::TYPE, at, "a duration such as \"0.25s\" or \"60s\"", found, help))
}

/// Whether a duration is written as its message, which Envoy takes too.
fn is_message(at: &At<'_>) -> bool {
    at.is_object() && at.entries().all(|(name, value)| matches!(name, "seconds" | "nanos") && value.integer().is_some())
}

/// Whether a text is a duration in protobuf's JSON that Envoy takes. (Envoy 1.36 and 1.40 were observed.)
fn is_duration(text: &str) -> bool {
    let Some(seconds) = text.strip_suffix('s') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, decimals) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_in_range = whole.parse().is_ok_and(|seconds: u64| seconds <= MAX_SECONDS);
    is_number(whole) && is_number(decimals) && decimals.len() <= MAX_DECIMALS && is_in_range
}

impl Fields {
    /// Parses a line of [`MESSAGES`].
    fn of(line: &'static str) -> (&'static str, Self) {
        let mut words = line.split(' ');
        let message = words.next().unwrap_or_default();
        let mut fields = Self::default();
        for word in words {
            match word.split_once('=') {
                None => fields.durations.push(word),
                Some((field, inner)) => {
                    let name = field.trim_end_matches("{}");
                    let inner = match inner.strip_prefix('.') {
                        Some(rest) => format!("{}.{rest}", package(message)),
                        None => inner.to_owned(),
                    };
                    fields.messages.push((name, name != field, inner));
                }
            }
        }
        (message, fields)
    }
}

/// Package of a message: its name up to the version.
fn package(message: &str) -> &str {
    let is_version =
        |step: &str| step.strip_prefix('v').is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()));
    let mut length = 0;
    for step in message.split('.') {
        length += step.len() + 1;
        if is_version(step) {
            return message.get(..length - 1).unwrap_or(message);
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_that_envoy_takes() {
        for text in ["1s", "01s", "0.123456789s", "0s", "315576000000s"] {
            assert!(is_duration(text), "{text}");
        }
        let wrong = ["", "s", "1", "1 s", "1sec", "1.s", ".5s", "0.1234567890s", "-1s", "+1s", "1S", "1ms", "1e3s"];
        for text in wrong.into_iter().chain(["315576000001s", "1.5 s", "1.+5s"]) {
            assert!(!is_duration(text), "{text}");
        }
    }

    #[test]
    fn every_message_of_a_field_is_listed() {
        for (name, fields) in FIELDS.iter() {
            assert!(!fields.durations.is_empty() || !fields.messages.is_empty(), "{name}");
            for (field, _, message) in &fields.messages {
                assert!(FIELDS.contains_key(message.as_str()), "{name}.{field}: {message}");
            }
        }
    }
}

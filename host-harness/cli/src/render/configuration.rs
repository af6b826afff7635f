//! The filter's configuration: all fields of the file but those of the manifests, as the filter reads them.

use serde_json::{Map, Value as Json, json};
use weir_filter::config::{self, Config};
use weir_filter::units::Micros;

use super::plan;
use crate::documents::{At, Dialect, Document, Node, Source, Value};
use crate::files::Written;
use crate::reader::Mistakes;

/// Value of a variable that the proxy has, and this process may not have: long enough for a `hash_key`.
const UNKNOWN: &str = "unknown to this process";
/// Words that YAML 1.1, and so Kubernetes, reads as booleans, and YAML 1.2 as texts.
const WORDS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];

/// Configuration that the filter accepts.
pub(super) struct Configuration {
    /// Lines of YAML: the fields of one object.
    pub(super) lines: Vec<String>,
    pub(super) reads_bodies: bool,
    /// `redis.timeout`.
    pub(super) timeout: Micros,
}

impl Configuration {
    /// Reads the fields that are not those of manifests. `implied` are the fields of `redis` that manifests imply, `null`
    /// those that are left out.
    pub(super) fn read(
        document: &Document,
        text: &str,
        implied: Map<String, Json>,
        mistakes: &Mistakes,
    ) -> Option<Self> {
        let root = At::root(document);
        let mut redis = implied;
        let own = root.field("redis");
        let is_implied = |key: &str| plan::REDIS.contains(&key) || plan::IMPLIED.iter().any(|(name, _)| *name == key);
        for (key, at) in own.iter().flat_map(At::entries).filter(|(key, _)| !is_implied(key)) {
            redis.entry(key).or_insert_with(|| at.node.to_json());
        }
        redis.retain(|_, value| !value.is_null());
        let mut whole = Map::from_iter([("redis".to_owned(), Json::Object(redis.clone()))]);
        let passed: Vec<_> = root.entries().filter(|(key, _)| !plan::FIELDS.contains(key)).collect();
        whole.extend(passed.iter().map(|(key, at)| ((*key).to_owned(), at.node.to_json())));
        let whole = Json::Object(whole);
        let config = match config::parse(whole.to_string().as_bytes(), &|_| Some(UNKNOWN.to_owned())) {
            Ok(config) => config,
            Err(errors) => {
                let written = Written::alone(root);
                errors.iter().for_each(|error| mistakes.add(written.position(error), error.to_string()));
                return None;
            }
        };
        let first = format!("redis: {}", flow(&Json::Object(redis)));
        let verbatim = verbatim(document, text).map(|lines| [vec![first.clone()], lines].concat());
        let lines = verbatim.filter(|lines| reads_as(lines, &whole)).unwrap_or_else(|| {
            let lines = passed.iter().map(|(key, at)| format!("{}: {}", quoted(key), at.node.to_json()));
            std::iter::once(first).chain(lines).collect()
        });
        Some(Self { lines, reads_bodies: reads_bodies(&config), timeout: config.redis.timeout })
    }
}

fn reads_bodies(config: &Config) -> bool {
    (0..config.limits.len()).any(|limit| config.body.is_read_by(limit))
}

/// The lines of the fields as written, with their comments. `None` if they are not each on lines of their own, or if
/// Kubernetes would read another value.
fn verbatim(document: &Document, text: &str) -> Option<Vec<String>> {
    let entries = document.root.entries();
    let is_own_line = entries.iter().all(|entry| entry.position.column == 1);
    let passed = || entries.iter().filter(|entry| !plan::FIELDS.contains(&entry.key.as_str()));
    if !is_own_line || passed().any(|entry| is_ambiguous(&entry.value)) {
        return None;
    }
    let all: Vec<&str> = text.lines().collect();
    let mut lines = Vec::new();
    for entry in passed() {
        let from = entry.position.line - 1;
        let next = entries.iter().map(|other| other.position.line - 1).filter(|line| *line > from).min();
        let slice = all.get(from..next.unwrap_or(all.len()))?;
        // Comments in front of the next field are that one's.
        let is_free = |line: &&&str| line.trim().is_empty() || line.starts_with('#') || line.starts_with("---");
        let length = slice.len() - slice.iter().rev().take_while(is_free).count();
        lines.extend(slice.iter().take(length).map(|line| (*line).to_owned()));
    }
    Some(lines)
}

/// Whether YAML 1.1 reads a text without quotes as another type.
fn is_ambiguous(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) if node.quotes.is_none() && !node.is_block => {
            let is_number = text.chars().all(|char| char.is_ascii_digit() || ":_.".contains(char));
            is_number || WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
        }
        Value::List(items) => items.iter().any(is_ambiguous),
        Value::Map(entries) => entries.iter().any(|entry| is_ambiguous(&entry.value)),
        _ => false,
    }
}

/// Whether lines are YAML of this value.
fn reads_as(lines: &[String], value: &Json) -> bool {
    let source = Source::parse_as(&lines.join("\n"), "rendered".to_owned(), Dialect::Core);
    source.only().is_ok_and(|document| document.root.to_json() == *value)
}

/// A value in YAML's flow style.
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{}: {}", quoted(key), flow(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A text, in quotes unless every YAML reads it as a text without them.
fn quoted(text: &str) -> String {
    let is_word = |char: char| char.is_ascii_alphanumeric() || "_-./".contains(char);
    let is_reserved = WORDS.iter().chain(&["true", "false", "null"]).any(|word| word.eq_ignore_ascii_case(text));
    let is_plain = text.starts_with(|char: char| char.is_ascii_alphabetic()) && text.chars().all(is_word);
    if is_plain && !is_reserved { text.to_owned() } else { json!(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_a_yaml_may_read_another_type() {
        let value = json!({"a": "weir", "b": "0.1s", "c": "on", "d": ["x y", 7, true], "app.kubernetes.io/name": ""});
        let text = flow(&value);
        assert_eq!(text, "{a: weir, app.kubernetes.io/name: \"\", b: \"0.1s\", c: \"on\", d: [\"x y\", 7, true]}");
        assert!(reads_as(&[text], &value));
    }
}

//! Reads a JSON value piece by piece and collects what is wrong with it, each error with its path.
//!
//! A reading function answers `None` once it has reported an error. A caller reads all fields of an object
//! before it looks at any answer: that is how all errors of a configuration are found at once.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::duration::{self, DurationError};
use super::error::{ConfigError, Expected, Found, Problem};
use super::spelling;
use crate::units::Micros;

/// The greatest integer up to which every integer is a double: all numbers of a protobuf `Struct` are doubles.
const MAX_EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;
/// The most characters of a value that an error repeats.
const MAX_SHOWN: usize = 60;

/// Where errors are reported.
#[derive(Default)]
pub(super) struct Report(RefCell<Vec<ConfigError>>);

impl Report {
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.0.into_inner()
    }
}

/// A value and its place in the configuration.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
    secret: bool,
    report: &'a Report,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, report: &'a Report) -> Self {
        Self { value, path: String::new(), secret: false, report }
    }

    /// The same node, whose value and all below it no error shows.
    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    pub(super) fn is_object(&self) -> bool {
        self.value.is_object()
    }

    /// Reports `problem` here.
    pub(super) fn fail<T>(&self, problem: Problem) -> Option<T> {
        let path = if self.path.is_empty() { "configuration" } else { &self.path };
        self.report.0.borrow_mut().push(ConfigError { path: path.to_owned(), problem });
        None
    }

    /// Reports that something else was `expected` here.
    pub(super) fn unexpected<T>(&self, expected: Expected) -> Option<T> {
        let found = if self.secret { Found::Redacted } else { Found::Value(shown(self.value)) };
        self.fail(Problem::Unexpected { expected, found })
    }

    /// An object with no other fields than the `known` ones.
    pub(super) fn object(&self, known: &'static [&'static str]) -> Option<Object<'a>> {
        let Value::Object(fields) = self.value else { return self.unexpected(Expected::The("an object")) };
        for (name, value) in fields {
            if !known.contains(&name.as_str()) {
                let meant = spelling::nearest(name, known);
                self.child(value, &field_step(&self.path, name)).fail::<()>(Problem::UnknownField { meant, known });
            }
        }
        Some(Object { fields, node: self.clone() })
    }

    /// An object with exactly one of the `known` fields and nothing else: that field's name and value.
    pub(super) fn one_field(&self, known: &'static [&'static str]) -> Option<(&'static str, Node<'a>)> {
        let expected = Expected::OneField(known);
        let Value::Object(fields) = self.value else { return self.unexpected(expected) };
        let mut fields = fields.iter();
        let (Some((name, value)), None) = (fields.next(), fields.next()) else { return self.unexpected(expected) };
        match known.iter().find(|known| *known == name) {
            Some(known) => Some((known, self.child(value, &field_step(&self.path, known)))),
            None if self.secret => self.unexpected(expected),
            None => {
                let meant = spelling::nearest(name, known);
                self.child(value, &field_step(&self.path, name)).fail(Problem::UnknownField { meant, known })
            }
        }
    }

    /// The text of the field `name`, with no error where there is none.
    pub(super) fn name(&self) -> Option<(&'a str, Node<'a>)> {
        let value = self.value.get("name")?;
        Some((value.as_str()?, self.child(value, ".name")))
    }

    /// A list of so many items.
    pub(super) fn list(&self, len: RangeInclusive<usize>) -> Option<Vec<Node<'a>>> {
        match self.value {
            Value::Array(items) if len.contains(&items.len()) => {
                let node = |(i, item)| self.child(item, &format!("[{i}]"));
                Some(items.iter().enumerate().map(node).collect())
            }
            _ => self.unexpected(Expected::Items { min: *len.start(), max: *len.end() }),
        }
    }

    /// What `read` makes of each item of a list of so many.
    pub(super) fn each<T>(
        &self,
        len: RangeInclusive<usize>,
        read: impl FnMut(&Node<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        // All are read before the first failure counts.
        let items: Vec<Option<T>> = self.list(len)?.iter().map(read).collect();
        items.into_iter().collect()
    }

    /// A string of so many bytes.
    pub(super) fn text(&self, len: RangeInclusive<usize>) -> Option<&'a str> {
        match self.value {
            Value::String(text) if len.contains(&text.len()) => Some(text),
            _ => self.unexpected(Expected::Text { min: *len.start(), max: *len.end() }),
        }
    }

    /// A string that is `valid`, which `expected` describes.
    pub(super) fn text_such(&self, expected: &'static str, valid: impl FnOnce(&str) -> bool) -> Option<&'a str> {
        match self.value {
            Value::String(text) if valid(text) => Some(text),
            _ => self.unexpected(Expected::The(expected)),
        }
    }

    /// One of the strings in `values`, for what stands beside it. Those in `planned` are known but not supported.
    pub(super) fn one_of<T: Copy>(&self, values: &[(&'static str, T)], planned: &[&'static str]) -> Option<T> {
        let text = self.value.as_str();
        if let Some((_, value)) = values.iter().find(|(name, _)| text == Some(name)) {
            return Some(*value);
        }
        let expected = Expected::OneOf(values.iter().map(|(name, _)| *name).collect());
        match planned.iter().find(|name| text == Some(name)) {
            Some(name) => self.fail(Problem::Unexpected { expected, found: Found::NotYetSupported(name) }),
            None => self.unexpected(expected),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.unexpected(Expected::The("true or false")))
    }

    /// A whole number, which may be written as `20.0`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        whole(self.value)
            .filter(|number| range.contains(number))
            .or_else(|| self.unexpected(Expected::Integer { min: *range.start(), max: *range.end() }))
    }

    /// A duration such as `"60s"`.
    pub(super) fn duration(&self, range: RangeInclusive<Micros>) -> Option<Micros> {
        let parsed = self.value.as_str().map_or(Err(DurationError::Form), duration::parse);
        match parsed {
            Ok(span) if range.contains(&span) => Some(span),
            Ok(_) => self.unexpected(Expected::Duration { min: *range.start(), max: *range.end() }),
            Err(DurationError::Form) => self.unexpected(Expected::The("a duration such as \"60s\"")),
            Err(DurationError::TooFine) => self.unexpected(Expected::The("a duration in whole microseconds")),
        }
    }

    fn child(&self, value: &'a Value, step: &str) -> Self {
        Node { value, path: format!("{}{step}", self.path), secret: self.secret, report: self.report }
    }
}

/// An object's fields.
pub(super) struct Object<'a> {
    fields: &'a Map<String, Value>,
    node: Node<'a>,
}

impl<'a> Object<'a> {
    /// The field `name`, where it is present. A `null` is present: it is wrong wherever it stands.
    pub(super) fn field(&self, name: &str) -> Option<Node<'a>> {
        self.fields.get(name).map(|value| self.node.child(value, &field_step(&self.node.path, name)))
    }

    /// The field `name`; its absence is an error that says what was `expected`.
    pub(super) fn required(&self, name: &str, expected: &'static str) -> Option<Node<'a>> {
        self.field(name).or_else(|| {
            let absent = self.node.child(&Value::Null, &field_step(&self.node.path, name));
            absent.fail(Problem::Unexpected { expected: Expected::The(expected), found: Found::Nothing })
        })
    }

    /// What `read` makes of the field `name`, or `default` where it is absent.
    pub(super) fn or<T>(&self, name: &str, default: T, read: impl FnOnce(&Node<'a>) -> Option<T>) -> Option<T> {
        self.field(name).map_or(Some(default), |node| read(&node))
    }

    /// What `read` makes of the field `name`, `Some(None)` where it is absent.
    pub(super) fn optional<T>(&self, name: &str, read: impl FnOnce(&Node<'a>) -> Option<T>) -> Option<Option<T>> {
        self.field(name).map_or(Some(None), |node| read(&node).map(Some))
    }
}

/// Reports every item whose key an earlier item has: `keys` in the order of the items.
pub(super) fn refuse_duplicates<K: PartialEq>(keys: &[(K, &Node<'_>)]) -> Option<()> {
    let mut unique = Some(());
    for (i, (key, node)) in keys.iter().enumerate() {
        if let Some((_, first)) = keys.iter().take(i).find(|(earlier, _)| earlier == key) {
            unique = node.fail(Problem::Duplicate { first: first.path.clone() });
        }
    }
    unique
}

/// A number without a fraction. `None` for any other value, and where doubles are no longer exact.
fn whole(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number between 0 and 2⁵³")]
    (number.fract() == 0.0 && (0.0..=MAX_EXACT_DOUBLE).contains(&number)).then_some(number as u64)
}

/// How a field is appended to its parent's path.
fn field_step(parent: &str, name: &str) -> String {
    let plain =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match (plain && name.len() <= MAX_SHOWN, parent.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!(".{name}"),
        (false, _) => format!("[{}]", quoted(name)),
    }
}

/// A value in an error: scalars as JSON, shortened; of others only the kind.
fn shown(value: &Value) -> String {
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

/// A number with up to six decimals. Exact printing of doubles would add 26 KB to the filter.
fn decimal(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude > MAX_EXACT_DOUBLE {
        return "a number beyond 2⁵³".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 2⁵³, and below 10⁶")]
    let (whole, millionths) = (magnitude as u64, (magnitude.fract() * 1e6) as u64);
    match millionths {
        0 if magnitude.fract() > 0.0 => format!("{sign}{whole}.000000…"),
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{}", format!("{millionths:06}").trim_end_matches('0')),
    }
}

fn quoted(text: &str) -> String {
    let dots = if text.chars().nth(MAX_SHOWN).is_some() { "…" } else { "" };
    let mut shown = String::from("\"");
    for char in text.chars().take(MAX_SHOWN) {
        match char {
            '"' | '\\' => shown.extend(char.escape_default()),
            // Not the invisible ones and those that turn the direction of writing.
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
    fn a_protobuf_structs_doubles_are_integers_where_they_are_whole() {
        for (number, expected) in [
            (json!(20), Some(20)),
            (json!(20.0), Some(20)),
            (json!(2e9), Some(2_000_000_000)),
            (json!(-0.0), Some(0)),
            (json!(20.5), None),
            (json!(-1), None),
            (json!(-1.0), None),
            (json!(1e300), None),
            (json!("20"), None),
        ] {
            assert_eq!(whole(&number), expected, "{number}");
        }
    }

    #[test]
    fn a_value_is_shown_as_it_was_written() {
        for text in ["20.5", "-1", "-0.25", "0.05", "null", "true", "\"fünf\"", "9007199254740993", "0"] {
            assert_eq!(shown(&serde_json::from_str(text).unwrap()), text);
        }
        assert_eq!(shown(&json!(1e10)), "10000000000");
        assert_eq!(shown(&json!(1e-9)), "0.000000…");
        assert_eq!(shown(&json!(-1e300)), "a number beyond 2⁵³");
        assert_eq!(shown(&json!("a\"\\\n\u{202e}‘")), r#""a\"\\\n\u{202e}\u{2018}""#);
    }

    #[test]
    fn a_hostile_field_name_is_escaped_and_shortened() {
        assert_eq!(field_step("limits", "a\nb"), r#"["a\nb"]"#);
        assert!(field_step("", &"x".repeat(1_000)).len() < 100);
    }
}

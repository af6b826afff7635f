//! Reader of JSON values, which collects all errors, each with its path.
//!
//! A reading function returns `None` once it has reported an error. A caller reads all fields of an object before it
//! uses any result, so that all errors of a configuration are found at once.
//!
//! No function here is inlined: each runs once for a configuration, and copies for its many callers would make the
//! filter a tenth larger.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::duration::{self, DurationError};
use super::error::{Expected, Found, Notice, Problem};
use super::report::{Report, Step};
use super::shown::{kind, shown};
use super::spelling;
use crate::double;
use crate::units::Micros;

/// Value with its place in the configuration.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    value: &'a Value,
    place: usize,
    secret: bool,
    report: &'a Report,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, report: &'a Report) -> Self {
        Self { value, place: Report::ROOT, secret: false, report }
    }

    /// The same node as a secret: errors show neither its value, nor any value or unknown name below it.
    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    pub(super) fn is_object(&self) -> bool {
        self.value.is_object()
    }

    /// Whether the value is an object with the field `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some()
    }

    /// Reports `problem` here.
    pub(super) fn fail<T>(&self, problem: Problem) -> Option<T> {
        self.report(problem);
        None
    }

    /// Reports that `expected` was expected here.
    pub(super) fn unexpected<T>(&self, expected: Expected) -> Option<T> {
        self.report_unexpected(expected);
        None
    }

    #[cold]
    #[inline(never)]
    fn report(&self, problem: Problem) {
        self.report.add(self.place, problem);
    }

    #[cold]
    #[inline(never)]
    fn report_unexpected(&self, expected: Expected) {
        let found = Found::Value(if self.secret { kind(self.value) } else { shown(self.value) });
        self.report(Problem::Unexpected { expected, found });
    }

    /// Reports that the value here was corrected.
    pub(super) fn notice(&self, notice: Notice) {
        self.report.notice(self.place, notice);
    }

    /// Reads an object with no fields other than the `known` ones.
    #[inline(never)]
    pub(super) fn object(&self, known: &'static [&'static str]) -> Option<Object<'a>> {
        let Value::Object(fields) = self.value else { return self.unexpected(Expected::The("an object")) };
        for (name, value) in fields {
            if !known.contains(&name.as_str()) {
                let meant = spelling::nearest(name, known);
                let node = if self.secret { *self } else { self.field(value, name) };
                node.report(Problem::UnknownField { meant, known });
            }
        }
        Some(Object { fields, node: *self })
    }

    /// Reads an object with exactly one of the `known` fields and no other: returns that field's name and value.
    #[inline(never)]
    pub(super) fn one_field(&self, known: &'static [&'static str]) -> Option<(&'static str, Node<'a>)> {
        let expected = Expected::OneField(known);
        let Value::Object(fields) = self.value else { return self.unexpected(expected) };
        let mut fields = fields.iter();
        let (Some((name, value)), None) = (fields.next(), fields.next()) else { return self.unexpected(expected) };
        match known.iter().find(|known| *known == name) {
            Some(known) => Some((known, self.field(value, known))),
            None if self.secret => self.unexpected(expected),
            None => {
                let meant = spelling::nearest(name, known);
                self.field(value, name).fail(Problem::UnknownField { meant, known })
            }
        }
    }

    /// Returns the text and the node of the field `name`, without an error where there is none.
    pub(super) fn name(&self) -> Option<(&'a str, Node<'a>)> {
        let value = self.value.get("name")?;
        Some((value.as_str()?, self.field(value, "name")))
    }

    /// Reads a list with a number of items within `len`.
    #[inline(never)]
    pub(super) fn list(&self, len: RangeInclusive<usize>) -> Option<Vec<Node<'a>>> {
        match self.value {
            Value::Array(items) if len.contains(&items.len()) => {
                let node = |(i, item)| self.child(item, Step::Item(i));
                Some(items.iter().enumerate().map(node).collect())
            }
            _ => self.unexpected(Expected::Items { min: *len.start(), max: *len.end() }),
        }
    }

    /// Reads each item of a list with `read`; the list must have a number of items within `len`.
    pub(super) fn each<T>(
        &self,
        len: RangeInclusive<usize>,
        read: impl FnMut(&Node<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        // All items are read before the first error counts, so that all errors are reported.
        let items: Vec<Option<T>> = self.list(len)?.iter().map(read).collect();
        items.into_iter().collect()
    }

    /// Reads a string with a length in bytes within `len`.
    #[inline(never)]
    pub(super) fn text(&self, len: RangeInclusive<usize>) -> Option<&'a str> {
        match self.value {
            Value::String(text) if len.contains(&text.len()) => Some(text),
            _ => self.unexpected(Expected::Text { min: *len.start(), max: *len.end() }),
        }
    }

    /// Reads a string that is `valid`, as `expected` describes.
    #[inline(never)]
    pub(super) fn text_matching(&self, expected: &'static str, valid: fn(&str) -> bool) -> Option<&'a str> {
        match self.value {
            Value::String(text) if valid(text) => Some(text),
            _ => self.unexpected(Expected::The(expected)),
        }
    }

    /// Reads a string of `values` and returns the value beside it. Strings in `planned` are known but not supported
    /// yet.
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

    #[inline(never)]
    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.unexpected(Expected::The("true or false")))
    }

    /// Reads a whole number, which may be written as `20.0`.
    #[inline(never)]
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        whole(self.value)
            .filter(|number| range.contains(number))
            .or_else(|| self.unexpected(Expected::Integer { min: *range.start(), max: *range.end() }))
    }

    /// Returns the value as a number, without an error where it is none.
    pub(super) fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }

    /// Reads a duration such as `"60s"`.
    #[inline(never)]
    pub(super) fn duration(&self, range: RangeInclusive<Micros>) -> Option<Micros> {
        let parsed = self.value.as_str().map_or(Err(DurationError::Form), duration::parse);
        match parsed {
            Ok(span) if range.contains(&span) => Some(span),
            Ok(_) => self.unexpected(Expected::Duration { min: *range.start(), max: *range.end() }),
            Err(DurationError::Form) => self.unexpected(Expected::The("a duration such as \"60s\"")),
            Err(DurationError::TooFine) => self.unexpected(Expected::The("a duration in whole microseconds")),
        }
    }

    fn field(&self, value: &'a Value, name: &str) -> Self {
        self.child(value, Step::Field(name.into()))
    }

    #[inline(never)]
    fn child(&self, value: &'a Value, step: Step) -> Self {
        Node { value, place: self.report.place(self.place, step), ..*self }
    }
}

/// Fields of an object.
pub(super) struct Object<'a> {
    fields: &'a Map<String, Value>,
    node: Node<'a>,
}

impl<'a> Object<'a> {
    /// The field `name`, if it is present. `null` is present, and no reading function accepts it.
    #[inline(never)]
    pub(super) fn field(&self, name: &str) -> Option<Node<'a>> {
        self.fields.get(name).map(|value| self.node.field(value, name))
    }

    /// The only one of the fields `names` that is present; their absence is an error.
    pub(super) fn exactly_one(&self, names: &'static [&'static str]) -> Option<(&'static str, Node<'a>)> {
        let absent = || {
            let expected = Expected::ExactlyOne(names);
            self.node.fail(Problem::Unexpected { expected, found: Found::Nothing })
        };
        self.one_among(names, Expected::ExactlyOne(names))?.or_else(absent)
    }

    /// The only one of the fields `names` that is present, `Some(None)` where none is.
    pub(super) fn at_most_one(&self, names: &'static [&'static str]) -> Option<Option<(&'static str, Node<'a>)>> {
        self.one_among(names, Expected::AtMostOne(names))
    }

    #[inline(never)]
    fn one_among(
        &self,
        names: &'static [&'static str],
        expected: Expected,
    ) -> Option<Option<(&'static str, Node<'a>)>> {
        let present = || names.iter().filter(|name| self.fields.contains_key(**name));
        match present().count() {
            0 | 1 => Some(present().next().and_then(|name| Some((*name, self.field(name)?)))),
            several => self.node.fail(Problem::Unexpected { expected, found: Found::Several(several) }),
        }
    }

    /// The field `name`; its absence is an error that says what was `expected`.
    #[inline(never)]
    pub(super) fn required(&self, name: &str, expected: &'static str) -> Option<Node<'a>> {
        self.field(name).or_else(|| {
            let absent = self.node.field(&Value::Null, name);
            absent.fail(Problem::Unexpected { expected: Expected::The(expected), found: Found::Nothing })
        })
    }

    /// Reads the field `name` with `read`; returns `default` where it is absent.
    pub(super) fn or<T>(&self, name: &str, default: T, read: impl FnOnce(&Node<'a>) -> Option<T>) -> Option<T> {
        self.field(name).map_or(Some(default), |node| read(&node))
    }

    /// Reads the field `name` with `read`; returns `Some(None)` where it is absent.
    pub(super) fn optional<T>(&self, name: &str, read: impl FnOnce(&Node<'a>) -> Option<T>) -> Option<Option<T>> {
        self.field(name).map_or(Some(None), |node| read(&node).map(Some))
    }
}

/// Reports every item with the same key as an earlier item; `keys` are in the order of the items.
pub(super) fn refuse_duplicates<K: PartialEq>(keys: &[(K, &Node<'_>)]) -> Option<()> {
    let mut unique = Some(());
    for (i, (key, node)) in keys.iter().enumerate() {
        if let Some((_, first)) = keys.iter().take(i).find(|(earlier, _)| earlier == key) {
            unique = node.fail(Problem::Duplicate { first: node.report.path(first.place) });
        }
    }
    unique
}

/// Returns a number without a fraction. `None` for any other value, and where doubles are no longer exact.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| u64::try_from(double::whole(value.as_f64()?)?).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_doubles_of_a_protobuf_struct_are_integers() {
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
}

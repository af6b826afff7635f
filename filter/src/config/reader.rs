//! Reader of JSON values, which collects all errors, each with its path.
//!
//! A caller reads all fields of an object before it uses any result, so that all errors of a configuration are found at
//! once.
//!
//! No function here that reads is inlined: each runs once for a configuration, and copies for its many callers would
//! make the filter a tenth larger.

use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::RangeInclusive;

use serde_json::Value;

use super::error::{Expected, Found, Notice, Problem};
use super::report::{Read, Report, Reported, Step};
use super::shown::{kind, shown};
use super::spelling;
use crate::double;
use crate::units::{DurationError, Micros};

/// Value with its place in the configuration, and the values in it.
///
/// Readers pass references on: what a field is costs each of the many callers one pointer.
pub(super) struct Node<'a> {
    value: &'a Value,
    /// Name of the field; empty for an item of a list.
    name: &'a str,
    /// Fields of an object, or items of a list.
    children: Vec<Node<'a>>,
    place: usize,
    is_secret: Cell<bool>,
    report: &'a Report,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, report: &'a Report) -> Self {
        Self::tree(value, "", Report::ROOT, report)
    }

    fn tree(value: &'a Value, name: &'a str, place: usize, report: &'a Report) -> Self {
        let child = |value, name, step| Self::tree(value, name, report.place(place, step), report);
        let children = match value {
            Value::Array(items) => items.iter().enumerate().map(|(i, item)| child(item, "", Step::Item(i))).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| child(value, name, Step::Field(name.as_str().into()))).collect()
            }
            _ => Vec::new(),
        };
        Self { value, name, children, place, is_secret: Cell::new(false), report }
    }

    /// Makes the node a secret: errors show neither its value, nor any value or unknown name below it.
    pub(super) fn secret(&self) -> &Self {
        self.is_secret.set(true);
        self.children.iter().for_each(|child| {
            child.secret();
        });
        self
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    /// Whether the value is this text.
    pub(super) fn is_text_of(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }

    pub(super) fn is_object(&self) -> bool {
        self.value.is_object()
    }

    /// Whether the value is an object with the field `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.child(name).is_some()
    }

    /// The field `name` of an object.
    #[inline(never)]
    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name && self.is_object())
    }

    /// Reports `problem` here.
    #[cold]
    #[inline(never)]
    pub(super) fn fail(&self, problem: Problem) -> Reported {
        self.report.add(self.place, problem)
    }

    /// Reports that `expected` was expected here.
    #[cold]
    #[inline(never)]
    pub(super) fn unexpected(&self, expected: Expected) -> Reported {
        let found = Found::Value(if self.is_secret.get() { kind(self.value) } else { shown(self.value) });
        self.fail(Problem::Unexpected { expected, found })
    }

    /// Reports that what `words` describe was expected here.
    #[cold]
    #[inline(never)]
    pub(super) fn expected(&self, words: &'static str) -> Reported {
        self.unexpected(Expected::The(words))
    }

    /// Reports that the value here was corrected.
    pub(super) fn notice(&self, notice: Notice) {
        self.report.notice(self.place, notice);
    }

    /// Reads an object with no fields other than the `known` ones.
    #[inline(never)]
    pub(super) fn object(&self, known: &'static [&'static str]) -> Read<Object<'_>> {
        if !self.is_object() {
            return Err(self.expected("an object"));
        }
        for child in &self.children {
            if !known.contains(&child.name) {
                let meant = spelling::nearest(child.name, known);
                let node = if self.is_secret.get() { self } else { child };
                node.fail(Problem::UnknownField { meant, known });
            }
        }
        Ok(Object(self))
    }

    /// Reads an object with exactly one of the `known` fields and no other: returns that field's name and value.
    #[inline(never)]
    pub(super) fn one_field(&self, known: &'static [&'static str]) -> Read<(&'static str, &Self)> {
        let expected = Expected::OneField(known);
        let [child] = self.children.as_slice() else { return Err(self.unexpected(expected)) };
        match known.iter().find(|known| **known == child.name) {
            _ if !self.is_object() => Err(self.unexpected(expected)),
            Some(known) => Ok((known, child)),
            None if self.is_secret.get() => Err(self.unexpected(expected)),
            None => {
                let meant = spelling::nearest(child.name, known);
                Err(child.fail(Problem::UnknownField { meant, known }))
            }
        }
    }

    /// Returns the text and the node of the field `name`, without an error where there is none.
    pub(super) fn name(&self) -> Option<(&'a str, &Self)> {
        let child = self.child("name")?;
        Some((child.value.as_str()?, child))
    }

    /// Reads a list with a number of items within `len`.
    #[inline]
    pub(super) fn list(&self, len: RangeInclusive<usize>) -> Read<&[Self]> {
        let (min, max) = len.into_inner();
        self.list_within(min, max)
    }

    // Here and below, a call that passes two bounds takes half of the bytes of one that passes a range.
    #[inline(never)]
    fn list_within(&self, min: usize, max: usize) -> Read<&[Self]> {
        if self.value.is_array() && (min..=max).contains(&self.children.len()) {
            return Ok(&self.children);
        }
        Err(self.unexpected(Expected::Items { min, max }))
    }

    /// Reads each item of a list with `read`; the list must have a number of items within `len`.
    pub(super) fn each<'n, T>(
        &'n self,
        len: RangeInclusive<usize>,
        read: impl FnMut(&'n Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        // All items are read before the first error counts, so that all errors are reported.
        let items: Vec<Read<T>> = self.list(len)?.iter().map(read).collect();
        items.into_iter().collect()
    }

    /// Reads a string with a length in bytes within `len`.
    #[inline]
    pub(super) fn text(&self, len: RangeInclusive<usize>) -> Read<&'a str> {
        let (min, max) = len.into_inner();
        self.text_within(min, max)
    }

    #[inline(never)]
    fn text_within(&self, min: usize, max: usize) -> Read<&'a str> {
        match self.value {
            Value::String(text) if (min..=max).contains(&text.len()) => Ok(text),
            _ => Err(self.unexpected(Expected::Text { min, max })),
        }
    }

    /// Reads a string that is `valid`, as `expected` describes.
    #[inline(never)]
    pub(super) fn text_matching(&self, expected: &'static str, valid: fn(&str) -> bool) -> Read<&'a str> {
        match self.value {
            Value::String(text) if valid(text) => Ok(text),
            _ => Err(self.expected(expected)),
        }
    }

    /// Reads a string of up to `max` bytes with `parse`, as `expected` describes.
    pub(super) fn parsed<T>(&self, expected: &'static str, max: usize, parse: fn(&str) -> Option<T>) -> Read<T> {
        let text = self.text_matching(expected, |_| true)?;
        let parsed = Some(text).filter(|text| text.len() <= max).and_then(parse);
        parsed.ok_or_else(|| self.expected(expected))
    }

    /// Reads a string of `values` and returns the value beside it.
    pub(super) fn one_of<T: Copy>(&self, values: &[(&'static str, T)]) -> Read<T> {
        let text = self.value.as_str();
        if let Some((_, value)) = values.iter().find(|(name, _)| text == Some(name)) {
            return Ok(*value);
        }
        Err(self.none_of(&|nth| values.get(nth).map(|(name, _)| *name)))
    }

    /// Reports that one of the values was expected here whose names `name` returns by their indexes.
    #[cold]
    #[inline(never)]
    fn none_of(&self, name: &dyn Fn(usize) -> Option<&'static str>) -> Reported {
        self.unexpected(Expected::OneOf((0..).map_while(name).collect()))
    }

    #[inline(never)]
    pub(super) fn boolean(&self) -> Read<bool> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// Reads a whole number, which may be written as `20.0`.
    #[inline]
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Read<u64> {
        let (min, max) = range.into_inner();
        self.integer_within(min, max)
    }

    #[inline(never)]
    fn integer_within(&self, min: u64, max: u64) -> Read<u64> {
        let number = whole(self.value).filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| self.no_integer(min, max))
    }

    /// Reads a whole number as the type that `convert` makes of it.
    pub(super) fn integer_as<T>(&self, range: RangeInclusive<u64>, convert: fn(u64) -> Option<T>) -> Read<T> {
        let (min, max) = range.into_inner();
        convert(self.integer_within(min, max)?).ok_or_else(|| self.no_integer(min, max))
    }

    #[cold]
    #[inline(never)]
    fn no_integer(&self, min: u64, max: u64) -> Reported {
        self.unexpected(Expected::Integer { min, max })
    }

    /// Returns the value as a number, without an error where it is none.
    pub(super) fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }

    /// Returns the value as a number that may have a fraction, without an error where it is none. Envoy passes such a
    /// number on as text where its configuration is YAML.
    #[inline(never)]
    pub(super) fn decimal(&self) -> Option<f64> {
        match self.value {
            Value::String(text) => serde_json::from_slice::<Value>(text.as_bytes()).ok()?.as_f64(),
            other => other.as_f64(),
        }
    }

    /// Reads a duration such as `"60s"`.
    #[inline]
    pub(super) fn duration(&self, range: RangeInclusive<Micros>) -> Read<Micros> {
        let (min, max) = range.into_inner();
        self.duration_within(min, max)
    }

    #[inline(never)]
    fn duration_within(&self, min: Micros, max: Micros) -> Read<Micros> {
        let parsed = self.value.as_str().map_or(Err(DurationError::Form), Micros::parse);
        let expected = match parsed {
            Ok(span) if (min..=max).contains(&span) => return Ok(span),
            Ok(_) => Expected::Duration { min, max },
            Err(DurationError::Form) => Expected::The("a duration such as \"60s\", \"15m\" or \"1h30m\""),
            Err(DurationError::TooFine) => Expected::The("a duration in whole microseconds"),
        };
        Err(self.unexpected(expected))
    }
}

/// Fields of an object.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(&'a Node<'a>);

impl<'a> Object<'a> {
    /// The field `name`, if it is present. `null` is present, and no reading function accepts it.
    pub(super) fn field(self, name: &str) -> Option<&'a Node<'a>> {
        self.0.child(name)
    }

    /// The only one of the fields `names` that is present; their absence is an error.
    pub(super) fn exactly_one(self, names: &'static [&'static str]) -> Read<(&'static str, &'a Node<'a>)> {
        let absent = || {
            let expected = Expected::ExactlyOne(names);
            self.0.fail(Problem::Unexpected { expected, found: Found::Nothing })
        };
        self.one_among(names, Expected::ExactlyOne(names))?.ok_or_else(absent)
    }

    /// The only one of the fields `names` that is present, `None` where none is.
    pub(super) fn at_most_one(self, names: &'static [&'static str]) -> Read<Option<(&'static str, &'a Node<'a>)>> {
        self.one_among(names, Expected::AtMostOne(names))
    }

    #[inline(never)]
    fn one_among(
        self,
        names: &'static [&'static str],
        expected: Expected,
    ) -> Read<Option<(&'static str, &'a Node<'a>)>> {
        let present = || names.iter().filter_map(|name| Some((*name, self.field(name)?)));
        match present().count() {
            0 | 1 => Ok(present().next()),
            several => Err(self.0.fail(Problem::Unexpected { expected, found: Found::Several(several) })),
        }
    }

    /// The field `name`; its absence is an error that says what was `expected`.
    #[inline(never)]
    pub(super) fn required(self, name: &str, expected: &'static str) -> Read<&'a Node<'a>> {
        self.field(name).ok_or_else(|| {
            let Node { report, place, .. } = self.0;
            let absent = report.place(*place, Step::Field(name.into()));
            report.add(absent, Problem::Unexpected { expected: Expected::The(expected), found: Found::Nothing })
        })
    }

    /// Reads the field `name` with `read`; returns `default` where it is absent.
    pub(super) fn or<T>(self, name: &str, default: T, read: impl FnOnce(&'a Node<'a>) -> Read<T>) -> Read<T> {
        self.field(name).map_or(Ok(default), read)
    }

    /// Reads the field `name` with `read`; returns `None` where it is absent.
    pub(super) fn optional<T>(self, name: &str, read: impl FnOnce(&'a Node<'a>) -> Read<T>) -> Read<Option<T>> {
        self.field(name).map(read).transpose()
    }
}

/// Reports every item with the same key as an earlier item; `keys` are in the order of the items.
pub(super) fn refuse_duplicates<K: PartialEq>(keys: &[(K, &Node<'_>)]) -> Read<()> {
    let mut unique = Ok(());
    for (i, (key, node)) in keys.iter().enumerate() {
        if let Some((_, first)) = keys.iter().take(i).find(|(earlier, _)| earlier == key) {
            unique = Err(node.fail(Problem::Duplicate { first: node.report.path(first.place) }));
        }
    }
    unique
}

/// Returns a number without a fraction. `None` for any other value, and where doubles are no longer exact. Envoy passes
/// an integer beyond 32 bits on as text where its configuration is YAML.
fn whole(value: &Value) -> Option<u64> {
    if let Value::String(text) = value {
        return text.parse().ok().filter(|number| *number > i32::MAX.unsigned_abs().into());
    }
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
            (json!("2147483647"), None),
            (json!("2147483648"), Some(2_147_483_648)),
            (json!("9007199254740993"), Some(9_007_199_254_740_993)),
            (json!("-2147483649"), None),
            (json!("4294967296.0"), None),
            (json!("18446744073709551616"), None),
        ] {
            assert_eq!(whole(&number), expected, "{number}");
        }
    }
}

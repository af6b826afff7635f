//! Field `usage.format`: the places and headers in which responses tell usage.

use alloc::vec::Vec;

use super::error::Expected;
use super::reader::{Node, Object};
use super::report::Read;
use super::source::{is_token, pointer};
use crate::descriptor::JsonPointer;
use crate::usage::{Field, Format};

const FIELDS: &[&str] =
    &["input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "total", "inside"];
/// Fields of responses, each with its meaning. The first three tell usage, each alone.
const TOLD: [(&str, Field); 7] = [
    ("input", Field::Prompt),
    ("output", Field::Completion),
    ("total", Field::Total),
    ("cache_read", Field::CacheRead),
    ("cache_write", Field::CacheWrite),
    ("cache_write_1h", Field::CacheWriteHour),
    ("reasoning", Field::Thoughts),
];
const MAX_POINTERS: usize = 4;
const MAX_STEPS: usize = 8;
const MAX_NAME: usize = 32;
const NAME: &str = "a format such as \"auto\", or an object such as {pointers: {input: [/usage/in]}}";
const PLACE: &str = "a JSON pointer of 1 to 8 steps, such as /usage/input";
const HEADER: &str = "a header's name";
const APART: &str = "places of which none is or contains another";

pub(super) fn read(node: &Node<'_>) -> Read<Format> {
    if !node.is_object() {
        return node.parsed(NAME, MAX_NAME, Format::named);
    }
    let (kind, node) = node.one_field(&["pointers", "headers"])?;
    let fields = node.object(FIELDS)?;
    if kind == "headers" {
        let read = |node: &Node<'_>| Ok(vec![node.text_matching(HEADER, is_token)?.to_ascii_lowercase()]);
        return told(node, &fields, &read).map(Format::of_headers);
    }
    let read = |node: &Node<'_>| node.each(1..=MAX_POINTERS, place);
    let pointers = told(node, &fields, &read)?;
    let is_apart = |(nth, (one, _)): (usize, &(JsonPointer, Field))| {
        pointers.iter().enumerate().all(|(other, (place, _))| other == nth || !place.begins_with(one))
    };
    match pointers.iter().enumerate().all(is_apart) {
        true => Ok(Format::of_pointers(pointers)),
        false => Err(node.unexpected(Expected::The(APART))),
    }
}

/// Reads what each field of responses is told by.
fn told<T>(node: &Node<'_>, fields: &Object<'_>, read: &dyn Fn(&Node<'_>) -> Read<Vec<T>>) -> Read<Vec<(T, Field)>> {
    let inside = fields.or("inside", Vec::new(), |node| {
        let kinds = [("cache_read", Field::CacheRead), ("cache_write", Field::CacheWrite)];
        node.each(0..=kinds.len(), |node| node.one_of(&kinds))
    });
    let (mut all, mut result) = (Vec::new(), Ok(()));
    for (name, field) in TOLD {
        match fields.optional(name, read) {
            Ok(places) => all.extend(places.unwrap_or_default().into_iter().map(|place| (place, field))),
            Err(reported) => result = Err(reported),
        }
    }
    let inside = inside?;
    result?;
    if !all.iter().any(|(_, field)| matches!(field, Field::Prompt | Field::Completion | Field::Total)) {
        return Err(node.unexpected(Expected::The("input, output or total")));
    }
    for (_, field) in &mut all {
        *field = match *field {
            Field::CacheRead if inside.contains(&Field::CacheRead) => Field::Cached,
            Field::CacheWrite if inside.contains(&Field::CacheWrite) => Field::CacheWritten,
            other => other,
        };
    }
    Ok(all)
}

fn place(node: &Node<'_>) -> Read<JsonPointer> {
    let place = pointer(node)?;
    let is_possible = (1..=MAX_STEPS).contains(&place.keys().count());
    is_possible.then_some(place).ok_or_else(|| node.unexpected(Expected::The(PLACE)))
}

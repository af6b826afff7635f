//! JSON as Envoy reads it: what of YAML is no JSON.
//!
//! Protobuf's parser, which Envoy 1.40 was observed to use, accepts trailing commas, single quotes, names without
//! quotes, and line breaks in strings. All of this is YAML as well; the reverse does not hold.

use granit_parser::{Event, ScalarStyle, StructureStyle};

use super::node::Position;

/// Place and kind of a comment, or of an escape that only YAML has. The events of the YAML parser show neither.
pub(super) fn stray(text: &str) -> Option<(Position, &'static str)> {
    let (mut at, mut quote) = (Position::START, None);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, '#') => return Some((at, "a comment, which JSON does not have")),
            (None, '"' | '\'') => quote = Some(char),
            (Some(open), close) if open == close => quote = None,
            (Some(_), '\\') => {
                if !chars.next().is_some_and(|escaped| "\"\\/bfnrtu'".contains(escaped)) {
                    return Some((at, "an escape that JSON does not have"));
                }
                at.column += 1;
            }
            _ => {}
        }
        at = match char {
            '\n' => Position { line: at.line + 1, column: 1 },
            _ => Position { column: at.column + 1, ..at },
        };
    }
    None
}

/// Kind of an event that no JSON has. `documents` is the number of documents before it.
pub(super) fn refused(event: &Event<'_>, documents: usize) -> Option<&'static str> {
    match event {
        Event::Alias(_) => Some("an alias, which JSON does not have"),
        Event::DocumentStart(true, _) => Some("a line of three dashes, which JSON does not have"),
        _ if documents > 0 && !matches!(event, Event::DocumentEnd | Event::StreamEnd) => {
            Some("text after the document")
        }
        Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) if *style == StructureStyle::Block => {
            Some("YAML in a file that Envoy reads as JSON")
        }
        Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..) => {
            Some("YAML in a file that Envoy reads as JSON")
        }
        Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag) if *anchor != 0 || tag.is_some() => {
            Some("an anchor or a tag, which JSON does not have")
        }
        Event::Scalar(_, _, anchor, tag) if *anchor != 0 || tag.is_some() => {
            Some("an anchor or a tag, which JSON does not have")
        }
        _ => None,
    }
}

/// Whether a name may be without quotes.
pub(super) fn is_bare_name(name: &str) -> bool {
    let is_first = |first: char| first.is_ascii_alphabetic() || matches!(first, '_' | '$');
    name.starts_with(is_first) && name.chars().all(|char| is_first(char) || char.is_ascii_digit())
}

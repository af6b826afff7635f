//! Table of Envoy's messages: fields with rules, `oneof`s, and the fields on the way to them.
//!
//! In each line of a table stand a message and its words:
//!
//! | word | meaning |
//! |---|---|
//! | `(a\|b)` | a `oneof`: at most one of the fields; exactly one with `!` behind it |
//! | `a=KIND` | a field: `duration`, `text`, `number`, `list`, `any`, `enum`, `true`, or the name of a message |
//! | `a{}=KIND` | a map with such values |
//! | `a[]=KIND` | a list; the marks are the rules of its items |
//! | `!` | the field is required |
//! | `?` | the rules hold only if the field is there; otherwise an absent number is 0, an absent text empty |
//! | `>1`, `>=1`, `<1`, `<=1` | bounds of a number, or of a duration in seconds |
//! | `+1`, `^9` | least and greatest number of characters, of items, or of entries |
//!
//! A message that begins with a dot is of the same package. The rules are those that Envoy 1.36 and 1.40 share, from
//! their descriptors; formats, such as those of header names, are left out.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::documents::{At, camel_case};

/// Messages of the packages `envoy.config`, `envoy.extensions.filters`, `envoy.extensions`, and of all others.
const TABLES: [&str; 4] = [
    include_str!("schema/config.txt"),
    include_str!("schema/filters.txt"),
    include_str!("schema/extensions.txt"),
    include_str!("schema/types.txt"),
];

/// Messages by their names.
static MESSAGES: LazyLock<HashMap<&str, Message>> =
    LazyLock::new(|| TABLES.iter().flat_map(|table| table.lines()).map(Message::of).collect());

/// The message with a name, if the tables have it.
pub(super) fn message(name: &str) -> Option<&'static Message> {
    MESSAGES.get(name)
}

/// Message with its rules.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) oneofs: Vec<Oneof>,
    pub(super) fields: Vec<Field>,
}

/// Fields of which a message has at most one.
#[derive(Debug)]
pub(super) struct Oneof {
    pub(super) members: Vec<Name>,
    /// Whether the message has exactly one of them.
    pub(super) is_required: bool,
}

/// Name of a field.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) snake: &'static str,
    /// Name in camel case, if it differs.
    camel: Option<String>,
}

/// Field with its rules.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) kind: Kind,
    pub(super) is_map: bool,
    /// Whether the rules are those of the items of a list.
    pub(super) is_of_items: bool,
    /// Whether the message needs the field.
    pub(super) is_required: bool,
    /// Whether an absent field has no value, and so keeps all bounds.
    pub(super) is_optional: bool,
    pub(super) bounds: Vec<Bound>,
}

/// Kind of a field, as far as its rules need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Duration,
    Text,
    Number,
    /// Values without rules of their own.
    List,
    Any,
    /// An enum whose value of number 0 is refused.
    Enum,
    /// A boolean that can only be true.
    True,
    /// A message, by its full name.
    Message(String),
}

/// Bound of a number, of a duration in seconds, or of a length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    Above(f64),
    AtMost(f64),
    Below(f64),
    Shortest(usize),
    Longest(usize),
}

impl Message {
    /// Parses a line of a table.
    fn of(line: &'static str) -> (&'static str, Self) {
        let (name, words) = line.split_once(' ').unwrap_or((line, ""));
        let mut message = Self::default();
        for word in words.split(' ') {
            match word.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
                Some((members, mark)) => {
                    let members = members.split('|').map(Name::of).collect();
                    message.oneofs.push(Oneof { members, is_required: mark == "!" });
                }
                None => message.fields.extend(Field::of(word, name)),
            }
        }
        (name, message)
    }
}

impl Name {
    fn of(snake: &'static str) -> Self {
        Self { snake, camel: Some(camel_case(snake)).filter(|camel| camel != snake) }
    }

    /// The values of the field in a message: several if the file has it in both spellings.
    pub(super) fn values<'a>(&self, at: &At<'a>) -> impl Iterator<Item = At<'a>> {
        at.spelled(self.snake).into_iter().chain(self.camel.as_ref().and_then(|camel| at.spelled(camel)))
    }
}

impl Field {
    /// Parses a word of a line of this message.
    fn of(word: &'static str, message: &str) -> Option<Self> {
        let (field, rest) = word.split_once('=')?;
        let name = field.trim_end_matches("{}").trim_end_matches("[]");
        let is_mark = |mark: char| "!?<>+^".contains(mark);
        let (kind, mut marks) = rest.split_at(rest.find(is_mark).unwrap_or(rest.len()));
        let (mut is_required, mut is_optional, mut bounds) = (false, false, Vec::new());
        while !marks.is_empty() {
            let end = |from: usize| marks.get(from..).and_then(|rest| rest.find(is_mark)).map(|at| at + from);
            let (mark, after) = marks.split_at(end(1).unwrap_or(marks.len()));
            match mark {
                "!" => is_required = true,
                "?" => is_optional = true,
                _ => bounds.extend(Bound::of(mark)),
            }
            marks = after;
        }
        let (kind, is_map, is_of_items) = (Kind::of(kind, message), field.ends_with("{}"), field.ends_with("[]"));
        Some(Self { name: Name::of(name), kind, is_map, is_of_items, is_required, is_optional, bounds })
    }
}

impl Kind {
    fn of(text: &str, message: &str) -> Self {
        match text {
            "duration" => Self::Duration,
            "text" => Self::Text,
            "number" => Self::Number,
            "list" => Self::List,
            "any" => Self::Any,
            "enum" => Self::Enum,
            "true" => Self::True,
            _ => match text.strip_prefix('.') {
                Some(rest) => Self::Message(format!("{}.{rest}", package(message))),
                None => Self::Message(text.to_owned()),
            },
        }
    }
}

impl Bound {
    fn of(mark: &str) -> Option<Self> {
        let number = |digits: &str| digits.parse::<f64>().ok();
        Some(match (mark.get(..1)?, mark.get(1..)?) {
            (">", rest) => match rest.strip_prefix('=') {
                Some(digits) => Self::AtLeast(number(digits)?),
                None => Self::Above(number(rest)?),
            },
            ("<", rest) => match rest.strip_prefix('=') {
                Some(digits) => Self::AtMost(number(digits)?),
                None => Self::Below(number(rest)?),
            },
            ("+", digits) => Self::Shortest(digits.parse().ok()?),
            (_, digits) => Self::Longest(digits.parse().ok()?),
        })
    }

    /// Whether a number keeps the bound; a bound of a length holds for all numbers.
    pub(super) fn admits(self, number: f64) -> bool {
        match self {
            Self::AtLeast(least) => number >= least,
            Self::Above(least) => number > least,
            Self::AtMost(most) => number <= most,
            Self::Below(most) => number < most,
            Self::Shortest(_) | Self::Longest(_) => true,
        }
    }

    /// Whether a length keeps the bound; a bound of a number holds for all lengths.
    pub(super) fn admits_length(self, length: usize) -> bool {
        match self {
            Self::Shortest(least) => length >= least,
            Self::Longest(most) => length <= most,
            _ => true,
        }
    }
}

/// Package of a message: its name up to the version.
pub(super) fn package(message: &str) -> &str {
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
    fn every_message_of_a_field_is_in_the_tables() {
        let lines: usize = TABLES.iter().map(|table| table.lines().count()).sum();
        assert_eq!(MESSAGES.len(), lines, "each message is in one line");
        for (name, message) in MESSAGES.iter() {
            assert!(!message.oneofs.is_empty() || !message.fields.is_empty(), "{name}");
            for field in &message.fields {
                if let Kind::Message(inner) = &field.kind {
                    let has_rules = field.is_required || !field.bounds.is_empty();
                    assert!(has_rules || MESSAGES.contains_key(inner.as_str()), "{name}.{}: {inner}", field.name.snake);
                }
            }
        }
    }

    #[test]
    fn every_mark_of_the_tables_is_read() {
        let marks = |text: &str| text.matches(['!', '?', '<', '>', '+', '^']).count();
        for line in TABLES.iter().flat_map(|table| table.lines()) {
            let (_, message) = Message::of(line);
            let of_field =
                |field: &Field| usize::from(field.is_required) + usize::from(field.is_optional) + field.bounds.len();
            let required = message.oneofs.iter().filter(|oneof| oneof.is_required).count();
            assert_eq!(message.fields.iter().map(of_field).sum::<usize>() + required, marks(line), "{line}");
            assert_eq!(message.fields.len() + message.oneofs.len(), line.split(' ').count() - 1, "{line}");
        }
    }

    #[test]
    fn a_word_has_a_kind_and_marks() {
        let field = |word| Field::of(word, "envoy.config.core.v3.BackoffStrategy").expect("a field");
        let interval = field("base_interval=duration!>=0.001<4294967296");
        assert_eq!((interval.name.snake, interval.kind, interval.is_required), ("base_interval", Kind::Duration, true));
        assert_eq!(interval.bounds, [Bound::AtLeast(0.001), Bound::Below(4_294_967_296.0)]);
        let map = field("secrets{}=.DataSource+1");
        assert_eq!((map.is_map, map.kind), (true, Kind::Message("envoy.config.core.v3.DataSource".to_owned())));
        assert_eq!(map.bounds, [Bound::Shortest(1)]);
        let text = field("name=text?^1024");
        assert_eq!((text.is_optional, text.bounds), (true, vec![Bound::Longest(1024)]));
    }
}

//! Reader of a tree: takes typed values, and reports every mistake with its place.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;

use weir_filter::units::Micros;

use crate::documents::{Entry, Node, Position, Value};
use crate::spelling::nearest;

/// Mistake in a file of this command line, or in the configuration in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) file: String,
    /// `None` for a file that cannot be read.
    pub(crate) place: Option<Position>,
    pub(crate) what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{}:{place}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// Mistakes of a file so far.
#[derive(Debug)]
pub(crate) struct Mistakes {
    file: String,
    found: RefCell<Vec<Mistake>>,
}

impl Mistakes {
    pub(crate) fn of(file: &str) -> Self {
        Self { file: file.to_owned(), found: RefCell::default() }
    }

    pub(crate) fn add(&self, place: Position, what: impl Into<String>) {
        self.found.borrow_mut().push(Mistake { file: self.file.clone(), place: Some(place), what: what.into() });
    }

    pub(crate) fn into_found(self) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| mistake.place);
        found
    }
}

/// Value of the file, with the list of mistakes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) node: &'a Node,
    pub(crate) mistakes: &'a Mistakes,
}

/// Fields of a map.
pub(crate) struct Fields<'a> {
    owner: Reader<'a>,
    fields: &'a [Entry],
    has_unknown: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn place(&self) -> Position {
        self.node.position
    }

    pub(crate) fn refuse<T>(&self, what: impl Into<String>) -> Option<T> {
        self.mistakes.add(self.node.position, what);
        None
    }

    pub(crate) fn expected<T>(&self, what: &str) -> Option<T> {
        self.refuse(format!("expected {what}, found {}", self.found()))
    }

    fn found(&self) -> String {
        match &self.node.value {
            Value::Null => "nothing".to_owned(),
            Value::Text(text) if text.chars().count() > 60 => format!("a text of {} bytes", text.len()),
            Value::Text(text) => format!("{text:?}"),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// The fields of a map. An unknown field is a mistake.
    pub(crate) fn fields(self, known: &[&str]) -> Option<Fields<'a>> {
        let fields = self.entries()?;
        let mut has_unknown = false;
        for Entry { key, position, .. } in fields.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let hint = match nearest(key, known) {
                Some(meant) => format!(": did you mean `{meant}`?"),
                None => format!(", expected one of {}", known.join(", ")),
            };
            self.mistakes.add(*position, format!("unknown field `{}`{hint}", shortened(key)));
            has_unknown = true;
        }
        Some(Fields { owner: self, fields, has_unknown })
    }

    /// The fields of a map, of which others are read elsewhere.
    pub(crate) fn any_fields(self) -> Option<Fields<'a>> {
        Some(Fields { owner: self, fields: self.entries()?, has_unknown: false })
    }

    /// The entries of a map with any keys.
    pub(crate) fn entries(self) -> Option<&'a [Entry]> {
        match &self.node.value {
            Value::Map(fields) => Some(fields),
            _ => self.expected("a map"),
        }
    }

    /// The value of an entry of this map.
    pub(crate) fn of(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    pub(crate) fn list(self) -> Option<impl Iterator<Item = Self> + use<'a>> {
        match &self.node.value {
            Value::List(items) => Some(items.iter().map(move |node| Self { node, ..self })),
            _ => self.expected("a list"),
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// A text; no number and no boolean.
    pub(crate) fn exact_text(&self) -> Option<&'a str> {
        if let Value::Text(text) = &self.node.value { Some(text) } else { None }
    }

    pub(crate) fn whole_number(&self) -> Option<u64> {
        if let Value::Number(number) = &self.node.value { number.as_u64() } else { None }
    }

    /// A text; a number or a boolean is taken as its text.
    pub(crate) fn text(self, what: &str) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => self.expected(what),
        }
    }

    pub(crate) fn flag(self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(flag) => Some(*flag),
            _ => self.expected("true or false"),
        }
    }

    pub(crate) fn number(self, what: &str, within: RangeInclusive<u64>) -> Option<u64> {
        match self.whole_number().filter(|number| within.contains(number)) {
            Some(number) => Some(number),
            None => self.expected(&format!("{what} from {} to {}", within.start(), within.end())),
        }
    }

    /// A duration in Envoy's form, or as `15m` or `31d`; more than 0.
    pub(crate) fn duration(self) -> Option<Micros> {
        let parsed = self.exact_text().and_then(|text| Micros::parse(text).ok());
        match parsed.filter(|duration| *duration > Micros::ZERO) {
            Some(duration) => Some(duration),
            None => self.expected("a duration above 0 such as 0.5s, 15m or 31d"),
        }
    }
}

impl<'a> Fields<'a> {
    pub(crate) fn owner(&self) -> Reader<'a> {
        self.owner
    }

    pub(crate) fn take(&self, name: &str) -> Option<Reader<'a>> {
        Some(self.owner.of(&self.entry(name)?.value))
    }

    /// Whether a field is unknown: it may be meant for one that is missing.
    pub(crate) fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// The place of a field's key.
    pub(crate) fn key(&self, name: &str) -> Option<Position> {
        Some(self.entry(name)?.position)
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.fields.iter().find(|entry| entry.key == name)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

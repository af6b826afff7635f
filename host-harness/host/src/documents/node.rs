//! Values of a document, each with the line and the column at which it stands.

use serde_json::Number;

/// Line and column in a text, both from 1. Columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Value with its position.
#[derive(Debug, Clone)]
pub struct Node {
    /// Position of the value.
    pub position: Position,
    /// The value.
    pub value: Value,
    /// Whether the value is a text in a literal block (`|`): each of its lines is a line of the file.
    pub is_block: bool,
    /// Quotes around a text that is on one line of the file.
    pub quotes: Option<char>,
}

/// Value as Envoy understands it.
#[derive(Debug, Clone)]
pub enum Value {
    /// No value.
    Null,
    /// Boolean.
    Bool(bool),
    /// Number.
    Number(Number),
    /// Text.
    Text(String),
    /// List.
    List(Vec<Node>),
    /// Fields in the order written. If a key is there more than once, the last one holds.
    Map(Vec<Entry>),
}

/// Field of a map.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name of the field.
    pub key: String,
    /// Position of the key.
    pub position: Position,
    /// Value of the field.
    pub value: Node,
}

impl Position {
    /// The start of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Node {
    /// The entry of a key; the last one if there are several.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().rev().find(|entry| entry.key == key)
    }

    /// The fields of a map; none for other values.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value as JSON, without places.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }

    /// Replaces all positions, also those of keys.
    pub(super) fn shift(&mut self, moved: &impl Fn(Position) -> Position) {
        self.position = moved(self.position);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(moved)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.position = moved(entry.position);
                entry.value.shift(moved);
            }),
            _ => {}
        }
    }

    /// Fields with the key of an earlier field of the same map, at any depth.
    pub fn repeated(&self) -> Vec<&Entry> {
        let mut found = Vec::new();
        let mut known = std::collections::HashSet::new();
        for entry in self.entries() {
            if !known.insert(entry.key.as_str()) {
                found.push(entry);
            }
            found.extend(entry.value.repeated());
        }
        if let Value::List(items) = &self.value {
            found.extend(items.iter().flat_map(Self::repeated));
        }
        found
    }

    /// Number of values in this one, and levels of nesting; 1 and 1 for a scalar.
    pub fn size_and_depth(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Self>> = match &self.value {
            Value::List(items) => Box::new(items.iter()),
            Value::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
            _ => return (1, 1),
        };
        let (size, depth) = children.fold((1, 0), |(size, depth), child| {
            let (inner, below) = child.size_and_depth();
            (size + inner, depth.max(below))
        });
        (size, depth + 1)
    }
}

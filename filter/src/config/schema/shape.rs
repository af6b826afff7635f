//! Shapes of values: what the parser expected, as a schema.

use alloc::vec::Vec;

use serde_json::{Value, json};

use super::super::error::{Expected, Found, Problem};
use super::words;

/// Numbers above this one also come as text: Envoy passes them on so where its configuration is YAML.
const MAX_PLAIN: u64 = i32::MAX.unsigned_abs() as u64;

/// Values that the parser expects in place of one that no field takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Integer {
        min: u64,
        max: u64,
    },
    Text {
        min: usize,
        max: usize,
    },
    Items {
        min: usize,
        max: usize,
    },
    OneOf(Vec<&'static str>),
    /// A value that only words describe.
    Words(&'static str),
}

impl Shape {
    /// The shape that all `problems` of one place, in one reading, leave. `None` if no schema can say it.
    pub(super) fn of<'a>(problems: impl Iterator<Item = &'a Problem>) -> Option<Self> {
        let mut shapes = problems.filter_map(|problem| match problem {
            Problem::Unexpected { expected, found: Found::Value(_) } => Self::expected(expected),
            _ => None,
        });
        let first = shapes.next()?;
        // A field that is read twice must please both readings.
        Some(shapes.fold(first, |shape, other| match (shape, other) {
            (Self::OneOf(values), Self::OneOf(others)) => {
                Self::OneOf(values.into_iter().filter(|value| others.contains(value)).collect())
            }
            (shape, _) => shape,
        }))
    }

    fn expected(expected: &Expected) -> Option<Self> {
        match expected {
            Expected::Integer { min, max } => Some(Self::Integer { min: *min, max: *max }),
            Expected::Text { min, max } => Some(Self::Text { min: *min, max: *max }),
            Expected::Items { min, max } => Some(Self::Items { min: *min, max: *max }),
            Expected::OneOf(values) => Some(Self::OneOf(values.clone())),
            Expected::The(text) => words::schema(text).is_some().then_some(Self::Words(text)),
            Expected::Duration { .. } | Expected::OneField(_) | Expected::ExactlyOne(_) | Expected::AtMostOne(_) => {
                None
            }
        }
    }

    /// Adds this shape to those of the same place in other readings.
    pub(super) fn join(self, shapes: &mut Vec<Self>) {
        for shape in &mut *shapes {
            if let (Self::Integer { min, max }, Self::Integer { min: other_min, max: other_max }) = (&mut *shape, &self)
            {
                (*min, *max) = ((*min).min(*other_min), (*max).max(*other_max));
                return;
            }
        }
        if !shapes.contains(&self) {
            shapes.push(self);
        }
    }

    /// The schema. `item` is that of a list's items.
    pub(super) fn schema(&self, item: impl FnOnce() -> Value) -> Value {
        match self {
            Self::Integer { min, max } => {
                let number = json!({"type": "integer", "minimum": min, "maximum": max});
                let text = json!({"type": "string", "pattern": "^[+]?[0-9]{10,}$"});
                if *max > MAX_PLAIN { json!({"anyOf": [number, text]}) } else { number }
            }
            Self::Text { min, max } => {
                let mut text = json!({"type": "string", "maxLength": max});
                // Bytes are at least as many as characters: only the first can be told.
                if let (Value::Object(fields), 1..) = (&mut text, *min) {
                    fields.insert("minLength".into(), json!(1));
                }
                text
            }
            Self::Items { min, max } => json!({"type": "array", "minItems": min, "maxItems": max, "items": item()}),
            Self::OneOf(values) => json!({ "enum": values }),
            Self::Words(text) => words::schema(text).unwrap_or(Value::Bool(true)),
        }
    }

    /// Whether all values of the schema are text.
    pub(super) fn is_text(schema: &Value) -> bool {
        schema.get("type").and_then(Value::as_str) == Some("string")
    }
}

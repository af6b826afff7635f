//! Validator of the part of JSON Schema that the schema uses. An unknown keyword is a panic.

use alloc::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// Schema with its patterns compiled.
pub(super) struct Schema {
    whole: Value,
    patterns: BTreeMap<String, Regex>,
}

impl Schema {
    pub(super) fn new(whole: Value) -> Self {
        let mut patterns = BTreeMap::new();
        collect(&whole, &mut patterns);
        Self { whole, patterns }
    }

    /// The reason why the schema refuses a value.
    pub(super) fn refusal(&self, value: &Value) -> Option<String> {
        self.check(&self.whole, value, "")
    }

    fn check(&self, schema: &Value, value: &Value, path: &str) -> Option<String> {
        let Value::Object(keywords) = schema else { return (schema == &Value::Bool(false)).then(|| path.to_owned()) };
        let refuse = |why: &str| Some(format!("{path}: {why}, found {value}"));
        for (keyword, what) in keywords {
            let size = || usize::try_from(what.as_u64().unwrap()).unwrap();
            let among = || what.as_array().unwrap().iter().map(|schema| self.check(schema, value, path));
            let refused = match (keyword.as_str(), value) {
                ("$schema" | "title" | "definitions" | "description" | "default", _) => None,
                ("additionalProperties", _) if what == &Value::Bool(false) => None,
                ("$ref", _) => {
                    let name = what.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                    self.check(&self.whole["definitions"][name], value, path)
                }
                ("type", _) if !is_of_type(value, what.as_str().unwrap()) => refuse(&format!("expected {what}")),
                ("enum", _) if !what.as_array().unwrap().contains(value) => refuse(&format!("expected one of {what}")),
                ("allOf", _) => among().find_map(|refused| refused),
                ("anyOf", _) if among().all(|refused| refused.is_some()) => {
                    refuse(&among().flatten().collect::<Vec<_>>().join(" or "))
                }
                ("oneOf", _) if among().filter(Option::is_none).count() != 1 => refuse("expected exactly one"),
                ("not", _) if self.check(what, value, path).is_none() => refuse(&format!("expected not {what}")),
                ("required", Value::Object(fields)) => {
                    let absent = |name: &&Value| !fields.contains_key(name.as_str().unwrap());
                    what.as_array().unwrap().iter().find(absent).and_then(|name| refuse(&format!("expected {name}")))
                }
                ("properties", Value::Object(fields)) => fields.iter().find_map(|(name, value)| {
                    let path = format!("{path}.{name}");
                    match what.get(name) {
                        Some(schema) => self.check(schema, value, &path),
                        None if keywords.contains_key("additionalProperties") => Some(format!("{path}: unknown")),
                        None => None,
                    }
                }),
                ("minProperties", Value::Object(fields)) if fields.len() < size() => refuse("expected a field"),
                ("maxProperties", Value::Object(fields)) if fields.len() > size() => refuse("expected one field"),
                ("items", Value::Array(items)) => {
                    items.iter().enumerate().find_map(|(i, item)| self.check(what, item, &format!("{path}[{i}]")))
                }
                ("minItems", Value::Array(items)) if items.len() < size() => refuse("expected more items"),
                ("maxItems", Value::Array(items)) if items.len() > size() => refuse("expected fewer items"),
                ("pattern", Value::String(text)) if !self.patterns[what.as_str().unwrap()].is_match(text) => {
                    refuse(&format!("expected {what}"))
                }
                ("minLength", Value::String(text)) if text.chars().count() < size() => refuse("expected more text"),
                ("maxLength", Value::String(text)) if text.chars().count() > size() => refuse("expected less text"),
                ("minimum", Value::Number(number)) if number.as_f64() < what.as_f64() => refuse("expected more"),
                ("maximum", Value::Number(number)) if number.as_f64() > what.as_f64() => refuse("expected less"),
                (
                    "type" | "enum" | "anyOf" | "oneOf" | "not" | "required" | "properties" | "minProperties"
                    | "maxProperties" | "items" | "minItems" | "maxItems" | "pattern" | "minLength" | "maxLength"
                    | "minimum" | "maximum",
                    _,
                ) => None,
                (unknown, _) => panic!("unknown keyword {unknown}"),
            };
            if refused.is_some() {
                return refused;
            }
        }
        None
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        unknown => panic!("unknown type {unknown}"),
    }
}

fn collect(schema: &Value, patterns: &mut BTreeMap<String, Regex>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(pattern)) = fields.get("pattern") {
                patterns.entry(pattern.clone()).or_insert_with(|| Regex::new(pattern).unwrap());
            }
            fields.values().for_each(|schema| collect(schema, patterns));
        }
        Value::Array(items) => items.iter().for_each(|schema| collect(schema, patterns)),
        _ => {}
    }
}

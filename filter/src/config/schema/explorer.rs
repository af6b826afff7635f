//! Exploration of the parser: which fields and values it takes, found by what it says to values that no field takes.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use super::super::error::{ConfigErrors, Expected, Found, Problem};
use super::super::parse;
use super::meanings::Meanings;
use super::place::Place;
use super::shape::Shape;

/// Name that no object has as a field.
const UNKNOWN: &str = "an unknown field";

/// Names of fields.
type Names = &'static [&'static str];

/// Object that the parser expects.
enum Object {
    /// Any of the known fields.
    Fields(Names),
    /// Exactly one of them, and no other.
    OneField(Names),
}

pub(super) struct Explorer<'a> {
    /// Configurations around a place: some fields are read in one of them alone.
    contexts: [Value; 2],
    meanings: Meanings<'a>,
    definitions: Map<String, Value>,
    /// Alternatives of objects that contain themselves, with the names of their definitions.
    defined: Vec<(Names, String)>,
    /// Alternatives around the place that is explored.
    around: Vec<Names>,
}

impl<'a> Explorer<'a> {
    pub(super) fn new(page: &'a str) -> Self {
        let single = json!({"redis": {"cluster": "redis"}, "limits": [{"name": "a", "descriptor": []}]});
        // A descriptor with an error may have any number of entries.
        let cluster = json!({"redis": {"cluster": "redis", "topology": "cluster"}, "limits": [{"name": "a"}]});
        Self {
            contexts: [single, cluster],
            meanings: Meanings::of(page),
            definitions: Map::new(),
            defined: Vec::new(),
            around: Vec::new(),
        }
    }

    /// The schema of the whole configuration.
    pub(super) fn explore(&mut self) -> Value {
        self.schema(&Place::default())
    }

    /// The definitions that the schema refers to.
    pub(super) fn definitions(self) -> Map<String, Value> {
        self.definitions
    }

    fn schema(&mut self, place: &Place) -> Value {
        let (texts, mut ways): (Vec<Value>, Vec<Value>) = self
            .shapes(place)
            .iter()
            .map(|shape| shape.schema(|| self.schema(&place.item())))
            .partition(Shape::is_text);
        // What the parser says to several texts holds for every text.
        match <[Value; 1]>::try_from(texts) {
            Ok([text]) => ways.push(text),
            Err(texts) if texts.is_empty() => {}
            Err(texts) => ways.push(json!({"type": "string", "allOf": texts})),
        }
        ways.extend(self.object_schema(place));
        match <[Value; 1]>::try_from(ways) {
            Ok([only]) => only,
            Err(ways) if ways.is_empty() => Value::Object(Map::new()),
            Err(ways) => json!({ "anyOf": ways }),
        }
    }

    /// Shapes of the values that are no objects.
    fn shapes(&self, place: &Place) -> Vec<Shape> {
        let texts = [(5_000, ""), (300, "/")].map(|(length, start)| json!(start.to_owned() + &"x".repeat(length)));
        let path = place.path();
        let mut shapes = Vec::new();
        for context in &self.contexts {
            for value in [Value::Null].iter().chain(&texts) {
                let Err(errors) = ask(place, context, value.clone()) else { continue };
                let here = errors.iter().filter(|error| error.path == path).map(|error| &error.problem);
                if let Some(shape) = Shape::of(here) {
                    shape.join(&mut shapes);
                }
            }
        }
        shapes
    }

    /// The schema of the object that may be here.
    fn object_schema(&mut self, place: &Place) -> Option<Value> {
        let (context, object) = self.contexts.iter().find_map(|context| Some((context, object(place, context)?)))?;
        Some(match object {
            Object::Fields(names) => {
                let rules = rules(place, context, names);
                self.fields(place, names, rules)
            }
            Object::OneField(names) => self.one_field(place, names),
        })
    }

    fn fields(&mut self, place: &Place, names: Names, rules: Map<String, Value>) -> Value {
        let properties = self.properties(place, names);
        let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
        if let Value::Object(keywords) = &mut schema {
            keywords.extend(rules);
        }
        schema
    }

    fn one_field(&mut self, place: &Place, names: Names) -> Value {
        if let Some((_, name)) = self.defined.iter().find(|(defined, _)| *defined == names) {
            return reference(name);
        }
        if self.around.contains(&names) {
            // Predicates alone contain themselves so far.
            let name = if names.contains(&"not") { "predicate".to_owned() } else { place.heading() };
            let schema = reference(&name);
            self.defined.push((names, name));
            return schema;
        }
        self.around.push(names);
        let properties = self.properties(place, names);
        self.around.pop();
        let schema = json!({
            "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
            "properties": properties,
        });
        match self.defined.iter().find(|(defined, _)| *defined == names) {
            Some((_, name)) => {
                self.definitions.insert(name.clone(), schema);
                reference(name)
            }
            None => schema,
        }
    }

    fn properties(&mut self, place: &Place, names: Names) -> Map<String, Value> {
        let mut properties = Map::new();
        for name in names {
            let schema = self.schema(&place.field(name));
            properties.insert((*name).to_owned(), self.described(place, name, schema));
        }
        properties
    }

    /// Adds the description and the default that the documentation gives.
    fn described(&self, place: &Place, name: &str, schema: Value) -> Value {
        let Some(meaning) = self.meanings.of_field(&place.heading(), name) else { return schema };
        // Draft 7 ignores what stands beside a reference.
        let mut described = match schema {
            Value::Object(fields) if !fields.contains_key("$ref") => fields,
            reference => Map::from_iter([("allOf".to_owned(), json!([reference]))]),
        };
        described.insert("description".into(), meaning.description.into());
        if let Some(default) = meaning.default {
            described.insert("default".into(), default);
        }
        Value::Object(described)
    }
}

/// Answer of the parser to a configuration with `value` at `place`.
fn ask(place: &Place, context: &Value, value: Value) -> Result<(), ConfigErrors> {
    let configuration = serde_json::to_vec(&place.configuration(context, value)).unwrap_or_default();
    parse(&configuration, &|_| None).map(drop)
}

fn object(place: &Place, context: &Value) -> Option<Object> {
    let path = place.path();
    let of_empty = ask(place, context, json!({})).err();
    let alternatives = of_empty.iter().flat_map(ConfigErrors::iter).find_map(|error| match &error.problem {
        Problem::Unexpected { expected: Expected::OneField(names), .. } if error.path == path => Some(*names),
        _ => None,
    });
    if let Some(names) = alternatives {
        return Some(Object::OneField(names));
    }
    // Errors of a secret do not show the name of an unknown field: their path is that of the object.
    let of_unknown = ask(place, context, json!({ UNKNOWN: null })).err();
    let below = [path.as_str(), "[\"", UNKNOWN, "\"]"].concat();
    let at_root = ["[\"", UNKNOWN, "\"]"].concat();
    of_unknown.iter().flat_map(ConfigErrors::iter).find_map(|error| match &error.problem {
        Problem::UnknownField { known, .. } if [&path, &below, &at_root].contains(&&error.path) => {
            Some(Object::Fields(known))
        }
        _ => None,
    })
}

/// Rules of an object about its fields: the required ones, and those that exclude each other.
fn rules(place: &Place, context: &Value, names: Names) -> Map<String, Value> {
    let path = place.path();
    let mut rules = Map::new();
    let mut required: Vec<&str> = Vec::new();
    let of_empty = ask(place, context, json!({})).err();
    for error in of_empty.iter().flat_map(ConfigErrors::iter) {
        let Problem::Unexpected { expected, found: Found::Nothing } = &error.problem else { continue };
        match expected {
            Expected::ExactlyOne(names) if error.path == path => {
                let ways: Vec<Value> = names.iter().map(|name| json!({"required": [name]})).collect();
                rules.insert("oneOf".into(), ways.into());
            }
            _ => required.extend(names.iter().copied().filter(|name| place.field(name).path() == error.path)),
        }
    }
    if !required.is_empty() {
        rules.insert("required".into(), json!(required));
    }
    if let Some(names) = exclusive(place, context, names) {
        let pairs = names.iter().enumerate().flat_map(|(at, one)| names.iter().take(at).map(move |other| (other, one)));
        let refused: Vec<Value> = pairs.map(|(one, other)| json!({"not": {"required": [one, other]}})).collect();
        rules.insert("allOf".into(), refused.into());
    }
    rules
}

/// Fields of an object of which it takes at most one.
fn exclusive(place: &Place, context: &Value, names: Names) -> Option<Names> {
    let path = place.path();
    let all: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    let errors = ask(place, context, Value::Object(all)).err()?;
    errors.iter().find_map(|error| match &error.problem {
        Problem::Unexpected { expected: Expected::AtMostOne(names), .. } if error.path == path => Some(*names),
        _ => None,
    })
}

fn reference(name: &str) -> Value {
    let target = ["#/definitions/", name].concat();
    json!({ "$ref": target })
}

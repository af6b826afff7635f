//! Places of a configuration, and configurations with a value at a place.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

/// Step from a value to one below it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Field(&'static str),
    /// The first item of a list.
    Item,
}

/// Place in a configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Place(Vec<Step>);

impl Place {
    pub(super) fn field(&self, name: &'static str) -> Self {
        self.then(Step::Field(name))
    }

    pub(super) fn item(&self) -> Self {
        self.then(Step::Item)
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().copied().chain([step]).collect())
    }

    /// The path that errors have here: `limits[0].name`.
    pub(super) fn path(&self) -> String {
        if self.0.is_empty() { "configuration".to_owned() } else { self.written("[0]") }
    }

    /// The heading of the documentation: `limits[].token_bucket`.
    pub(super) fn heading(&self) -> String {
        if self.0.is_empty() { "configuration".to_owned() } else { self.written("[]") }
    }

    fn written(&self, item: &str) -> String {
        let mut path = String::new();
        for step in &self.0 {
            match step {
                Step::Item => path.push_str(item),
                Step::Field(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
            }
        }
        path
    }

    /// Returns `context` with `value` here. An item takes the place of the whole list, but for the limit of `context`.
    pub(super) fn configuration(&self, context: &Value, value: Value) -> Value {
        let mut whole = context.clone();
        let mut here = &mut whole;
        for step in &self.0 {
            here = match step {
                Step::Field(name) => {
                    if !here.is_object() {
                        *here = Value::Object(Map::new());
                    }
                    let Value::Object(fields) = here else { return whole };
                    fields.entry(*name).or_insert(Value::Null)
                }
                Step::Item => {
                    let is_limit = |list: &Value| list.get(0).is_some_and(|item| item.get("name").is_some());
                    if !is_limit(here) {
                        *here = Value::Array(vec![Value::Null]);
                    }
                    let Some(item) = here.get_mut(0) else { return whole };
                    item
                }
            };
        }
        *here = value;
        whole
    }
}

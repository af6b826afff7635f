//! Manifests of `envoy/kubernetes`, as JSON.

use std::fs;

use serde_json::Value;
use weir_provision::checkout;

/// Documents of one file.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub documents: Vec<Value>,
}

impl Manifest {
    /// Reads a file below `envoy/kubernetes`.
    pub fn read(file: &str) -> Self {
        let path = checkout::root().unwrap().join("envoy/kubernetes").join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        Self::parse(&text)
    }

    /// Reads documents that `---` separates.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix("---\n").unwrap_or(text);
        let parsed = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
        Self { documents: parsed.filter(|document| !document.is_null()).collect() }
    }

    /// Returns the documents of a kind.
    pub fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.documents.iter().filter(move |document| document["kind"] == kind)
    }

    /// Returns the first document of a kind.
    pub fn find<'a>(&'a self, kind: &'a str) -> Option<&'a Value> {
        self.all(kind).next()
    }

    /// Returns the document of a kind that has this name.
    pub fn named<'a>(&'a self, kind: &'a str, name: &str) -> Option<&'a Value> {
        self.all(kind).find(|document| document["metadata"]["name"] == name)
    }
}

/// Returns the text of a field.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text at {pointer} of {value:#}"))
}

/// Returns the items of a list; none if the field is absent.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).map_or(&[], |found| found.as_array().expect("a list"))
}

/// Parses YAML in a text.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

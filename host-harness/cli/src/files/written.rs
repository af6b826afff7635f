//! Configuration of a limiter: its bytes as the filter gets them, and the places of its values in the document.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use weir_filter::config::{ConfigError, Problem};

use super::finder::Plugin;
use super::kubernetes::Declaration;
use crate::documents::{At, Message, Position, Source};

const EXPECTED: &str = "a configuration, as google.protobuf.Struct or google.protobuf.StringValue";

/// Configuration in a document.
#[derive(Debug, Clone)]
pub(crate) struct Written<'a> {
    /// JSON text.
    pub(crate) bytes: Vec<u8>,
    /// The value with the configuration.
    pub(crate) at: At<'a>,
    /// A configuration in a text, as a source of its own.
    inner: Option<Rc<Source>>,
}

/// Configuration that the filter never gets as text or as a `Struct`.
#[derive(Debug, Clone)]
pub(crate) struct Unwritten<'a> {
    /// The value, or the object that lacks the field.
    pub(crate) at: At<'a>,
    /// The field, if the error is about one that may be absent.
    pub(crate) field: Option<&'static str>,
    pub(crate) expected: &'static str,
    pub(crate) found: String,
    /// Instruction for mending it.
    pub(crate) help: &'static str,
}

impl<'a> Written<'a> {
    /// A configuration without the files of Envoy around it.
    pub(crate) fn alone(at: At<'a>) -> Self {
        Self { bytes: at.node.to_json().to_string().into_bytes(), at, inner: None }
    }

    /// The configuration of a plugin.
    pub(crate) fn of(plugin: &Plugin<'a>) -> Result<Self, Box<Unwritten<'a>>> {
        if let Some(declaration) = &plugin.declaration {
            return Self::declared(declaration);
        }
        let missing = |found: &str| {
            let help = "add `configuration` with \"@type\" and `value`; docs/src/configuration.md lists its fields";
            let (at, field) = (plugin.at.clone(), Some("configuration"));
            Box::new(Unwritten { at, field, expected: EXPECTED, found: found.to_owned(), help })
        };
        let at = plugin.at.field("configuration").ok_or_else(|| missing("nothing"))?;
        let message = Message::outer(&at).ok_or_else(|| missing("a value without \"@type\""))?;
        let value = at.field("value").ok_or_else(|| missing("a message without `value`"))?;
        let wrong = |expected: &'static str| {
            let help = "write the configuration in the form that \"@type\" names; Envoy refuses it as it is";
            Box::new(Unwritten { at: value.clone(), field: None, expected, found: value.kind(), help })
        };
        let bytes = match message.name {
            "google.protobuf.Struct" if value.is_object() => value.node.to_json().to_string().into_bytes(),
            "google.protobuf.Struct" => return Err(wrong("an object")),
            "google.protobuf.StringValue" => value.text().ok_or_else(|| wrong("a string"))?.as_bytes().to_vec(),
            "google.protobuf.BytesValue" => {
                let decoded = value.text().and_then(|text| BASE64_STANDARD.decode(text).ok());
                decoded.ok_or_else(|| wrong("bytes in base64"))?
            }
            _ => {
                let kind = if message.short_name() == "TypedStruct" { "a TypedStruct" } else { "another message" };
                return Err(Box::new(Unwritten {
                    at,
                    field: Some("@type"),
                    expected: EXPECTED,
                    found: kind.to_owned(),
                    help: "write `\"@type\": type.googleapis.com/google.protobuf.Struct`; a TypedStruct can stand for \
                           the whole filter, not for its configuration",
                }));
            }
        };
        let is_text = message.name == "google.protobuf.StringValue";
        let inner = is_text.then(|| Rc::new(Source::parse_inside(&value)));
        Ok(Self { bytes, at: value, inner })
    }

    /// The configuration in a manifest: an object, from which the control plane makes a text.
    fn declared(declaration: &Declaration<'a>) -> Result<Self, Box<Unwritten<'a>>> {
        let field = declaration.configuration_field();
        let unwritten = |at: &At<'a>, field, found: String| {
            let help = "write the fields of docs/src/configuration.md there";
            Box::new(Unwritten { at: at.clone(), field, expected: "the filter's configuration", found, help })
        };
        let missing = || unwritten(&declaration.at, Some(field), "nothing".to_owned());
        let at = declaration.at.field(field).ok_or_else(missing)?;
        if at.is_object() { Ok(Self::alone(at)) } else { Err(unwritten(&at, None, at.kind())) }
    }

    /// The configuration as JSON; null if it is a text of another kind.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The value at a path of the filter, or the innermost one around it that is there. In bytes, all values have the
    /// place of the text.
    pub(crate) fn place(&self, path: &str) -> At<'_> {
        match self.inner.as_ref().and_then(|inner| inner.documents.first()) {
            Some(document) => At::root(document).descend(path),
            None => self.at.descend(path),
        }
    }

    /// Place of an error of the filter: the value that it names, or the key that the filter does not know.
    pub(crate) fn position(&self, error: &ConfigError) -> Position {
        let broken = self.inner.as_ref().and_then(|inner| inner.error.as_ref());
        if let (Problem::Syntax { .. }, Some(broken)) = (&error.problem, broken) {
            return broken.position();
        }
        let at = self.place(&error.path);
        if matches!(error.problem, Problem::UnknownField { .. }) { at.key } else { at.node.position }
    }

    /// A path of the filter as a path of the document.
    pub(crate) fn path(&self, path: &str) -> String {
        match path {
            "configuration" => self.at.path.clone(),
            "" => self.at.path.clone(),
            path if self.at.path.is_empty() => path.to_owned(),
            path if path.starts_with('[') => format!("{}{path}", self.at.path),
            path => format!("{}.{path}", self.at.path),
        }
    }
}

impl std::fmt::Display for Unwritten<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.field.map_or_else(|| self.at.path.clone(), |name| self.at.path_of(name));
        write!(f, "{path}: expected {}, found {}", self.expected, self.found)
    }
}

impl Unwritten<'_> {
    /// Place of the value, or of the object that lacks it.
    pub(crate) fn position(&self) -> Position {
        let value = self.field.and_then(|name| self.at.field(name));
        value.as_ref().unwrap_or(&self.at).node.position
    }
}

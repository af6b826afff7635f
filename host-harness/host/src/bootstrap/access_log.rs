//! Parser of an HTTP connection manager's `access_log`, and of format strings.

use std::path::PathBuf;

use serde_json::Value;

use super::document::Node;
use crate::access_log::{AccessLog, Destination, Format, JsonFormat, Template};

const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";

pub(super) fn access_logs(node: &Node<'_>) -> Option<Vec<AccessLog>> {
    node.each(access_log).into_iter().collect()
}

fn access_log(node: &Node<'_>) -> Option<AccessLog> {
    let mut fields = node.fields()?;
    let _name = fields.require("name").and_then(|node| node.string());
    let typed = fields.require("typed_config");
    fields.finish();
    let typed = typed?;
    let mut config = typed.fields()?;
    let destination = match config.message_type()?.as_str() {
        STDOUT => Some(Destination::Stdout),
        FILE => {
            let path = config.require("path").and_then(|node| node.string());
            path.map(|path| Destination::File(PathBuf::from(path)))
        }
        other => {
            let expected = format!("`{other}` is not honoured by the harness; expected `{STDOUT}` or `{FILE}`");
            typed.child("@type").refuse(&expected);
            return None;
        }
    };
    let template = config.require("log_format").and_then(|node| template(&node));
    config.finish();
    Some(AccessLog { destination: destination?, template: template?, path: node.path().to_owned() })
}

/// Parses Envoy's `SubstitutionFormatString`.
fn template(node: &Node<'_>) -> Option<Template> {
    let mut fields = node.fields()?;
    let omit = omit_empty_values(fields.take("omit_empty_values"));
    let text = fields.take("text_format_source");
    let json = fields.take("json_format");
    fields.finish();
    // Problems of the format are reported even if this flag is wrong.
    let omits = omit.unwrap_or_default();
    let template = match (text, json) {
        (Some(source), None) => text_format(&source, omits).map(Template::Text),
        (None, Some(object)) => json_format(&object, omits).map(Template::Json),
        _ => node.expected("one of `text_format_source` and `json_format`"),
    };
    omit.and(template)
}

/// Parses a `SubstitutionFormatString` with a text format.
pub(super) fn text_template(node: &Node<'_>) -> Option<Format> {
    let mut fields = node.fields()?;
    let omit = omit_empty_values(fields.take("omit_empty_values"));
    let text = fields.require("text_format_source");
    fields.finish();
    let format = text_format(&text?, omit.unwrap_or_default());
    omit.and(format)
}

fn omit_empty_values(node: Option<Node<'_>>) -> Option<bool> {
    node.map_or(Some(false), |node| node.boolean())
}

fn text_format(node: &Node<'_>, omit_empty_values: bool) -> Option<Format> {
    let mut fields = node.fields()?;
    let inline = fields.require("inline_string");
    fields.finish();
    let inline = inline?;
    match Format::parse(&inline.string()?, omit_empty_values) {
        Ok(format) => Some(format),
        Err(error) => {
            inline.refuse(&error.to_string());
            None
        }
    }
}

fn json_format(node: &Node<'_>, omit_empty_values: bool) -> Option<JsonFormat> {
    let Value::Object(object) = node.value() else { return node.expected("an object") };
    match JsonFormat::parse(object, omit_empty_values) {
        Ok(format) => Some(format),
        Err(errors) => {
            errors.iter().for_each(|(place, error)| node.child(place).refuse(&error.to_string()));
            None
        }
    }
}

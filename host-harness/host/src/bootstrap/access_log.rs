//! Parser of an HTTP connection manager's `access_log`, and of format strings.

use std::path::PathBuf;

use serde_json::Value;

use super::document::Node;
use super::support;
use crate::access_log::{AccessLog, Destination, Format, JsonFormat, Template};

/// Envoy's format of a log without a format.
const DEFAULT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

/// Parses access logs; those of other types are left out.
pub(super) fn access_logs(node: &Node<'_>) -> Option<Vec<AccessLog>> {
    let logs: Vec<Option<AccessLog>> = node.each(access_log).into_iter().collect::<Option<_>>()?;
    Some(logs.into_iter().flatten().collect())
}

fn access_log(node: &Node<'_>) -> Option<Option<AccessLog>> {
    let mut fields = node.message(&support::ACCESS_LOG)?;
    let _name = fields.take("name").and_then(|node| node.string());
    let typed = fields.require("typed_config");
    fields.finish();
    let typed = typed?;
    let mut config = typed.fields()?;
    let message = config.message_type()?;
    let (mut config, destination) = match message.as_str() {
        name if name == support::STDOUT_LOG.name => (config.of(&support::STDOUT_LOG), Some(Destination::Stdout)),
        name if name == support::FILE_LOG.name => {
            let mut config = config.of(&support::FILE_LOG);
            let path = config.require("path").and_then(|node| node.string());
            (config, path.map(|path| Destination::File(PathBuf::from(path))))
        }
        other => {
            typed.leave_out(other);
            return Some(None);
        }
    };
    let template = match config.take("log_format") {
        Some(node) => template(&node),
        None => Format::parse(DEFAULT, false).ok().map(Template::Text),
    };
    config.finish();
    Some(Some(AccessLog { destination: destination?, template: template?, path: node.path().to_owned() }))
}

/// Parses Envoy's `SubstitutionFormatString`.
fn template(node: &Node<'_>) -> Option<Template> {
    let mut fields = node.message(&support::LOG_FORMAT)?;
    let omit = omit_empty_values(fields.take("omit_empty_values"));
    let source = fields.take("text_format_source");
    let text = fields.take("text_format");
    let json = fields.take("json_format");
    fields.finish();
    // Problems of the format are reported even if this flag is wrong.
    let omits = omit.unwrap_or_default();
    let template = match (source, text, json) {
        (Some(source), None, None) => text_format(&source, omits).map(Template::Text),
        (None, Some(text), None) => format(&text, omits).map(Template::Text),
        (None, None, Some(object)) => json_format(&object, omits).map(Template::Json),
        _ => node.expected("one of `text_format_source`, `text_format` and `json_format`"),
    };
    omit.and(template)
}

/// Parses a `SubstitutionFormatString` with a text format.
pub(super) fn text_template(node: &Node<'_>) -> Option<Format> {
    let mut fields = node.message(&support::LOG_FORMAT)?;
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
    let mut fields = node.message(&support::DATA_SOURCE)?;
    let inline = fields.require("inline_string");
    fields.finish();
    format(&inline?, omit_empty_values)
}

/// Parses a format string.
pub(super) fn format(node: &Node<'_>, omit_empty_values: bool) -> Option<Format> {
    match Format::parse(&node.string()?, omit_empty_values) {
        Ok(format) => Some(format),
        Err(error) => {
            node.unsupported(&error.to_string());
            None
        }
    }
}

fn json_format(node: &Node<'_>, omit_empty_values: bool) -> Option<JsonFormat> {
    let Value::Object(object) = node.json() else { return node.expected("an object") };
    match JsonFormat::parse(&object, omit_empty_values) {
        Ok(format) => Some(format),
        Err(errors) => {
            errors.iter().for_each(|(place, error)| node.child(place).unsupported(&error.to_string()));
            None
        }
    }
}

//! Access logs: one line for each HTTP stream, with Envoy's command operators.
//!
//! [`Format`] is a parsed format string; [`Template`] renders a line from one format string, or from a JSON object of
//! several. The [`writer`] writes the lines. Operators that the harness does not support are refused by name. (Envoy,
//! "Access logging", "Format strings"; missing values are rendered as observed in Envoy 1.40.)

mod format;
mod json;
mod operator;
pub(crate) mod writer;

use std::path::PathBuf;

use crate::http::Stream;

pub use format::{Format, FormatError};
pub use json::JsonFormat;
pub use operator::Operator;

/// Access log of a listener.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Destination of the lines.
    pub destination: Destination,
    /// Template of a line.
    pub template: Template,
    /// Path of the log's configuration in the bootstrap, for error texts.
    pub path: String,
}

/// Destination of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The process' standard output.
    Stdout,
    /// A file, opened for appending; relative to the current directory.
    File(PathBuf),
}

/// Template of an access log line.
#[derive(Debug, Clone)]
pub enum Template {
    /// Text; a line feed is part of the format string.
    Text(Format),
    /// JSON object; a line feed is added.
    Json(JsonFormat),
}

impl Template {
    /// Returns the line of a stream, with its line feed.
    pub(crate) fn render(&self, stream: &Stream) -> String {
        match self {
            Self::Text(format) => format.render(stream),
            Self::Json(format) => format.render(stream) + "\n",
        }
    }
}

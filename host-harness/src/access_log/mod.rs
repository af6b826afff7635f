//! Access logs: a line for each exchange, in the words of Envoy's command operators.
//!
//! [`Format`] is a format string, parsed; [`Template`] makes a line of one, or of a JSON object of several; neither
//! knows where lines go. Only the [`writer`] does. Operators that the harness has no true value for are refused by
//! name. (Envoy, "Access logging", "Format strings"; what is missing looks as it was seen to in Envoy 1.40.)

mod format;
mod json;
mod operator;
pub(crate) mod writer;

use std::path::PathBuf;

use crate::abi::stream::Stream;

pub use format::{Format, FormatError};
pub use json::JsonFormat;
pub use operator::Operator;

/// One access log of a listener.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where its lines go.
    pub destination: Destination,
    /// What a line is.
    pub template: Template,
    /// The path in the bootstrap of where it is configured, for messages.
    pub path: String,
}

/// Where an access log's lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The process' standard output.
    Stdout,
    /// A file, appended to; relative to the current directory.
    File(PathBuf),
}

/// What makes a line of an exchange.
#[derive(Debug, Clone)]
pub enum Template {
    /// A text, line feeds included.
    Text(Format),
    /// An object on a line of its own.
    Json(JsonFormat),
}

impl Template {
    /// What is logged of an exchange, its line feed included.
    pub(crate) fn render(&self, stream: &Stream) -> String {
        match self {
            Self::Text(format) => format.render(stream),
            Self::Json(format) => format.render(stream) + "\n",
        }
    }
}

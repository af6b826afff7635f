//! Errors of a configuration, and notices about corrected values.

use alloc::fmt;
use alloc::string::String;
use alloc::vec::Vec;

use crate::descriptor::RegexError;
use crate::limit::{AlgorithmError, AlgorithmsError};
use crate::response::Template;
use crate::units::{Micros, Seconds};

/// All errors of a configuration: at least one, in the order in which the fields are read.
///
/// Displayed with one error per line. Errors contain no secret: no value or unknown name below `redis`, no value that a
/// header, a query parameter or a cookie must have, and no text that looks like a URL with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        Self(errors)
    }

    /// The errors, in the order in which the fields are read.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// Displays the first error alone.
    #[must_use]
    pub fn first(&self) -> impl fmt::Display {
        fmt::from_fn(|f| self.iter().take(1).try_for_each(|error| write!(f, "{error}")))
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(i, error)| {
            let line_break = if i == 0 { "" } else { "\n" };
            write!(f, "{line_break}{error}")
        })
    }
}

impl core::error::Error for ConfigErrors {}

/// Error at one path of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    /// Path of the value: `limits[2].token_bucket.fill_interval`, or `configuration` for the whole.
    pub path: String,
    /// Problem with the value.
    pub problem: Problem,
}

/// Problem at one path of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not JSON. The text itself may hold secrets and is not repeated.
    #[error("expected JSON, found a syntax error at line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in bytes; 0 where the text ends too soon at the start of a line.
        column: usize,
    },
    /// A value that is not accepted at this path.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// The values that are accepted.
        expected: Expected,
        /// The value found.
        found: Found,
    },
    /// An unknown field.
    #[error("unknown field{}, expected {}", Meant(.meant), Fields(.known))]
    UnknownField {
        /// The known field with the most similar name, if any is similar.
        meant: Option<&'static str>,
        /// The fields of this object.
        known: &'static [&'static str],
    },
    /// A word in braces that is no placeholder of a response.
    #[error("unknown placeholder {found}{}, expected one of {}", Meant(.meant), Names(Template::PLACEHOLDERS))]
    UnknownPlaceholder {
        /// The word in its braces, as errors show text.
        found: String,
        /// The placeholder with the most similar name, if any is similar.
        meant: Option<&'static str>,
    },
    /// An item with the same key as an earlier item.
    #[error("expected each one only once, found the same as {first}")]
    Duplicate {
        /// The earlier item's path.
        first: String,
    },
    /// `password: {env: NAME}` names a variable that is not in the filter's environment. The error leaves the name out,
    /// as it may be a password.
    #[error(
        "expected a value in the environment variable of this name, found it unset or empty (list it in \
         vm_config.environment_variables of both the limiter and the bridge: a proxy passes no other variable on, and \
         both plugins have one VM)"
    )]
    Environment,
    /// A text that is no valid regular expression.
    #[error("expected {0}")]
    Regex(RegexError),
    /// Numbers that an algorithm cannot have.
    #[error("{0}")]
    Algorithm(AlgorithmError),
    /// Windows that one limit cannot have.
    #[error("{0}")]
    Algorithms(AlgorithmsError),
}

/// Values that are accepted at a path of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A description of the values.
    The(&'static str),
    /// A whole number within bounds, both included.
    Integer {
        /// Least number.
        min: u64,
        /// Greatest number.
        max: u64,
    },
    /// A string with a length in bytes within bounds, both included.
    Text {
        /// Least length in bytes.
        min: usize,
        /// Greatest length in bytes.
        max: usize,
    },
    /// A list with a number of items within bounds, both included.
    Items {
        /// Least number of items.
        min: usize,
        /// Greatest number of items.
        max: usize,
    },
    /// A duration within bounds, both included.
    Duration {
        /// Shortest duration.
        min: Micros,
        /// Longest duration.
        max: Micros,
    },
    /// A string of a list.
    OneOf(Vec<&'static str>),
    /// An object with exactly one of these fields.
    OneField(&'static [&'static str]),
    /// Exactly one of these fields, beside others.
    ExactlyOne(&'static [&'static str]),
    /// At most one of these fields, beside others.
    AtMostOne(&'static [&'static str]),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::The(words) => f.write_str(words),
            Self::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Self::Text { min, max } => write!(f, "a string of {min} to {max} bytes"),
            Self::Items { min, max } => write!(f, "a list of {min} to {max} items"),
            Self::Duration { min, max } => write!(f, "a duration from \"{}\" to \"{}\"", Seconds(*min), Seconds(*max)),
            Self::OneOf(values) => values.iter().enumerate().try_for_each(|(i, value)| {
                let or = if i == 0 { "" } else { " or " };
                write!(f, "{or}\"{value}\"")
            }),
            Self::OneField(names) => write!(f, "an object with exactly {}", Fields(names)),
            Self::ExactlyOne(names) => write!(f, "exactly {}", Fields(names)),
            Self::AtMostOne(names) => write!(f, "at most {}", Fields(names)),
        }
    }
}

/// Value found at a path of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No value: the field is absent.
    Nothing,
    /// A number of fields that exclude each other.
    Several(usize),
    /// A value as JSON, shortened; for a secret only its kind.
    Value(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Several(several) => write!(f, "{several} of them"),
            Self::Value(value) => f.write_str(value),
        }
    }
}

/// Notice about a value that the filter corrects, with its path. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {notice}")]
pub struct ConfigNotice {
    /// Path of the value, such as `redis.password.env`.
    pub path: String,
    /// Correction of the value.
    pub notice: Notice,
}

/// Correction of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// White space around a username or a password is cut off: most often the final newline of a file that became a
    /// secret.
    #[error("the value{} {}; it is read without", Of(.variable), if *.is_newline_at_end { "ends in a newline" } else { "has white space around it" })]
    Trimmed {
        /// The environment variable with the value. `None` for an inline value.
        variable: Option<String>,
        /// Whether only line ends at the value's end were cut off.
        is_newline_at_end: bool,
    },
}

struct Of<'a>(&'a Option<String>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |name| write!(f, " of {name}"))
    }
}

struct Names<'a>(&'a [&'static str]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, name)| {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(name)
        })
    }
}

struct Fields<'a>(&'a [&'static str]);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("no field here"),
            [only] => f.write_str(only),
            several => write!(f, "one of {}", Names(several)),
        }
    }
}

struct Meant<'a>(&'a Option<&'static str>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " (did you mean {name}?)"),
            None => Ok(()),
        }
    }
}

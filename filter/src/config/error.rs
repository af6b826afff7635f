//! What can be wrong with a configuration, and how it is told.

use alloc::fmt;
use alloc::string::String;
use alloc::vec::Vec;

use super::duration::Seconds;
use crate::descriptor::RegexError;
use crate::limit::{AlgorithmError, AlgorithmsError};
use crate::units::Micros;

/// Everything that is wrong with a configuration: at least one error, in the order of the fields read.
///
/// Displayed with one error per line. HeldSlots no secret: no value or unknown name below `redis`, no value that a header,
/// a query parameter or a cookie must have, and nothing that looks like a URL with a password, is part of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    first: ConfigError,
    rest: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The errors of `all`; `None` where there are none.
    pub(super) fn among(all: Vec<ConfigError>) -> Option<Self> {
        let mut all = all.into_iter();
        all.next().map(|first| Self { first, rest: all.collect() })
    }

    /// The first error alone.
    #[must_use]
    pub fn into_first(self) -> ConfigError {
        self.first
    }

    /// Each error in turn.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        core::iter::once(&self.first).chain(&self.rest)
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(first: ConfigError) -> Self {
        Self { first, rest: Vec::new() }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.rest.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl core::error::Error for ConfigErrors {}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    /// Where: `limits[2].token_bucket.fill_interval`, or `configuration` for the whole.
    pub path: String,
    /// What.
    pub problem: Problem,
}

/// What is wrong at one place of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not JSON. The text itself may hold secrets and is not repeated.
    #[error("expected JSON, found a syntax error at line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1, in bytes; 0 where the text ends too soon at a line's start.
        column: usize,
    },
    /// Another value than this place takes.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What this place takes.
        expected: Expected,
        /// What is there.
        found: Found,
    },
    /// A field that nothing reads.
    #[error("unknown field{}, expected {}", Meant(.meant), Fields(.known))]
    UnknownField {
        /// The known field that it resembles.
        meant: Option<&'static str>,
        /// The fields that this object takes.
        known: &'static [&'static str],
    },
    /// What must be different is the same.
    #[error("expected each one only once, found the same as {first}")]
    Duplicate {
        /// The path of its first occurrence.
        first: String,
    },
    /// `password: {env: NAME}` names a variable that the filter does not see. Its name may be a password.
    #[error(
        "expected a value in the environment variable of this name, found it unset or empty (list it in \
         vm_config.environment_variables of both the limiter and the bridge: a proxy passes no other variable on, and \
         both plugins have one VM)"
    )]
    Environment,
    /// A regular expression that is none.
    #[error("expected {0}")]
    Regex(RegexError),
    /// An algorithm that cannot have such numbers.
    #[error("{0}")]
    Algorithm(AlgorithmError),
    /// Windows that cannot be those of one limit.
    #[error("{0}")]
    Algorithms(AlgorithmsError),
}

/// What a place of the configuration takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// In words.
    The(&'static str),
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A string of so many bytes, both bounds included.
    Text {
        /// The least.
        min: usize,
        /// The greatest.
        max: usize,
    },
    /// A list of so many items, both bounds included.
    Items {
        /// The least.
        min: usize,
        /// The greatest.
        max: usize,
    },
    /// A duration within bounds, both included.
    Duration {
        /// The shortest.
        min: Micros,
        /// The longest.
        max: Micros,
    },
    /// One of these strings.
    OneOf(Vec<&'static str>),
    /// An object with exactly one of these fields.
    OneField(&'static [&'static str]),
    /// Exactly one of these fields, beside others.
    ExactlyOne(&'static [&'static str]),
    /// One of these fields or none, beside others.
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

/// What is at a place of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The field is absent.
    Nothing,
    /// So many fields that exclude each other.
    Several(usize),
    /// A value, as JSON, shortened; of a secret only its kind.
    Value(String),
    /// A value that will be understood one day.
    NotYetSupported(&'static str),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Several(several) => write!(f, "{several} of them"),
            Self::Value(value) => f.write_str(value),
            Self::NotYetSupported(value) => write!(f, "\"{value}\", which is not supported yet"),
        }
    }
}

/// A value that the filter corrects, with its place. HeldSlots no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {notice}")]
pub struct ConfigNotice {
    /// Where: `redis.password.env`.
    pub path: String,
    /// What.
    pub notice: Notice,
}

/// What the filter corrects in a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// White space around a user or a password: most often the newline of a file that a secret was made of.
    #[error("the value{} {}; it is read without", Of(.variable), if *.is_newline_at_end { "ends in a newline" } else { "has white space around it" })]
    Trimmed {
        /// The environment variable that has the value.
        variable: Option<String>,
        /// Whether all that was cut off is line ends at its end.
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

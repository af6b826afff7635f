//! Findings about the configuration of a limiter, at the places of its values.

use weir_filter::config::{ConfigError, Problem};

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::At;
use crate::files::{Unwritten, Written};

/// Finding about a configuration that the filter never gets.
pub(super) fn unwritten(error: &Unwritten<'_>) -> Finding {
    let Unwritten { at, field, expected, found, help } = error;
    match field {
        Some(field) => Finding::at_field(rules::CONFIGURATION, at, field, *expected, found, *help),
        None => Finding::at(rules::CONFIGURATION, at, *expected, found, *help),
    }
}

/// Findings about a configuration, at the values that they name.
pub(super) trait Findings {
    /// Finding about an error of the filter, at the value that it names.
    fn finding(&self, error: &ConfigError) -> Finding;

    /// A finding at a path of the filter's configuration.
    fn at_path(&self, path: &str, finding: impl FnOnce(&At<'_>) -> Finding) -> Finding;
}

impl Findings for Written<'_> {
    fn finding(&self, error: &ConfigError) -> Finding {
        let at = self.place(&error.path);
        let text = error.problem.to_string();
        let text = text.strip_prefix("expected ").unwrap_or(&text);
        let (expected, found, help) = match &error.problem {
            Problem::UnknownField { meant, .. } => {
                let (_, expected) = text.split_once("expected ").unwrap_or(("", text));
                let help = match meant {
                    Some(meant) => format!("rename it to {meant}"),
                    None => "remove it, or move it to the object that has this field".to_owned(),
                };
                (expected.to_owned(), "an unknown field".to_owned(), help)
            }
            Problem::UnknownPlaceholder { found, meant } => {
                let (_, expected) = text.split_once("expected ").unwrap_or(("", text));
                let help = meant.map_or("remove it".to_owned(), |meant| format!("rename it to {meant}"));
                (expected.to_owned(), format!("the unknown placeholder {found}"), help)
            }
            Problem::Environment => {
                let (expected, found) = text.split_once(", found ").unwrap_or((text, ""));
                let (found, help) = found.split_once(" (").unwrap_or((found, ""));
                (expected.to_owned(), found.to_owned(), help.trim_end_matches(')').to_owned())
            }
            problem => {
                let (expected, found) = text.split_once(", found ").unwrap_or((text, "another value"));
                let help = match problem {
                    Problem::Syntax { .. } => "mend the JSON text",
                    Problem::Duplicate { .. } => "remove or rename one of them",
                    _ => "change the value; docs/src/configuration.md lists the fields with their bounds",
                };
                (expected.to_owned(), found.to_owned(), help.to_owned())
            }
        };
        let finding = Finding::at(rules::CONFIGURATION, &at, expected, found, help);
        Finding { path: self.path(&error.path), position: self.position(error), ..finding }
    }

    fn at_path(&self, path: &str, finding: impl FnOnce(&At<'_>) -> Finding) -> Finding {
        Finding { path: self.path(path), ..finding(&self.place(path)) }
    }
}

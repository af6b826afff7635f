//! Finding: one error, warning or note, with its place and the way to mend it.

use crate::documents::{At, Position};

use super::rules::Rule;

/// Importance of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Envoy refuses the file, or no request is limited as configured.
    Error,
    /// The file works, but may surprise its author.
    Warning,
    /// A part of the configuration cannot be checked here.
    Note,
}

/// Error, warning or note. No text in it contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) file: String,
    pub(super) position: Position,
    /// Path in the document; empty for the whole document.
    pub(super) path: String,
    pub(super) expected: String,
    pub(super) found: String,
    /// Instruction for mending it, with the reason where that is not obvious.
    pub(super) help: String,
}

impl Finding {
    /// A finding about a value.
    pub(super) fn at(
        rule: Rule,
        at: &At<'_>,
        expected: impl Into<String>,
        found: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            file: at.document.origin.clone(),
            position: at.node.position,
            path: at.path.clone(),
            expected: expected.into(),
            found: found.into(),
            help: help.into(),
        }
    }

    /// A finding about a field that is absent, or about its value if it is present.
    pub(super) fn at_field(
        rule: Rule,
        owner: &At<'_>,
        field: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        match owner.field(field) {
            Some(at) => Self::at(rule, &at, expected, found, help),
            None => Self { path: owner.path_of(field), ..Self::at(rule, owner, expected, found, help) },
        }
    }

    /// The same finding at the key of a field instead of its value.
    pub(super) fn at_key(self, at: &At<'_>) -> Self {
        Self { position: at.key, ..self }
    }

    pub(super) fn severity(&self) -> Severity {
        self.rule.severity
    }

    pub(super) fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }

    /// Returns the values expected and found, as one sentence.
    pub(super) fn message(&self) -> String {
        format!("expected {}, found {}", self.expected, self.found)
    }
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

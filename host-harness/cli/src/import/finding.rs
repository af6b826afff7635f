//! Findings of an import: what differs, what could not be translated, and why, each with its place.

use crate::documents::{At, Position};
use crate::printable::line;

/// Importance of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The input cannot be read, or the original refuses it.
    Error,
    /// A part of the input is not in the result.
    Untranslated,
    /// The result differs from the original, or needs a step by hand.
    Warning,
}

/// Kind of a finding. Names are stable: scripts may select findings by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
}

/// File, position and path of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) position: Position,
    pub(super) path: String,
}

/// Error, untranslated part or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) place: Place,
    pub(super) message: String,
    /// Instruction, or the consequence.
    pub(super) help: String,
}

/// All findings of an import, in the order found, each once.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $severity:ident;)*) => {
        $($(#[$doc])* pub(super) const $rule: Rule = Rule { name: $name, severity: Severity::$severity };)*

        /// All rules.
        #[cfg(test)]
        const ALL: &[Rule] = &[$($rule),*];
    };
}

rules! {
    /// A file cannot be read.
    UNREADABLE = "unreadable", Error;
    /// A file is neither YAML nor JSON.
    SYNTAX = "syntax", Error;
    /// The files have no limits of a kind that is imported.
    NO_LIMITS = "no-limits", Error;
    /// A value that the original refuses.
    INVALID = "invalid", Error;
    /// Limits of a domain or namespace without the Envoy file that says where descriptors come from, or the reverse.
    NO_SOURCE = "no-source", Untranslated;
    /// An action of Envoy's `rate_limits`.
    ACTION = "action", Untranslated;
    /// A value of a descriptor that no predicate compares.
    VALUE = "value", Untranslated;
    /// A route whose match no predicate expresses.
    ROUTE = "route", Untranslated;
    /// A cost that is not a number above 0.
    COST = "cost", Untranslated;
    /// A limit that a request carries.
    OVERRIDE = "limit-override", Untranslated;
    /// A field without a counterpart.
    FIELD = "field", Untranslated;
    /// A CEL expression beyond the subset.
    EXPRESSION = "expression", Untranslated;
    /// Policies that are merged with others.
    MERGED_POLICY = "merged-policy", Untranslated;
    /// A whole kind of resource without a counterpart.
    KIND = "kind", Untranslated;
    /// A limit beyond the bounds of Weir's configuration.
    BOUNDS = "bounds", Untranslated;
    /// Denied requests, which the original counts.
    DENIED_COUNT = "denied-count", Warning;
    /// Windows that begin at the first request in the original.
    WINDOW_START = "window-start", Warning;
    /// A month of 30 days, a year of 365.
    CALENDAR = "calendar", Warning;
    /// Siblings of a descriptor, of which the most specific one holds.
    SPECIFIC = "most-specific", Warning;
    /// `replaces`, as an exemption.
    REPLACES = "replaces", Warning;
    /// Metrics for each value.
    METRICS = "metrics", Warning;
    /// `skip_if_absent` and default values, as limits of their own or defaults.
    ABSENT = "absent-value", Warning;
    /// Stages and runtime keys.
    RUNTIME = "runtime", Warning;
    /// A descriptor that no request has.
    UNREACHED = "unreached", Warning;
    /// A counter that the original shares.
    SHARED_COUNTER = "shared-counter", Warning;
    /// A target that has to be attached by hand.
    TARGET = "target", Warning;
    /// Response headers.
    HEADERS = "headers", Warning;
    /// A host in one spelling.
    SPELLING = "spelling", Warning;
    /// A limit of zero.
    ZERO = "zero", Warning;
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Untranslated => "untranslated",
            Self::Warning => "warning",
        }
    }
}

impl Place {
    pub(super) fn of(at: &At<'_>) -> Self {
        Self { file: at.document.origin.clone(), position: at.node.position, path: at.path.clone() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", line(&self.file), self.position.line)
    }
}

impl Findings {
    pub(super) fn add(&mut self, rule: Rule, at: &At<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.add_at(rule, Place::of(at), message, help);
    }

    pub(super) fn add_at(&mut self, rule: Rule, place: Place, message: impl Into<String>, help: impl Into<String>) {
        let finding = Finding { rule, place, message: message.into(), help: help.into() };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// The findings by file, line and column.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by(|a, b| (&a.place.file, a.place.position).cmp(&(&b.place.file, b.place.position)));
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_rule_with_its_severity() {
        let page = include_str!("../../../../docs/src/import.md");
        for rule in ALL {
            let start = format!("| `{}` | {} |", rule.name, rule.severity.name());
            assert!(page.lines().any(|row| row.starts_with(&start)), "docs/src/import.md has no row {start}");
        }
    }
}

//! Output of findings: text for people, JSON for programs, annotations for GitHub's workflows.

mod github;
mod json;
mod text;

use super::finding::{Finding, Severity};
use super::judge::Summary;

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    Text,
    /// JSON: one object per line, the last one with the numbers
    Json,
    /// Workflow commands of GitHub, which annotate the lines of a pull request
    Github,
}

/// The whole output, with a line break at its end.
pub(super) fn render(format: Format, findings: &[Finding], summaries: &[Summary]) -> String {
    match format {
        Format::Text => text::render(findings, summaries),
        Format::Json => json::render(findings, summaries),
        Format::Github => github::render(findings, summaries),
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity() == severity).count()
}

/// A number with its noun in the plural if need be.
fn plural(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::rules;
    use crate::documents::Position;

    fn finding() -> Finding {
        Finding {
            rule: rules::MISSING_CLUSTER,
            file: "a,b.yaml".to_owned(),
            position: Position { line: 3, column: 7 },
            path: "limits[0]".to_owned(),
            expected: "50% of\nit".to_owned(),
            found: "none".to_owned(),
            help: "add it".to_owned(),
        }
    }

    #[test]
    fn a_finding_is_a_line_and_the_way_to_mend_it() {
        let text = render(Format::Text, &[finding()], &[]);
        let expected =
            "a,b.yaml:3:7: error: expected 50% of\\nit, found none [missing-cluster]\n    at limits[0]\n    add it\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_finding_is_an_object() {
        let text = render(Format::Json, &[finding()], &[]);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({
                "severity": "error", "rule": "missing-cluster", "file": "a,b.yaml", "line": 3, "column": 7,
                "path": "limits[0]", "expected": "50% of\nit", "found": "none", "help": "add it",
            })
        );
        assert_eq!(lines[1], serde_json::json!({"errors": 1, "warnings": 0, "notes": 0, "groups": []}));
    }

    #[test]
    fn a_finding_is_an_annotation() {
        let text = render(Format::Github, &[finding()], &[]);
        let expected = "::error file=a%2Cb.yaml,line=3,col=7,title=weir check%3A missing-cluster::expected 50%25 \
                        of%0Ait, found none%0Aat limits[0]%0Aadd it\n";
        assert_eq!(text, expected);
    }
}

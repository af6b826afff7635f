//! Findings as text: a line with the place as compilers print it, the path, and the way to mend it.

use super::{count, plural};
use crate::check::finding::{Finding, Severity};
use crate::check::judge::Summary;

pub(super) fn render(findings: &[Finding], summaries: &[Summary]) -> String {
    findings.iter().map(finding).collect::<String>() + &last_lines(findings, summaries)
}

/// A line for each group: its files, what is in them, and how many findings there are.
pub(super) fn last_lines(findings: &[Finding], summaries: &[Summary]) -> String {
    summaries.iter().map(|summary| last_line(findings, summary)).collect()
}

fn last_line(findings: &[Finding], summary: &Summary) -> String {
    let of_group: Vec<Finding> =
        findings.iter().filter(|finding| summary.files.contains(&finding.file)).cloned().collect();
    let (errors, warnings) = (count(&of_group, Severity::Error), count(&of_group, Severity::Warning));
    let verdict = match (errors, warnings) {
        (0, 0) if summary.limiters == 0 => "no errors, no limiter".to_owned(),
        (0, 0) => "all is well".to_owned(),
        (0, warnings) => format!("no errors, {}", plural(warnings, "warning")),
        (errors, 0) => plural(errors, "error"),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    let mut parts = vec![
        plural(summary.listeners, "listener"),
        plural(summary.clusters, "cluster"),
        plural(summary.limiters, "limiter"),
        plural(summary.bridges, "bridge"),
    ];
    if summary.others > 0 {
        parts.push(plural(summary.others, "other wasm plugin"));
    }
    format!("{}: {}: {verdict}\n", summary.files.join(" + "), parts.join(", "))
}

fn finding(finding: &Finding) -> String {
    let Finding { file, position, path, help, rule, .. } = finding;
    let (severity, message) = (finding.severity().name(), finding.message());
    let at = if path.is_empty() { String::new() } else { format!("    at {path}\n") };
    format!("{file}:{}:{}: {severity}: {message} [{}]\n{at}    {help}\n", position.line, position.column, rule.name)
}

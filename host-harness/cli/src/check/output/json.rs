//! Findings as JSON: one object per line, and a last line with the numbers.

use serde_json::json;

use super::count;
use crate::check::finding::{Finding, Severity};
use crate::check::judge::Summary;

pub(super) fn render(findings: &[Finding], summaries: &[Summary]) -> String {
    let lines = findings.iter().map(|finding| {
        json!({
            "severity": finding.severity().name(),
            "rule": finding.rule.name,
            "file": finding.file,
            "line": finding.position.line,
            "column": finding.position.column,
            "path": finding.path,
            "expected": finding.expected,
            "found": finding.found,
            "help": finding.help,
        })
    });
    let groups: Vec<_> = summaries.iter().map(group).collect();
    let last = json!({
        "errors": count(findings, Severity::Error),
        "warnings": count(findings, Severity::Warning),
        "notes": count(findings, Severity::Note),
        "groups": groups,
    });
    lines.chain([last]).map(|line| format!("{line}\n")).collect()
}

fn group(summary: &Summary) -> serde_json::Value {
    let Summary { files, listeners, clusters, limiters, bridges, others } = summary;
    json!({
        "files": files,
        "listeners": listeners,
        "clusters": clusters,
        "limiters": limiters,
        "bridges": bridges,
        "other_plugins": others,
    })
}

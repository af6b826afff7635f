//! Findings as text: a line with the place as compilers print it, the path, and the way to mend it.

use std::collections::{BTreeSet, HashMap};

use super::plural;
use crate::check::finding::{Finding, Severity};
use crate::check::judge::Summary;
use crate::printable::line;

pub(super) fn render(findings: &[Finding], summaries: &[Summary]) -> String {
    findings.iter().map(finding).collect::<String>() + &last_lines(findings, summaries)
}

/// A line for each group: its files, what is in them, and how many findings there are.
pub(super) fn last_lines(findings: &[Finding], summaries: &[Summary]) -> String {
    let mut numbers: HashMap<&str, (usize, usize)> = HashMap::new();
    for finding in findings {
        let (errors, warnings) = numbers.entry(&finding.file).or_default();
        match finding.severity() {
            Severity::Error => *errors += 1,
            Severity::Warning => *warnings += 1,
            Severity::Note => {}
        }
    }
    let of = |summary: &Summary| {
        let files: BTreeSet<&String> = summary.files.iter().collect();
        let of_files = files.into_iter().filter_map(|file| numbers.get(file.as_str()));
        of_files.fold((0, 0), |(errors, warnings), more| (errors + more.0, warnings + more.1))
    };
    summaries.iter().map(|summary| last_line(of(summary), summary)).collect()
}

fn last_line((errors, warnings): (usize, usize), summary: &Summary) -> String {
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
    format!("{}: {}: {verdict}\n", line(&summary.files.join(" + ")), parts.join(", "))
}

fn finding(finding: &Finding) -> String {
    let Finding { file, position, path, help, rule, .. } = finding;
    let (severity, message) = (finding.severity().name(), finding.message());
    let at = if path.is_empty() { String::new() } else { format!("    at {}\n", line(path)) };
    let (file, message, help) = (line(file), line(&message), line(help));
    format!("{file}:{}:{}: {severity}: {message} [{}]\n{at}    {help}\n", position.line, position.column, rule.name)
}

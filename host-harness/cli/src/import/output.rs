//! Output of findings, in the forms of `weir check`: text, JSON lines, annotations of GitHub's workflows.

use serde_json::json;

use super::finding::{Finding, Severity};
use crate::check::Format;
use crate::printable::line;

/// All findings and a last line with the numbers, with a line break at its end.
pub(super) fn render(format: Format, findings: &[Finding], limits: usize, configurations: usize) -> String {
    let lines = findings.iter().map(|finding| match format {
        Format::Text => text(finding),
        Format::Json => json(finding),
        Format::Github => github(finding),
    });
    let last = match format {
        Format::Json => {
            let [errors, untranslated, warnings] =
                [Severity::Error, Severity::Untranslated, Severity::Warning].map(|severity| count(findings, severity));
            let numbers = json!({
                "configurations": configurations, "limits": limits,
                "errors": errors, "untranslated": untranslated, "warnings": warnings,
            });
            format!("{numbers}\n")
        }
        _ => last_line(findings, limits, configurations),
    };
    lines.collect::<String>() + &last
}

pub(super) fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.rule.severity == severity).count()
}

fn last_line(findings: &[Finding], limits: usize, configurations: usize) -> String {
    let plural = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    let errors = count(findings, Severity::Error);
    if errors > 0 {
        parts.push(plural(errors, "error"));
    }
    parts.push(format!("{} untranslated", count(findings, Severity::Untranslated)));
    parts.push(plural(count(findings, Severity::Warning), "warning"));
    let made = format!("{} in {}", plural(limits, "limit"), plural(configurations, "configuration"));
    format!("{made}: {}\n", parts.join(", "))
}

fn text(finding: &Finding) -> String {
    let Finding { rule, place, message, help } = finding;
    let at = if place.path.is_empty() { String::new() } else { format!("    at {}\n", line(&place.path)) };
    let (file, position) = (line(&place.file), place.position);
    let severity = rule.severity.name();
    format!("{file}:{position}: {severity}: {} [{}]\n{at}    {}\n", line(message), rule.name, line(help))
}

fn json(finding: &Finding) -> String {
    let Finding { rule, place, message, help } = finding;
    let value = json!({
        "severity": rule.severity.name(),
        "rule": rule.name,
        "file": place.file,
        "line": place.position.line,
        "column": place.position.column,
        "path": place.path,
        "message": message,
        "help": help,
    });
    format!("{value}\n")
}

fn github(finding: &Finding) -> String {
    let Finding { rule, place, message, help } = finding;
    let kind = if rule.severity == Severity::Warning { "warning" } else { "error" };
    let at = if place.path.is_empty() { String::new() } else { format!("%0Aat {}", data(&place.path)) };
    let (file, title) = (property(&place.file), property(&format!("weir import: {}", rule.name)));
    let (row, column) = (place.position.line, place.position.column);
    format!("::{kind} file={file},line={row},col={column},title={title}::{}{at}%0A{}\n", data(message), data(help))
}

fn data(text: &str) -> String {
    line(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

//! Findings as GitHub's workflow commands, and the last lines of the text.

use crate::check::finding::{Finding, Severity};
use crate::check::judge::Summary;
use crate::printable;

pub(super) fn render(findings: &[Finding], summaries: &[Summary]) -> String {
    let commands = findings.iter().map(command).collect::<String>();
    commands + &super::text::last_lines(findings, summaries)
}

fn command(finding: &Finding) -> String {
    let kind = match finding.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let at = if finding.path.is_empty() { String::new() } else { format!("\nat {}", finding.path) };
    let text = data(&format!("{}{at}\n{}", finding.message(), finding.help));
    let (file, title) = (property(&finding.file), property(&format!("weir check: {}", finding.rule.name)));
    let (line, column) = (finding.position.line, finding.position.column);
    format!("::{kind} file={file},line={line},col={column},title={title}::{text}\n")
}

fn data(text: &str) -> String {
    let text = text.split('\n').map(printable::line).collect::<Vec<_>>().join("\n");
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

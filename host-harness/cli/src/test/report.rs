//! Report of a run: a line for each file, failures like a diff, and a summary; and JUnit's XML.

use std::fmt::Write as _;
use std::time::Duration;

use super::file::Mistake;
use super::run::{Outcome, Problem, StepFailure, TestResult};
use crate::documents::Position;
use crate::markup::escaped;
use crate::printable::line;

/// Results of a file's tests.
#[derive(Debug, Clone)]
pub(super) struct FileResult {
    pub(super) file: String,
    pub(super) tests: Vec<TestResult>,
}

/// Numbers of tests by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Summary {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl FileResult {
    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for test in &self.tests {
            match test.outcome {
                Outcome::Passed => summary.passed += 1,
                Outcome::Failed(_) => summary.failed += 1,
                Outcome::Skipped(_) => summary.skipped += 1,
            }
        }
        summary
    }

    /// The file's line, then its failures and what was skipped.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}: {}\n", line(&self.file), self.summary());
        for test in &self.tests {
            match &test.outcome {
                Outcome::Passed => {}
                Outcome::Skipped(why) => _ = writeln!(text, "  skipped: {}: {}", line(&test.name), line(why)),
                Outcome::Failed(failures) => {
                    _ = writeln!(text, "  FAILED: {}", line(&test.name));
                    text.push_str(&self.failures(failures, "    "));
                }
            }
        }
        text
    }

    fn failures(&self, failures: &[StepFailure], indent: &str) -> String {
        let mut text = String::new();
        for StepFailure { place, step, problem } in failures {
            _ = writeln!(text, "{indent}{}: {}", self.at(*place), line(step));
            match problem {
                Problem::Error(why) => {
                    why.lines().for_each(|why| _ = writeln!(text, "{indent}  error: {}", line(why)));
                }
                Problem::Differences(differences) => {
                    for it in differences {
                        _ = writeln!(text, "{indent}  {} (line {})", line(&it.what), it.place.line);
                        _ = writeln!(text, "{indent}  - expected: {}", line(&it.expected));
                        _ = writeln!(text, "{indent}  + actual:   {}", line(&it.actual));
                    }
                }
            }
        }
        text
    }

    fn at(&self, place: Position) -> String {
        format!("{}:{}", line(&self.file), place.line)
    }
}

impl Summary {
    pub(super) fn of(files: &[FileResult]) -> Self {
        files.iter().map(FileResult::summary).fold(Self::default(), |sum, file| Self {
            passed: sum.passed + file.passed,
            failed: sum.failed + file.failed,
            skipped: sum.skipped + file.skipped,
        })
    }

    /// Number of tests.
    pub(super) fn tests(self) -> usize {
        self.passed + self.failed + self.skipped
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed", self.passed)?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// The last line of a run.
pub(super) fn last_line(files: &[FileResult], took: Duration, on: &str) -> String {
    let summary = Summary::of(files);
    let requests = files.iter().flat_map(|file| &file.tests).fold(0_u64, |sum, test| sum.saturating_add(test.requests));
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    format!(
        "{} test{} in {} file{}: {summary}; {requests} requests in {:.3} s {on}",
        summary.tests(),
        plural(summary.tests()),
        files.len(),
        plural(files.len()),
        took.as_secs_f64(),
    )
}

/// JUnit's XML of a run without results: an error for each mistake.
pub(super) fn junit_of_mistakes(mistakes: &[Mistake]) -> String {
    let (head, count) = ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", mistakes.len());
    let numbers = format!("tests=\"{count}\" failures=\"0\" errors=\"{count}\" skipped=\"0\" time=\"0\"");
    let mut xml =
        format!("{head}<testsuites name=\"weir test\" {numbers}>\n  <testsuite name=\"weir test\" {numbers}>\n");
    for mistake in mistakes {
        let (file, text) = (escaped(&mistake.file), escaped(&mistake.to_string()));
        let line = mistake.place.map(|place| format!(" line=\"{}\"", place.line)).unwrap_or_default();
        _ = writeln!(xml, "    <testcase name=\"{file}\" classname=\"{file}\" file=\"{file}\"{line} time=\"0\">");
        _ = writeln!(xml, "      <error message=\"{text}\"/>\n    </testcase>");
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// JUnit's XML: a suite for each file.
pub(super) fn junit(files: &[FileResult], took: Duration) -> String {
    let all = Summary::of(files);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    _ = writeln!(
        xml,
        "<testsuites name=\"weir test\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.6}\">",
        all.tests(),
        all.failed,
        all.skipped,
        took.as_secs_f64()
    );
    for file in files {
        let summary = file.summary();
        let time: Duration = file.tests.iter().map(|test| test.took).sum();
        let name = escaped(&file.file);
        _ = writeln!(
            xml,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.6}\">",
            summary.tests(),
            summary.failed,
            summary.skipped,
            time.as_secs_f64()
        );
        for test in &file.tests {
            let head = format!(
                "    <testcase name=\"{}\" classname=\"{name}\" file=\"{name}\" line=\"{}\" time=\"{:.6}\"",
                escaped(&test.name),
                test.place.line,
                test.took.as_secs_f64()
            );
            match &test.outcome {
                Outcome::Passed => _ = writeln!(xml, "{head}/>"),
                Outcome::Skipped(why) => _ = writeln!(xml, "{head}><skipped message=\"{}\"/></testcase>", escaped(why)),
                Outcome::Failed(failures) => {
                    let text = file.failures(failures, "");
                    let first = text.lines().next().unwrap_or_default();
                    let (message, text) = (escaped(first), escaped(&text));
                    _ = writeln!(xml, "{head}><failure message=\"{message}\">{text}</failure></testcase>");
                }
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

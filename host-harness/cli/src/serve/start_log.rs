//! Log of an Envoy that starts: what matters of it if the start fails.

use crate::output::note;

/// Longest log that is held, in bytes. A longer one is shown.
const MAX_HELD: usize = 1024 * 1024;
/// Text between the cause of a failed start and the name of the file.
const BEFORE_FILE: &str = "` initializing config '";

/// Lines of a log. Until Envoy serves, they are held, but for warnings.
pub(super) struct StartLog {
    /// Entries of one or more lines, with their levels; `None` once all lines are shown as they come.
    held: Option<Vec<Entry>>,
    size: usize,
}

struct Entry {
    is_error: bool,
    /// `[seconds][level][component] `.
    prefix: String,
    lines: Vec<String>,
    is_shown: bool,
}

impl StartLog {
    /// A log whose lines are all shown.
    pub(super) fn shown() -> Self {
        Self { held: None, size: 0 }
    }

    /// A log of which only warnings and errors are shown, if the start fails.
    pub(super) fn held() -> Self {
        Self { held: Some(Vec::new()), size: 0 }
    }

    /// Takes the next line.
    pub(super) fn take(&mut self, line: &str) {
        self.size += line.len();
        let Some(held) = self.held.as_mut().filter(|_| self.size <= MAX_HELD) else {
            self.succeeded();
            return note(line);
        };
        match (prefix(line), held.last_mut()) {
            (None, Some(entry)) => {
                if entry.is_shown {
                    note(line);
                }
                entry.lines.push(line.to_owned());
            }
            (prefix, _) => {
                let (prefix, level) = prefix.unwrap_or(("", "error"));
                let is_shown = level == "warning";
                if is_shown {
                    note(line);
                }
                let is_error = matches!(level, "error" | "critical");
                held.push(Entry { is_error, prefix: prefix.to_owned(), lines: vec![line.to_owned()], is_shown });
            }
        }
    }

    /// Shows the lines so far, and from now on all lines.
    pub(super) fn succeeded(&mut self) {
        let held = self.held.take().into_iter().flatten().filter(|entry| !entry.is_shown);
        held.flat_map(|entry| entry.lines).for_each(note);
    }

    /// Shows the causes of the errors so far.
    pub(super) fn ended(&mut self) {
        for entry in self.held.take().into_iter().flatten().filter(|entry| entry.is_error) {
            note(format_args!("{}{}", entry.prefix, entry.cause()));
        }
    }
}

impl Entry {
    /// The line with the cause: Envoy shows a whole message before it, and the name of the file behind it.
    fn cause(&self) -> &str {
        let before_file = |line: &'_ String| line.contains(BEFORE_FILE);
        let cause = self.lines.iter().rfind(|line| before_file(line)).or_else(|| self.lines.last());
        let cause = cause.map(|line| line.split(BEFORE_FILE).next().unwrap_or_default()).unwrap_or_default();
        let cause = cause.strip_prefix(&self.prefix).unwrap_or(cause);
        cause.strip_prefix("error `").unwrap_or(cause).trim_start_matches([':', ' '])
    }
}

/// Returns the beginning `[seconds][level][component] ` of an entry, and its level. `None` for a line inside an entry.
fn prefix(line: &str) -> Option<(&str, &str)> {
    let (time, rest) = line.strip_prefix('[')?.split_once("][")?;
    let (level, rest) = rest.split_once("][")?;
    let (_, message) = rest.split_once("] ")?;
    time.parse::<f64>().ok()?;
    Some((line.strip_suffix(message)?, level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_begins_with_its_time_level_and_component() {
        let line = "[1796034644.609][critical][main] error `proto    ";
        assert_eq!(prefix(line), Some(("[1796034644.609][critical][main] ", "critical")));
        assert_eq!(prefix("    [type.googleapis.com/envoy.Router] {"), None);
        assert_eq!(prefix("[a][b][c] d"), None);
        assert_eq!(prefix("[1.5][info][main] "), Some(("[1.5][info][main] ", "info")));
    }

    #[test]
    fn the_cause_of_an_error_is_one_line() {
        let prefix = "[1.5][critical][main] ";
        let cause = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Entry { is_error: true, prefix: prefix.to_owned(), lines, is_shown: false }.cause().to_owned()
        };
        let first = format!("{prefix}error `proto ");
        let lines = [first.as_str(), "a: 1", ": Constraint failed` initializing config 'proto ", "  a.yaml'"];
        assert_eq!(cause(&lines), "Constraint failed");
        assert_eq!(cause(&[&format!("{prefix}error `no file` initializing config 'a.yaml'")]), "no file");
        assert_eq!(cause(&[&format!("{prefix}cannot bind")]), "cannot bind");
    }

    #[test]
    fn a_log_of_an_endless_start_is_not_held() {
        let mut log = StartLog::held();
        log.take("[1.5][info][main] a");
        assert!(log.held.is_some());
        log.take(&"x".repeat(MAX_HELD));
        assert!(log.held.is_none());
    }
}

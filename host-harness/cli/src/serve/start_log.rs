//! Log of an Envoy, cut to what matters: warnings, errors and the lines of modules; of a start that fails, the cause.

use weir_host::documents::{At, Position, Source};

use super::violation;
use crate::output::note;

/// Longest errors that are held, in bytes. Longer ones are shown.
const MAX_HELD: usize = 1024 * 1024;
/// Text between the cause of a failed start and the name of the file.
const BEFORE_FILE: &str = "` initializing config '";
/// Beginning of an error that repeats the whole file after its cause.
const NO_PROTO: &str = "Unable to parse JSON as proto (";
/// Beginning of the messages of modules.
const OF_MODULE: &str = "wasm log";

/// Lines of a log. Until Envoy serves, errors are held: the last of them is the cause of a start that fails.
pub(super) struct StartLog {
    shows_all: bool,
    /// Entries with errors; `None` once Envoy serves.
    held: Option<Vec<Entry>>,
    size: usize,
    /// Kind of the last entry, to which lines without a prefix belong.
    kind: Kind,
}

/// Error of one or more lines.
struct Entry {
    /// `[seconds][level][component] `.
    prefix: String,
    lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    /// Warning, or line of a module.
    Shown,
    Dropped,
}

/// Beginning of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Prefix<'a> {
    /// `[seconds][level][component] `.
    text: &'a str,
    level: &'a str,
    component: &'a str,
}

impl StartLog {
    /// A log whose lines are all shown.
    pub(super) fn whole() -> Self {
        Self { shows_all: true, held: None, size: 0, kind: Kind::Error }
    }

    /// A log of which warnings, errors and the lines of modules are shown.
    pub(super) fn short() -> Self {
        Self { shows_all: false, held: Some(Vec::new()), size: 0, kind: Kind::Error }
    }

    /// Takes the next line.
    pub(super) fn take(&mut self, line: &str) {
        if self.shows_all {
            return note(line);
        }
        let prefix = prefix(line);
        let begins = prefix.is_some();
        if let Some(prefix) = &prefix {
            self.kind = prefix.kind(line);
        }
        match (self.kind, &mut self.held) {
            (Kind::Dropped, _) => {}
            (Kind::Shown, _) | (Kind::Error, None) => note(line),
            (Kind::Error, Some(held)) => {
                self.size += line.len();
                match held.last_mut() {
                    Some(entry) if !begins => entry.lines.push(line.to_owned()),
                    _ => {
                        let prefix = prefix.map(|prefix| prefix.text.to_owned()).unwrap_or_default();
                        held.push(Entry { prefix, lines: vec![line.to_owned()] });
                    }
                }
                if self.size > MAX_HELD {
                    self.succeeded();
                }
            }
        }
    }

    /// Shows the errors so far, and from now on errors as they come.
    pub(super) fn succeeded(&mut self) {
        self.held.take().into_iter().flatten().flat_map(|entry| entry.lines).for_each(note);
    }

    /// Shows the causes of the errors so far, with their places in the file.
    pub(super) fn ended(&mut self, source: &Source) {
        for entry in self.held.take().into_iter().flatten() {
            note(format_args!("{}{}", entry.prefix, entry.cause(source)));
        }
    }
}

impl Entry {
    /// The line with the cause: Envoy shows a whole message before it, and the file or its name behind it.
    fn cause(&self, source: &Source) -> String {
        if let Some((_, cause)) = self.lines.first().and_then(|line| line.split_once(NO_PROTO)) {
            let end = ["): {", "): [", "): \""].iter().filter_map(|end| cause.find(end)).min();
            return placed(end.and_then(|end| cause.get(..end)).unwrap_or(cause), source);
        }
        let before_file = |line: &'_ String| line.contains(BEFORE_FILE);
        let cause = self.lines.iter().rfind(|line| before_file(line)).or_else(|| self.lines.last());
        let cause = cause.map(|line| line.split(BEFORE_FILE).next().unwrap_or_default()).unwrap_or_default();
        let cause = cause.strip_prefix(&self.prefix).unwrap_or(cause);
        let cause = cause.strip_prefix("error `").unwrap_or(cause).trim_start_matches([':', ' ']);
        match violation::place(cause, source) {
            Some(Position { line, column }) => format!("{}:{line}:{column}: {cause}", source.origin),
            None if cause.contains(" near ") => placed(cause, source),
            None => cause.to_owned(),
        }
    }
}

/// Puts the place in the file before a cause, whose text is `… @ PATH: message …, near 1:55 (offset 54): …`. The numbers
/// refer to the file as JSON. Below a `typed_config`, the path has a step `<any>`.
fn placed(cause: &str, source: &Source) -> String {
    let words: Vec<&str> = cause.split_whitespace().collect();
    let mut cause = words.join(" ");
    if !source.is_json()
        && let Some((before, rest)) = cause.split_once(", near ")
        && let Some((_, after)) = rest.split_once("): ")
    {
        cause = format!("{before}: {after}");
    }
    let path = cause.split_once(" @ ").and_then(|(_, path)| path.split_once(": ")).map_or("", |(path, _)| path);
    let Some(document) = source.documents.first() else { return cause };
    let place = At::root(document).descend(&path.replace(".<any>", "")).key;
    format!("{}:{}:{}: {cause}", source.origin, place.line, place.column)
}

impl Prefix<'_> {
    fn kind(&self, line: &str) -> Kind {
        let message = line.strip_prefix(self.text).unwrap_or_default();
        match self.level {
            "error" | "critical" => Kind::Error,
            "warning" => Kind::Shown,
            _ if self.component == "wasm" && message.starts_with(OF_MODULE) => Kind::Shown,
            _ => Kind::Dropped,
        }
    }
}

/// Returns the beginning of an entry. `None` for a line inside an entry.
fn prefix(line: &str) -> Option<Prefix<'_>> {
    let (time, rest) = line.strip_prefix('[')?.split_once("][")?;
    let (level, rest) = rest.split_once("][")?;
    let (component, message) = rest.split_once("] ")?;
    time.parse::<f64>().ok()?;
    Some(Prefix { text: line.strip_suffix(message)?, level, component })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_begins_with_its_time_level_and_component() {
        let found = |line| prefix(line).map(|prefix| (prefix.text.to_owned(), prefix.level.to_owned()));
        let text = "[1796034644.609][critical][main] ".to_owned();
        assert_eq!(found("[1796034644.609][critical][main] error `proto    "), Some((text, "critical".to_owned())));
        assert_eq!(found("    [type.googleapis.com/envoy.Router] {"), None);
        assert_eq!(found("[a][b][c] d"), None);
        assert_eq!(found("[1.5][info][main] "), Some(("[1.5][info][main] ".to_owned(), "info".to_owned())));
    }

    #[test]
    fn lines_of_modules_are_shown_and_other_ones_of_no_weight_are_not() {
        let kind = |line| prefix(line).map(|prefix| prefix.kind(line));
        assert_eq!(kind("[1.5][info][wasm] wasm log: hello"), Some(Kind::Shown));
        assert_eq!(kind("[1.5][info][wasm] loaded"), Some(Kind::Dropped));
        assert_eq!(kind("[1.5][info][main] wasm log"), Some(Kind::Dropped));
        assert_eq!(kind("[1.5][warning][config] old"), Some(Kind::Shown));
        assert_eq!(kind("[1.5][error][wasm] wasm log: no"), Some(Kind::Error));
    }

    fn cause(lines: &[&str], source: &Source) -> String {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Entry { prefix: "[1.5][critical][main] ".to_owned(), lines }.cause(source)
    }

    #[test]
    fn the_cause_of_an_error_is_one_line() {
        let none = Source::parse("", "a.yaml".to_owned());
        let prefix = "[1.5][critical][main] ";
        let first = format!("{prefix}error `proto ");
        let lines = [first.as_str(), "a: 1", ": Constraint failed` initializing config 'proto ", "  a.yaml'"];
        assert_eq!(cause(&lines, &none), "Constraint failed");
        assert_eq!(cause(&[&format!("{prefix}error `no file` initializing config 'a.yaml'")], &none), "no file");
        assert_eq!(cause(&[&format!("{prefix}cannot bind")], &none), "cannot bind");
    }

    #[test]
    fn a_file_that_is_no_bootstrap_is_not_repeated() {
        let text = "[1.5][critical][main] error `Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in  Bootstrap  \
                    @ static_resources.listeners:  message Listener,   near 1:55  (offset   54):   unexpected character: '5'): \
                    {\"static_resources\": {";
        let yaml = Source::parse("static_resources:\n  listeners: 5\n", "a.yaml".to_owned());
        assert_eq!(
            cause(&[text, "}}` initializing config 'proto "], &yaml),
            "a.yaml:2:3: INVALID_ARGUMENT: invalid JSON in Bootstrap @ static_resources.listeners: message Listener: \
             unexpected character: '5'"
        );
        let json = Source::parse("{\"static_resources\": {\n \"listeners\": 5}}", "a.json".to_owned());
        let shown = cause(&[text], &json);
        assert!(shown.starts_with("a.json:2:2: ") && shown.contains("near 1:55 (offset 54)"), "{shown}");
        let unknown = "[1.5][critical][main] error `Protobuf message (type Bootstrap reason INVALID_ARGUMENT: invalid JSON in \
                       Bootstrap @  static_resources: message StaticResources, near 3:26  (offset 148): no such field: 'x') has \
                       unknown fields` initializing config 'proto ";
        assert_eq!(
            cause(&[unknown, "  a.yaml'"], &yaml),
            "a.yaml:1:1: Protobuf message (type Bootstrap reason INVALID_ARGUMENT: invalid JSON in Bootstrap @ \
             static_resources: message StaticResources: no such field: 'x') has unknown fields"
        );
    }

    #[test]
    fn a_log_of_an_endless_start_is_not_held() {
        let mut log = StartLog::short();
        log.take("[1.5][error][main] a");
        assert!(log.held.is_some());
        log.take(&"x".repeat(MAX_HELD));
        assert!(log.held.is_none());
    }
}

//! Log lines of the host: as many as somebody can read, and without control characters of others.

use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use crate::printable::line as printable;

/// Interval in which one place logs at most [`LINES`] lines.
const INTERVAL: Duration = Duration::from_secs(10);
const LINES: u32 = 20;

/// Maximum length of a name in a log line, in characters.
const MAX_NAME: usize = 200;

/// Lines of one place in the code, whose number clients and modules can choose.
///
/// Of more than 20 lines in 10 s, the rest is dropped; the next line tells how many were.
pub(crate) struct Throttle {
    interval: Mutex<Interval>,
}

#[derive(Default)]
struct Interval {
    /// Start of the interval, counted from the first line of the process; `None`: no line yet.
    start: Option<Duration>,
    lines: u32,
    dropped: u64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self { interval: Mutex::new(Interval { start: None, lines: 0, dropped: 0 }) }
    }

    pub(crate) fn warn(&self, target: &str, line: fmt::Arguments<'_>) {
        self.log(log::Level::Warn, target, line);
    }

    pub(crate) fn log(&self, level: log::Level, target: &str, line: fmt::Arguments<'_>) {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        if level > log::max_level() {
            return;
        }
        let admitted = self.interval.lock().unwrap_or_else(PoisonError::into_inner).admit(START.elapsed());
        match admitted {
            None => {}
            Some(0) => log::log!(target: target, level, "{line}"),
            Some(dropped) => log::log!(target: target, level, "{line} ({dropped} lines like it were dropped)"),
        }
    }
}

impl Interval {
    /// Counts a line. Returns how many lines were dropped before it; `None`: it is dropped, too.
    fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.start.is_none_or(|start| now.saturating_sub(start) >= INTERVAL) {
            (self.start, self.lines) = (Some(now), 0);
        }
        if self.lines >= LINES {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

/// Returns a text of several lines as one, printable line.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    printable(&lines.join("; ")).into_owned()
}

/// Returns a name as part of a log line: printable, and cut if it is long.
pub(crate) fn printable_name(name: &[u8]) -> String {
    let shown = name.get(..MAX_NAME * 4).unwrap_or(name);
    let text = String::from_utf8_lossy(shown);
    let cut: String = text.chars().take(MAX_NAME).collect();
    let end = if cut.len() < text.len() || shown.len() < name.len() { "…" } else { "" };
    format!("{}{end}", printable(&cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_logs_a_bounded_number_of_lines_and_tells_how_many_were_dropped() {
        let mut interval = Interval::default();
        let admitted = (0..1000).filter(|_| interval.admit(Duration::from_secs(1)) == Some(0)).count();
        assert_eq!(admitted, LINES as usize);
        assert_eq!(interval.admit(Duration::from_secs(10)), None);
        assert_eq!(interval.admit(Duration::from_secs(11)), Some(981));
        assert_eq!(interval.admit(Duration::from_secs(11)), Some(0));
    }

    #[test]
    fn a_text_of_several_lines_is_one_line() {
        assert_eq!(one_line("trap:\n    0: f\x1b\n\n    1: g\n"), r"trap:; 0: f\u{1b}; 1: g");
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(printable_name(b"x-a\x1b"), r"x-a\u{1b}");
        let long = printable_name(&[b'x'; 5000]);
        assert_eq!(long.chars().count(), MAX_NAME + 1);
        assert!(printable_name("é".repeat(201).as_bytes()).ends_with("é…"));
    }
}

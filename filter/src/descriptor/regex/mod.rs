//! Regular expressions in a subset of RE2's syntax, matched in linear time.
//!
//! The subset is: literals, `.`, `[…]`, `\d \w \s` and their negations, `( )`, `(?: )`, `|`, `* + ? {m,n}`, `^ $`, and
//! `(?i)` at the start. Other syntax is refused with an error. As in Envoy's `safe_regex`, the whole text must match.
//! Bytes are matched, not characters: a text need not be UTF-8, `.` is one byte, and classes contain ASCII only.
//!
//! The time is proportional to the length of the text, and also to the size of an expression whose table would be too
//! large: no expression takes exponential time. The crate `regex-lite` is 62 KB in wasm, a sixth of the whole filter;
//! it is the oracle of the tests.

mod machine;
mod parse;
mod program;

use self::machine::Machine;
use self::parse::Parser;
use self::program::Program;

/// Maximum length of an expression, in bytes.
const MAX_PATTERN: usize = 256;

/// Compiled regular expression of up to 256 bytes and 256 states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regex {
    machine: Machine,
}

/// Error in a regular expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// The expression has too many bytes.
    #[error("an expression of at most {MAX_PATTERN} bytes, found one of {0}")]
    TooLong(usize),
    /// Repetitions need too many states.
    #[error("an expression of at most {} states, found more", program::MAX_STATES)]
    TooManyStates,
    /// Groups are nested too deep.
    #[error("groups nested at most {} deep, found deeper ones", parse::MAX_DEPTH)]
    TooDeep,
    /// A group, a class or a repetition is not closed, or a closing bracket has no opening one.
    #[error("brackets in pairs, found one at byte {0} that is not")]
    Unpaired(usize),
    /// A repetition of nothing, of a repetition, or with a malformed or decreasing count.
    #[error("something to repeat, and how often, found neither at byte {0}")]
    Repetition(usize),
    /// A class with a decreasing range, without members, or with characters that are not ASCII.
    #[error("a class of ASCII such as [a-z_], found another at byte {0}")]
    Class(usize),
    /// An escape or a group outside of the subset.
    #[error("the syntax of RE2 without its extensions, found another at byte {0}")]
    Unsupported(usize),
}

impl Regex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// If the expression is too long or too large, malformed, or outside of the subset.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        if pattern.len() > MAX_PATTERN {
            return Err(RegexError::TooLong(pattern.len()));
        }
        let expression = Parser::new(pattern).parse()?;
        let program = Program::compile(&expression).ok_or(RegexError::TooManyStates)?;
        Ok(Self { machine: Machine::new(&program) })
    }

    /// Whether the whole `text` matches. `None` if `work` does not suffice. Subtracts the work done from `work`.
    pub(super) fn matches_within(&self, text: &[u8], work: &mut usize) -> Option<bool> {
        self.machine.matches(text, work)
    }

    #[cfg(test)]
    fn matches(&self, text: &[u8]) -> bool {
        let mut work = usize::MAX;
        self.matches_within(text, &mut work).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).matches(text.as_bytes())
    }

    #[test]
    fn the_whole_text_must_match() {
        assert!(matches("/api/v[0-9]+/.*", "/api/v12/users"));
        assert!(!matches("/api/v[0-9]+", "/api/v12/users"));
        assert!(!matches("v[0-9]+", "/api/v12"));
        assert!(matches("a|bc", "bc"));
        assert!(!matches("a|bc", "ac"));
    }

    #[test]
    fn classes_escapes_and_counts_are_understood() {
        assert!(matches(r"[\w-]{2,4}", "a_-9"));
        assert!(!matches(r"[\w-]{2,4}", "abcde"));
        assert!(matches(r"\d{3}", "123"));
        assert!(matches(r"[^/\s]*", "abc"));
        assert!(!matches(r"[^/\s]*", "a b"));
        assert!(matches(r"a\.b\\", r"a.b\"));
        assert!(matches(r"[]a^-]+", "]^-a"));
        assert!(matches(r"(?i)get|Pöst", "GeT"));
        assert!(matches(r"(?i)[^b]", "a"));
        assert!(!matches(r"(?i)[^b]", "B"));
        assert!(matches("ö{2}", "öö"));
        assert!(matches("(a?){3}", "aa"));
    }

    #[test]
    fn anchors_match_the_start_and_the_end() {
        assert!(matches("^a$", "a"));
        assert!(matches("(^a|b)$", "b"));
        assert!(!matches("a^b", "ab"));
        assert!(!matches("a$b", "ab"));
        assert!(matches("$^", ""));
    }

    #[test]
    fn a_text_need_not_be_utf_8() {
        assert!(Regex::new("a.c").unwrap().matches(b"a\xffc"));
        assert!(Regex::new("[^x]*").unwrap().matches(b"\xff\xfe"));
    }

    #[test]
    fn an_expression_that_backtracks_exponentially_elsewhere_takes_linear_time() {
        let nested = Regex::new("(a*)*(a|aa)+(a+)+b").unwrap();
        assert!(!nested.matches(&[b'a'; 20_000]));
    }

    #[test]
    fn work_is_subtracted_and_must_suffice() {
        for (pattern, text) in [("(a|b)*b", "ab".repeat(100)), ("(a|b)*a(a|b){20}", "ab".repeat(100))] {
            let regex = Regex::new(pattern).unwrap();
            let mut work = 1_000_000;
            assert!(regex.matches_within(text.as_bytes(), &mut work).is_some());
            let taken = 1_000_000 - work;
            let (mut enough, mut too_little) = (taken, taken - 1);
            assert_eq!(
                regex.matches_within(text.as_bytes(), &mut enough),
                regex.matches_within(text.as_bytes(), &mut work)
            );
            assert_eq!(regex.matches_within(text.as_bytes(), &mut too_little), None);
            // The first byte that does not match decides.
            let mut little = 200;
            assert_eq!(regex.matches_within(&[b'x'; 50_000], &mut little), Some(false));
        }
    }

    #[test]
    fn malformed_expressions_are_refused_with_the_position() {
        let error = |pattern: &str| Regex::new(pattern).unwrap_err();
        assert_eq!(error("(a"), RegexError::Unpaired(0));
        assert_eq!(error("a)"), RegexError::Unpaired(1));
        assert_eq!(error("a[b"), RegexError::Unpaired(1));
        assert_eq!(error("a{2"), RegexError::Repetition(1));
        assert_eq!(error("*a"), RegexError::Repetition(0));
        assert_eq!(error("a{3,2}"), RegexError::Repetition(1));
        assert_eq!(error("a**"), RegexError::Repetition(2));
        assert_eq!(error("[z-a]"), RegexError::Class(1));
        assert_eq!(error("[ä]"), RegexError::Class(1));
        assert_eq!(error(r"\bword"), RegexError::Unsupported(0));
        assert_eq!(error(r"(?P<name>a)"), RegexError::Unsupported(0));
        assert_eq!(error(r"(?=a)"), RegexError::Unsupported(0));
        assert_eq!(error(r"\pL"), RegexError::Unsupported(0));
        assert_eq!(error("\\"), RegexError::Unsupported(0));
        assert_eq!(error(&"a".repeat(257)), RegexError::TooLong(257));
        assert_eq!(error("a{255}a{255}"), RegexError::TooManyStates);
        assert_eq!(error("((((){200}){200}){200}){200}"), RegexError::TooManyStates);
        assert_eq!(error(&"(".repeat(200)), RegexError::TooDeep);
    }

    /// Expressions that mean the same in both engines: of ASCII, on texts of ASCII.
    fn expression() -> impl Strategy<Value = String> {
        let atom = prop_oneof![
            Just("a"),
            Just("b"),
            Just("c"),
            Just("."),
            Just("[ab]"),
            Just("[^a]"),
            Just("[a-c]"),
            Just(r"\d"),
            Just(r"\W"),
            Just("^"),
            Just("$"),
            Just(r"\."),
        ];
        let leaf = atom.prop_map(str::to_owned);
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
                (inner.clone(), prop_oneof![Just("*"), Just("+"), Just("?"), Just("{1,2}"), Just("{2}"), Just("*?")])
                    .prop_map(|(a, times)| format!("({a}){times}")),
            ]
        })
    }

    proptest! {
        /// Results equal those of `regex-lite`.
        #[test]
        fn matches_as_regex_lite_does(pattern in expression(), texts in proptest::collection::vec("[abc1.\n]{0,6}", 1..8)) {
            let Ok(ours) = Regex::new(&pattern) else { return Ok(()) };
            let oracle = regex_lite::Regex::new(&format!("^(?:{pattern})$")).unwrap();
            for text in texts {
                prop_assert_eq!(ours.matches(text.as_bytes()), oracle.is_match(&text), "{} {:?}", pattern, text);
            }
        }

        #[test]
        fn any_pattern_and_any_text_are_read_without_panic(pattern in r"[\PC(){}\[\]|*+?\\^$,0-9a-c-]{0,40}", text: Vec<u8>) {
            if let Ok(regex) = Regex::new(&pattern) {
                let _ = regex.matches(&text);
            }
        }

        #[test]
        fn a_text_without_syntax_matches_only_itself(text in "[a-zA-Z0-9 /_äöü-]{0,30}", other: String) {
            let regex = Regex::new(&text).unwrap();
            prop_assert!(regex.matches(text.as_bytes()));
            prop_assert_eq!(regex.matches(other.as_bytes()), other == text);
        }
    }
}

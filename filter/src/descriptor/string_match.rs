//! String matches.

use alloc::boxed::Box;
use alloc::string::String;

use super::regex::Regex;
use super::search::contains;

/// Work of comparing one byte.
const COMPARED_BYTE: usize = 4;

/// Match on a string, as Envoy's `StringMatcher`. Compares bytes, case-sensitively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// The string equals this.
    Exact(String),
    /// The string starts with this.
    Prefix(String),
    /// The string ends with this.
    Suffix(String),
    /// The string contains this, of at most 128 bytes.
    Contains(String),
    /// The whole string matches this.
    Regex(Box<Regex>),
}

impl StringMatch {
    /// Whether `text` matches. `None` if `work` does not suffice. Subtracts the work done from `work`.
    pub(super) fn matches(&self, text: &[u8], work: &mut usize) -> Option<bool> {
        let fixed = match self {
            Self::Contains(part) => return contains(text, part.as_bytes(), work),
            Self::Regex(regex) => return regex.matches_within(text, work),
            Self::Exact(part) | Self::Prefix(part) | Self::Suffix(part) => part.len().saturating_mul(COMPARED_BYTE),
        };
        *work = work.checked_sub(fixed)?;
        Some(match self {
            Self::Exact(exact) => text == exact.as_bytes(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_bytes()),
            Self::Contains(_) | Self::Regex(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(value: &StringMatch, text: &str) -> bool {
        value.matches(text.as_bytes(), &mut 1_000_000).unwrap()
    }

    #[test]
    fn a_contained_part_may_be_anywhere() {
        let bot = StringMatch::Contains("bot".to_owned());
        for text in ["bot", "robots", "a bot"] {
            assert!(matches(&bot, text), "{text}");
        }
        for text in ["", "bo", "Bot", "b ot"] {
            assert!(!matches(&bot, text), "{text}");
        }
        assert!(matches(&StringMatch::Contains(String::new()), ""));
    }

    #[test]
    fn a_regex_matches_the_whole_text() {
        let version = StringMatch::Regex(Box::new(Regex::new("v[0-9]+").unwrap()));
        assert!(matches(&version, "v12"));
        assert!(!matches(&version, "v12-beta"));
    }
}

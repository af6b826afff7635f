//! Statements about strings.

use alloc::boxed::Box;
use alloc::string::String;

use super::regex::Regex;

/// A statement about a string, as Envoy's `StringMatcher`. Compares bytes, case included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// It is this.
    Exact(String),
    /// It starts with this.
    Prefix(String),
    /// It ends with this.
    Suffix(String),
    /// This is in it.
    Contains(String),
    /// All of it matches this.
    Regex(Box<Regex>),
}

impl StringMatch {
    /// Whether this is true of `text`.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => text == exact.as_bytes(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_bytes()),
            Self::Contains(part) => part.is_empty() || text.windows(part.len()).any(|window| window == part.as_bytes()),
            Self::Regex(regex) => regex.matches(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_may_be_anywhere() {
        let bot = StringMatch::Contains("bot".to_owned());
        for text in ["bot", "robots", "a bot"] {
            assert!(bot.matches(text.as_bytes()), "{text}");
        }
        for text in ["", "bo", "Bot", "b ot"] {
            assert!(!bot.matches(text.as_bytes()), "{text}");
        }
        assert!(StringMatch::Contains(String::new()).matches(b""));
    }

    #[test]
    fn an_expression_matches_all_of_a_text() {
        let version = StringMatch::Regex(Box::new(Regex::new("v[0-9]+").unwrap()));
        assert!(version.matches(b"v12"));
        assert!(!version.matches(b"v12-beta"));
    }
}

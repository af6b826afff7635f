//! Templates of response bodies: text with placeholders.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::units::{Micros, Tokens};

/// Placeholders, in the order of [`Template::PLACEHOLDERS`].
const PLACEHOLDERS: [Placeholder; 3] = [Placeholder::Limit, Placeholder::RetryAfter, Placeholder::Remaining];

/// Text with the placeholders `{limit}`, `{retry_after}` and `{remaining}`. Other braces are literal, as in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Placeholders, each with the text before it.
    parts: Vec<(String, Placeholder)>,
    rest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Limit,
    RetryAfter,
    Remaining,
}

/// Values of the placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// `{limit}`: name of the limit.
    pub limit: &'a str,
    /// `{retry_after}`: in seconds, rounded up and at least 1; `null` if waiting cannot help.
    pub retry_after: Option<Micros>,
    /// `{remaining}`: whole tokens, rounded down.
    pub remaining: Tokens,
}

impl Template {
    /// The placeholders, with their braces.
    pub const PLACEHOLDERS: &[&str] = &["{limit}", "{retry_after}", "{remaining}"];

    /// Parses a template. Words in braces are letters, digits, underscores, hyphens and dots without white space.
    ///
    /// # Errors
    /// The last error that `unknown` makes of a word in braces, with its braces, that is not a placeholder.
    pub fn parse<'a, E>(text: &'a str, mut unknown: impl FnMut(&'a str) -> E) -> Result<Self, E> {
        let (mut parts, mut result) = (Vec::new(), Ok(()));
        let mut part = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, braces) = rest.split_at_checked(at).unwrap_or((rest, ""));
            part.push_str(before);
            match word(braces) {
                Some((word, behind)) => {
                    match Self::PLACEHOLDERS.iter().zip(PLACEHOLDERS).find(|(known, _)| **known == word) {
                        Some((_, placeholder)) => parts.push((core::mem::take(&mut part), placeholder)),
                        None => result = Err(unknown(word)),
                    }
                    rest = behind;
                }
                None => {
                    part.push('{');
                    rest = braces.get(1..).unwrap_or_default();
                }
            }
        }
        part.push_str(rest);
        result.map(|()| Self { parts, rest: part })
    }

    /// Creates a template without placeholders.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        Self { parts: Vec::new(), rest: text.to_owned() }
    }

    /// Returns the text with the placeholders replaced by their values.
    #[must_use]
    pub fn fill(&self, facts: &Facts<'_>) -> String {
        let mut text = String::new();
        for (before, placeholder) in &self.parts {
            text.push_str(before);
            // Writing to a string cannot fail.
            let _ = match (placeholder, facts.retry_after) {
                (Placeholder::Limit, _) => text.write_str(facts.limit),
                (Placeholder::Remaining, _) => write!(text, "{}", facts.remaining.0),
                (Placeholder::RetryAfter, Some(wait)) => write!(text, "{}", wait.to_secs_ceil().max(1)),
                (Placeholder::RetryAfter, None) => text.write_str("null"),
            };
        }
        text.push_str(&self.rest);
        text
    }
}

/// Splits a word in braces off the start of a text.
fn word(text: &str) -> Option<(&str, &str)> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let end = text.find('}')?;
    let is_word = end > 1 && text.get(1..end)?.bytes().all(is_part);
    if is_word { text.split_at_checked(end.saturating_add(1)) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FACTS: Facts<'_> = Facts { limit: "per_user", retry_after: Some(Micros(1_000_001)), remaining: Tokens(0) };

    /// Parses a template. The error is all unknown words.
    fn parse(text: &str) -> Result<Template, Vec<&str>> {
        let mut unknown = Vec::new();
        Template::parse(text, |word| unknown.push(word)).map_err(|()| unknown)
    }

    fn filled(text: &str) -> String {
        parse(text).unwrap().fill(&FACTS)
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(filled("{limit}: wait {retry_after} s, {remaining} left\n"), "per_user: wait 2 s, 0 left\n");
        assert_eq!(filled("{limit}{limit}"), "per_userper_user");
    }

    #[test]
    fn braces_of_json_are_literal() {
        let json = r#"{"error": {"limit": "{limit}", "after": {retry_after}, "x": {}}}"#;
        assert_eq!(filled(json), r#"{"error": {"limit": "per_user", "after": 2, "x": {}}}"#);
        assert_eq!(filled("a { b {limit} } {"), "a { b per_user } {");
        assert_eq!(filled("{{limit}}"), "{per_user}");
    }

    #[test]
    fn a_wait_that_cannot_help_is_null() {
        let never = Facts { retry_after: None, ..FACTS };
        assert_eq!(parse("{retry_after}").unwrap().fill(&never), "null");
        let now = Facts { retry_after: Some(Micros::ZERO), ..FACTS };
        assert_eq!(parse("{retry_after}").unwrap().fill(&now), "1");
    }

    #[test]
    fn an_unknown_placeholder_is_refused() {
        for (text, unknown) in [
            ("{limits}", "{limits}"),
            ("wait {retry-after} s", "{retry-after}"),
            ("{limit}{RetryAfter}", "{RetryAfter}"),
            ("{{_}}", "{_}"),
            ("{limit.name}", "{limit.name}"),
            ("{0}", "{0}"),
        ] {
            assert_eq!(parse(text), Err(vec![unknown]), "{text}");
        }
        assert_eq!(parse("{a} {limit} {b}"), Err(vec!["{a}", "{b}"]));
        for literal in ["{ limit }", "{retry after}", "{}"] {
            assert_eq!(filled(literal), literal);
        }
    }

    proptest! {
        #[test]
        fn text_without_placeholders_is_unchanged(text in r#"[a-zA-Z "{\n]*"#) {
            prop_assert_eq!(parse(&text).unwrap().fill(&FACTS), text);
        }
    }
}

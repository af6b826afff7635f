//! Templates of response bodies: text with placeholders.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::units::{Micros, Tokens};

const PLACEHOLDERS: [(&str, Placeholder); 3] =
    [("limit", Placeholder::Limit), ("retry_after", Placeholder::RetryAfter), ("remaining", Placeholder::Remaining)];

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
    /// Parses a template. `None` if a name in braces, of lower-case letters and underscores, is not a placeholder.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut part = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            part.push_str(before);
            match behind.split_once('}').filter(|(name, _)| is_name(name)) {
                Some((name, behind)) => {
                    let (_, placeholder) = PLACEHOLDERS.iter().find(|(known, _)| *known == name)?;
                    parts.push((core::mem::take(&mut part), *placeholder));
                    rest = behind;
                }
                None => {
                    part.push('{');
                    rest = behind;
                }
            }
        }
        part.push_str(rest);
        Some(Self { parts, rest: part })
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

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FACTS: Facts<'_> = Facts { limit: "per_user", retry_after: Some(Micros(1_000_001)), remaining: Tokens(0) };

    fn filled(text: &str) -> String {
        Template::parse(text).unwrap().fill(&FACTS)
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
        assert_eq!(Template::parse("{retry_after}").unwrap().fill(&never), "null");
        let now = Facts { retry_after: Some(Micros::ZERO), ..FACTS };
        assert_eq!(Template::parse("{retry_after}").unwrap().fill(&now), "1");
    }

    #[test]
    fn an_unknown_placeholder_is_refused() {
        for text in ["{limits}", "wait {retry_afer}", "{_}"] {
            assert_eq!(Template::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_without_placeholders_is_unchanged(text in r#"[a-zA-Z "{\n]*"#) {
            prop_assert_eq!(Template::parse(&text).unwrap().fill(&FACTS), text);
        }
    }
}

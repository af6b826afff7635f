//! Texts of files, modules and servers on a terminal: control characters are escaped, so that they do nothing there.

use std::borrow::Cow;

/// Returns a text that is shown within a line: line breaks are escaped, too.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Returns a text of several lines: line breaks and tabs stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| matches!(character, '\n' | '\t'))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_refused = |character: char| is_invisible(character) && !stays(character);
    if !text.contains(is_refused) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            refused if is_refused(refused) => shown.extend(refused.escape_default()),
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// Whether a character moves the cursor, changes colours, or changes the direction of the text around it.
fn is_invisible(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(line("a\u{1b}[31m\u{7}\n\t\u{9b}\u{202e}b"), r"a\u{1b}[31m\u{7}\n\t\u{9b}\u{202e}b");
        assert_eq!(lines("a\n\tb\r\u{7f}"), "a\n\tb\\r\\u{7f}");
        assert!(matches!(line("→ „plain“ µs"), Cow::Borrowed(_)));
    }
}

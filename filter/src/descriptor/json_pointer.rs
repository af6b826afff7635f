//! JSON pointers (RFC 6901).

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// JSON pointer: the steps from the root of a document to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Vec<String>);

impl JsonPointer {
    /// Parses a pointer such as `/user/id`, or an empty one for the whole document. `None` if it does not start with a
    /// slash, or has a `~` that is not followed by `0` or `1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut steps = text.split('/');
        let is_rooted = steps.next() == Some("");
        steps.map(unescaped).collect::<Option<_>>().filter(|_| is_rooted).map(Self)
    }

    /// Number of steps.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the step with this index leads to the member `key` of an object.
    pub(super) fn enters_member(&self, step: usize, key: &[u8]) -> bool {
        self.0.get(step).is_some_and(|text| text.as_bytes() == key)
    }

    /// Whether the step with this index leads to the item `item` of a list.
    pub(super) fn enters_item(&self, step: usize, item: usize) -> bool {
        self.0.get(step).and_then(|text| index(text)) == Some(item)
    }
}

/// Replaces `~1` by a slash and `~0` by a tilde.
fn unescaped(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (char, rest) = match part.as_bytes().first()? {
            b'0' => ('~', part.get(1..)?),
            b'1' => ('/', part.get(1..)?),
            _ => return None,
        };
        text.push(char);
        text.push_str(rest);
    }
    Some(text)
}

/// Parses digits without leading zeros.
fn index(step: &str) -> Option<usize> {
    let is_plain = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
    step.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_pointers_are_refused() {
        for text in ["user", "~", "/~", "/~2", "/a~", "#/a"] {
            assert_eq!(JsonPointer::parse(text), None, "{text}");
        }
    }
}

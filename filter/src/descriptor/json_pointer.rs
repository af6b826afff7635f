//! JSON pointers (RFC 6901): places in a JSON document.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// A place in a JSON document: the steps to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// The key of a member.
    key: String,
    /// The index of an item, where the key is one.
    index: Option<usize>,
}

impl JsonPointer {
    /// Reads a pointer such as `/user/id`, or an empty one for the whole document. `None` where it does not start
    /// with a slash, or has a `~` without `0` or `1` behind it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut steps = text.split('/');
        let is_rooted = steps.next() == Some("");
        let step = |text| unescaped(text).map(|key| Step { index: index(&key), key });
        steps.map(step).collect::<Option<_>>().filter(|_| is_rooted).map(Self)
    }

    /// Returns the pointer to a member of the document.
    #[must_use]
    pub fn member(key: &str) -> Self {
        Self(vec![Step { key: key.to_owned(), index: None }])
    }

    /// The key, where the pointer is to a member of the document whose key needs no escapes in JSON.
    #[must_use]
    pub fn as_member(&self) -> Option<&str> {
        let [Step { key, .. }] = self.0.as_slice() else { return None };
        let is_plain = key.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        is_plain.then_some(key)
    }

    /// Keys of its steps.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|step| step.key.as_str())
    }

    /// Whether the place is `other`, or within it.
    pub(crate) fn begins_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Number of steps.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the step of this place is into a member of an object that has this key.
    pub(super) fn enters_member(&self, place: usize, key: &[u8]) -> bool {
        self.0.get(place).is_some_and(|step| step.key.as_bytes() == key)
    }

    /// The index of the item of a list that the step of this place is to, where it is an index.
    pub(super) fn item(&self, place: usize) -> Option<usize> {
        self.0.get(place)?.index
    }

    /// Bytes of its longest key.
    pub(super) fn longest_key(&self) -> usize {
        self.0.iter().map(|step| step.key.len()).max().unwrap_or(0)
    }
}

/// `~1` is a slash and `~0` a tilde.
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

/// Digits, without zeros in front.
fn index(step: &str) -> Option<usize> {
    let is_plain = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
    step.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_pointer_is_refused() {
        for text in ["user", "~", "/~", "/~2", "/a~", "#/a"] {
            assert_eq!(JsonPointer::parse(text), None, "{text}");
        }
    }
}

//! Request bodies that are JSON.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::OnceCell;

use serde_json::Value;

use crate::double;

/// A request's whole body. It is parsed once, and only when somebody asks.
#[derive(Debug)]
pub struct RequestBody {
    bytes: Vec<u8>,
    json: OnceCell<Option<Value>>,
}

/// A place in a JSON document (RFC 6901): the steps to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Vec<String>);

impl RequestBody {
    /// The body of a request. Whoever lends it bounds it.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, json: OnceCell::new() }
    }

    /// What stands at `pointer`, as text: a string, a whole number, or `true` or `false`.
    ///
    /// `None` where the body is no JSON, or there is nothing, `null`, an object, a list, a number with a
    /// fraction, or one that neither 64 bits nor a double hold exactly. Of an object's fields with the same name
    /// the last counts. `1` and `1.0` are one number, and `"1"` is the same text.
    #[must_use]
    pub fn value(&self, pointer: &JsonPointer) -> Option<Vec<u8>> {
        let json = self.json.get_or_init(|| serde_json::from_slice(&self.bytes).ok());
        match pointer.find(json.as_ref()?)? {
            Value::String(text) => Some(text.clone().into_bytes()),
            Value::Bool(true) => Some(b"true".to_vec()),
            Value::Bool(false) => Some(b"false".to_vec()),
            Value::Number(number) => {
                let unsigned = number.as_u64().map(|number| number.to_string());
                let signed = || whole(number.as_i64(), number.as_f64()).map(|number| number.to_string());
                unsigned.or_else(signed).map(String::into_bytes)
            }
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

impl JsonPointer {
    /// Reads a pointer such as `/user/id`, or an empty one for the whole document. `None` where it does not start
    /// with a slash, or has a `~` without `0` or `1` behind it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut steps = text.split('/');
        let is_rooted = steps.next() == Some("");
        steps.map(unescaped).collect::<Option<_>>().filter(|_| is_rooted).map(Self)
    }

    fn find<'a>(&self, json: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(json, |json, step| match json {
            Value::Object(fields) => fields.get(step),
            Value::Array(items) => items.get(index(step)?),
            _ => None,
        })
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

fn whole(integer: Option<i64>, double: Option<f64>) -> Option<i64> {
    integer.or_else(|| double::whole(double?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &str = r#"{"user": {"id": "alice", "a/b": 1, "m~n": true}, "models": ["small", "large"],
        "n": [0, -5, 18446744073709551615, 1.0, -2e3, 1.5, 1e300, 36893488147419103232], "none": null, "empty": ""}"#;

    fn at(pointer: &str) -> Option<String> {
        let body = RequestBody::new(BODY.as_bytes().to_vec());
        body.value(&JsonPointer::parse(pointer).unwrap()).map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn a_scalar_is_text() {
        assert_eq!(at("/user/id").as_deref(), Some("alice"));
        assert_eq!(at("/user/a~1b").as_deref(), Some("1"));
        assert_eq!(at("/user/m~0n").as_deref(), Some("true"));
        assert_eq!(at("/models/1").as_deref(), Some("large"));
        assert_eq!(at("/empty").as_deref(), Some(""));
    }

    #[test]
    fn a_whole_number_has_one_spelling() {
        let numbers = ["0", "-5", "18446744073709551615", "1", "-2000"];
        for (i, number) in numbers.iter().enumerate() {
            assert_eq!(at(&format!("/n/{i}")).as_deref(), Some(*number));
        }
        for i in 5..9 {
            assert_eq!(at(&format!("/n/{i}")), None);
        }
    }

    #[test]
    fn what_is_no_scalar_is_missing() {
        for pointer in
            ["", "/user", "/models", "/none", "/nobody", "/models/2", "/models/01", "/models/-", "/user/id/x"]
        {
            assert_eq!(at(pointer), None, "{pointer}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_has_nothing() {
        for bytes in [&b""[..], b"{", b"user=alice", b"\xff", b"{} {}"] {
            assert_eq!(RequestBody::new(bytes.to_vec()).value(&JsonPointer::parse("/user").unwrap()), None);
        }
        let deep = RequestBody::new([b'['; 65_536].to_vec());
        assert_eq!(deep.value(&JsonPointer::parse("/0").unwrap()), None);
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in ["user", "~", "/~", "/~2", "/a~", "#/a"] {
            assert_eq!(JsonPointer::parse(text), None, "{text}");
        }
    }

    proptest! {
        /// The same questions to the walk that serde_json has of its own.
        #[test]
        fn finds_what_serde_json_finds(pointer in "(/[ab~01/]{0,3}){0,3}") {
            let json = serde_json::json!({"a": {"/": [1, {"~": 2}], "~1": 3}, "": {"": 4}, "0": [5, 6], "b": [[7]]});
            if let Some(ours) = JsonPointer::parse(&pointer) {
                prop_assert_eq!(ours.find(&json), json.pointer(&pointer));
            }
        }

        #[test]
        fn no_body_and_no_pointer_breaks_it(bytes: Vec<u8>, text: String) {
            if let Some(pointer) = JsonPointer::parse(&text) {
                let _ = RequestBody::new(bytes).value(&pointer);
            }
        }
    }
}

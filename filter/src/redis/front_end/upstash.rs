//! Upstash's REST API: `POST /pipeline` with an array of commands in JSON, answered with an array of results in the same
//! order: `{"result": …}` or `{"error": "…"}`.
//!
//! With the header `upstash-encoding: base64`, all strings of results are Base64 but `OK`: replies are any bytes, and
//! JSON is Unicode. Base64 has a length that is a multiple of four, so that `OK` is never a string in it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;

use super::Words;
use crate::descriptor::push_hex;
use crate::redis::resp::{encode_bulk, encode_header};
use crate::redis::{Failure, Trouble};

/// Greatest depth of arrays in a result; deeper ones are malformed.
const MAX_DEPTH: usize = 8;

/// Returns the body for RESP commands.
pub(super) fn body(commands: &[u8]) -> Vec<u8> {
    let mut words = Words(commands);
    let mut body = Vec::with_capacity(commands.len());
    let mut before = b'[';
    while let Some(count) = words.command() {
        body.push(before);
        let mut before_word = b'[';
        for word in words.words(count) {
            body.push(before_word);
            push(&mut body, word);
            before_word = b',';
        }
        body.push(b']');
        before = b',';
    }
    body.push(b']');
    body
}

/// Appends a word as a string. Commands of the filter are UTF-8; any other byte becomes U+FFFD.
fn push(body: &mut Vec<u8>, word: &[u8]) {
    body.push(b'"');
    for part in word.utf8_chunks() {
        for byte in part.valid().bytes() {
            match byte {
                b'"' | b'\\' => body.extend_from_slice(&[b'\\', byte]),
                ..b' ' => {
                    body.extend_from_slice(b"\\u00");
                    push_hex(body, byte);
                }
                _ => body.push(byte),
            }
        }
        if !part.invalid().is_empty() {
            body.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    body.push(b'"');
}

/// Returns a response's body as RESP.
pub(super) fn resp(body: &[u8]) -> Result<Vec<u8>, Trouble> {
    let mut out = Vec::with_capacity(body.len());
    let read = || {
        let Value::Array(results) = serde_json::from_slice(body).ok()? else { return None };
        for result in &results {
            match (result.get("error"), result.get("result")) {
                (Some(Value::String(error)), _) => push_error(&mut out, error),
                (None, Some(result)) => push_result(&mut out, result, MAX_DEPTH)?,
                _ => return None,
            }
        }
        Some(out)
    };
    read().ok_or_else(|| Trouble::new(Failure::Protocol, "expected JSON of Upstash's /pipeline, found something else"))
}

/// Returns the text of `{"error": "…"}`.
pub(super) fn error(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get("error")?.as_str()?.to_string())
}

fn push_error(out: &mut Vec<u8>, error: &str) {
    out.push(b'-');
    out.extend(error.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// Appends a result. `None` if it is malformed.
fn push_result(out: &mut Vec<u8>, result: &Value, depth: usize) -> Option<()> {
    match result {
        Value::Null => out.extend_from_slice(b"$-1\r\n"),
        Value::Number(number) => {
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(number.as_i64()?).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Value::String(text) if text == "OK" => out.extend_from_slice(b"+OK\r\n"),
        Value::String(text) => encode_bulk(out, &decoded(text.as_bytes())?),
        Value::Array(elements) => {
            let depth = depth.checked_sub(1)?;
            encode_header(out, elements.len());
            elements.iter().try_for_each(|element| push_result(out, element, depth))?;
        }
        // An error among the elements of an array. Upstash's documentation does not say how it is encoded.
        Value::Object(_) => push_error(out, result.get("error")?.as_str()?),
        Value::Bool(_) => return None,
    }
    Some(())
}

/// Decodes Base64 with padding (RFC 4648). `None` if it is malformed.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, []) = text.as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(text.len());
    for (nth, group) in (1..).zip(groups) {
        let padding = group.iter().rev().take_while(|digit| **digit == b'=').count();
        if padding > 2 || (padding > 0 && nth < groups.len()) {
            return None;
        }
        let mut bits = 0_u32;
        for digit in group.iter().take(4_usize.saturating_sub(padding)) {
            bits = bits << 6 | value(*digit)?;
        }
        bits <<= 6_usize.saturating_mul(padding);
        let [_, all @ ..] = bits.to_be_bytes();
        bytes.extend(all.iter().take(3_usize.saturating_sub(padding)));
    }
    Some(bytes)
}

/// Returns the value of a digit of Base64.
fn value(digit: u8) -> Option<u32> {
    let (first, offset) = match digit {
        b'A'..=b'Z' => (b'A', 0),
        b'a'..=b'z' => (b'a', 26),
        b'0'..=b'9' => (b'0', 52),
        b'+' => (b'+', 62),
        b'/' => (b'/', 63),
        _ => return None,
    };
    Some(u32::from(digit.saturating_sub(first)).saturating_add(offset))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::redis::resp::encode_command;
    use crate::response::base64;

    #[test]
    fn commands_are_arrays_of_json() {
        let mut commands = Vec::new();
        encode_command(&mut commands, &["EVAL", "return \"\\\n\t\u{1}ü\"", "0"]);
        encode_command(&mut commands, &["PING"]);
        let body: Value = serde_json::from_slice(&body(&commands)).unwrap();
        assert_eq!(body, json!([["EVAL", "return \"\\\n\t\u{1}ü\"", "0"], ["PING"]]));
    }

    #[test]
    fn results_become_resp() {
        let body = json!([
            {"result": "OK"}, {"result": "AP8="}, {"result": null}, {"result": -7}, {"error": "NOSCRIPT No\r\nscript"},
            {"result": ["T0s=", null, [1]]}, {"result": ""},
        ]);
        let expected = b"+OK\r\n$2\r\n\0\xff\r\n$-1\r\n:-7\r\n-NOSCRIPT No  script\r\n*3\r\n$2\r\nOK\r\n$-1\r\n*1\r\n:1\r\n$0\r\n\r\n";
        assert_eq!(resp(body.to_string().as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_response_of_another_form_is_malformed() {
        let deep = "[".repeat(20) + &"]".repeat(20);
        let deep = format!(r#"[{{"result":{deep}}}]"#);
        for body in [
            "",
            "junk",
            "{}",
            r#"{"error":"ERR x"}"#,
            "[1]",
            "[{}]",
            r#"[{"result":true}]"#,
            r#"[{"result":1.5}]"#,
            r#"[{"result":"A"}]"#,
            r#"[{"error":1}]"#,
            &deep,
        ] {
            assert_eq!(resp(body.as_bytes()).unwrap_err().failure, Failure::Protocol, "{body}");
        }
        assert_eq!(error(br#"{"error":"WRONGPASS x"}"#).as_deref(), Some("WRONGPASS x"));
        assert_eq!(error(b"<html>"), None);
    }

    #[test]
    fn malformed_base64_is_refused() {
        for text in ["A", "AA", "AAA", "A===", "====", "AA==AAAA", "A=AA", "AA!A", "AAAA="] {
            assert_eq!(decoded(text.as_bytes()), None, "{text}");
        }
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_survive_base64(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(decoded(&base64(&bytes)), Some(bytes));
        }

        #[test]
        fn any_body_is_read(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (resp(&body), error(&body));
        }

        #[test]
        fn any_text_is_a_string_of_json(text: String) {
            let mut commands = Vec::new();
            encode_command(&mut commands, &[&text]);
            let body: Value = serde_json::from_slice(&body(&commands)).unwrap();
            prop_assert_eq!(body, json!([[text]]));
        }
    }
}

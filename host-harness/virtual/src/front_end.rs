//! HTTP front ends of Redis: the commands in the body of a callout, and the body of the response with their replies.
//!
//! It follows Webdis with the suffix `.raw`, and the documentation of Upstash's REST API for `/pipeline` with
//! `Upstash-Encoding: base64`. It is neither of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use weir_filter::redis::Reply;

use crate::resp::encode;

/// Commands of a callout to a front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    is_json: bool,
    commands: Vec<Vec<Vec<u8>>>,
}

impl Request {
    /// Reads the body of a callout: one command for Webdis, or JSON for Upstash. `None` for anything else, such as RESP.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        if let Some(command) = body.strip_suffix(b".raw") {
            let words = command.split(|byte| *byte == b'/').map(percent_decoded);
            return Some(Self { is_json: false, commands: vec![words.collect::<Option<_>>()?] });
        }
        let Value::Array(commands) = serde_json::from_slice(body).ok()? else { return None };
        let commands = commands.iter().map(|command| command.as_array()?.iter().map(word).collect());
        Some(Self { is_json: true, commands: commands.collect::<Option<_>>()? })
    }

    /// The commands, each as its words.
    #[must_use]
    pub fn commands(&self) -> &[Vec<Vec<u8>>] {
        &self.commands
    }

    /// Returns the body of the response with these replies, one to each command.
    #[must_use]
    pub fn response(&self, replies: &[Reply]) -> Vec<u8> {
        if self.is_json {
            return json!(replies.iter().map(result).collect::<Vec<_>>()).to_string().into_bytes();
        }
        let mut body = Vec::new();
        replies.iter().for_each(|reply| encode(reply, &mut body));
        body
    }
}

/// A word of a command in JSON: a string or a number.
fn word(word: &Value) -> Option<Vec<u8>> {
    match word {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

/// Result of a command in JSON.
fn result(reply: &Reply) -> Value {
    match reply {
        Reply::Error(text) => json!({"error": String::from_utf8_lossy(text)}),
        reply => json!({"result": value(reply)}),
    }
}

fn value(reply: &Reply) -> Value {
    match reply {
        Reply::Simple(text) if text == b"OK" => "OK".into(),
        Reply::Simple(bytes) | Reply::Bulk(bytes) => BASE64.encode(bytes).into(),
        Reply::Integer(number) => json!(number),
        Reply::Nil => Value::Null,
        Reply::Array(elements) => elements.iter().map(value).collect(),
        Reply::Error(text) => json!({"error": String::from_utf8_lossy(text)}),
    }
}

fn percent_decoded(word: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), word);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            rest = after;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
        } else {
            *byte
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_body_for_webdis_is_one_command_answered_with_resp() {
        let request = Request::read(b"ZREM/a%2Fb//50%25.raw").unwrap();
        assert_eq!(request.commands(), [words(&["ZREM", "a/b", "", "50%"])]);
        assert_eq!(request.response(&[Reply::Integer(1)]), b":1\r\n");
    }

    #[test]
    fn a_body_for_upstash_is_any_number_of_commands_answered_with_json() {
        let request = Request::read(br#"[["SET","k",1],["PING"]]"#).unwrap();
        assert_eq!(request.commands(), [words(&["SET", "k", "1"]), words(&["PING"])]);
        let array = Reply::Array(vec![Reply::Bulk(vec![0, 255]), Reply::Nil, Reply::Integer(-1)]);
        let replies = [Reply::Simple(b"OK".to_vec()), array, Reply::Error(b"ERR x".to_vec())];
        let body = br#"[{"result":"OK"},{"result":["AP8=",null,-1]},{"error":"ERR x"}]"#;
        assert_eq!(request.response(&replies), body);
    }

    #[test]
    fn resp_is_for_redis_itself() {
        for body in [&b"*1\r\n$4\r\nPING\r\n"[..], b"", b"{}", b"[1]", b"PING", b"a%2.raw"] {
            assert_eq!(Request::read(body), None);
        }
    }
}

//! Webdis: one command as the body of a `POST`, answered with the raw RESP of its reply.
//!
//! Webdis passes on neither nested arrays nor errors and nulls in arrays: it leaves them out. Each script is therefore
//! sent in a form of its own, which returns its reply as RESP in one string.
//!
//! A Webdis before 0.1.20 writes the reply to a callout that timed out to whichever connection has the number of that
//! callout's socket by then. The reply of a script therefore begins with the callout's id, and a reply with
//! another id is as good as a lost connection.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Words;
use super::sha1::sha1_hex;
use crate::descriptor::push_hex;
use crate::redis::resp::Decoder;
use crate::redis::{Failure, Reply, Script, Trouble, lua};

/// Start of the form of a script for Webdis, before its source.
const HEAD: &str = "local function run()\n";
/// End of that form, after the source and a line break.
const TAIL: &str = lua!("end\n", include_str!("flat.lua"));
/// Suffix of a body, by which Webdis answers with raw RESP.
const RAW: &[u8] = b".raw";

/// SHA-1 of scripts, each with the SHA-1 of the script's form for Webdis, as hexadecimal digits.
#[derive(Debug, Default)]
pub(in crate::redis) struct FlatScripts(Vec<(String, String)>);

impl FlatScripts {
    /// Adds a script, unless it is known.
    pub(in crate::redis) fn learn(&mut self, script: &Script) {
        if self.flat(script.sha1_hex().as_bytes()).is_none() {
            let flat = sha1_hex([HEAD, &script.source(), "\n", TAIL].concat().as_bytes());
            self.0.push((script.sha1_hex().to_string(), flat));
        }
    }

    fn flat(&self, sha1_hex: &[u8]) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.as_bytes() == sha1_hex).map(|(_, flat)| flat.as_str())
    }
}

/// Returns the body for the first of RESP commands.
pub(super) fn body(id: u64, commands: &[u8], scripts: &FlatScripts) -> Vec<u8> {
    let mut words = Words(commands);
    let mut body = Vec::with_capacity(commands.len());
    let count = words.command().unwrap_or(0);
    let name = words.word().unwrap_or_default();
    let is_by_source = name == b"EVAL";
    let is_script = is_by_source || name == b"EVALSHA";
    body.extend_from_slice(name);
    for (nth, word) in (1..).zip(words.words(count.saturating_sub(1))) {
        body.push(b'/');
        match nth {
            1 if is_by_source => {
                let parts = [HEAD.as_bytes(), word, b"\n", TAIL.as_bytes()];
                parts.iter().for_each(|part| push(&mut body, part));
            }
            1 if is_script => push(&mut body, scripts.flat(word).map_or(word, str::as_bytes)),
            _ => push(&mut body, word),
        }
    }
    if is_script {
        body.push(b'/');
        body.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    }
    body.extend_from_slice(RAW);
    body
}

/// Appends a word, percent-encoded.
fn push(body: &mut Vec<u8>, word: &[u8]) {
    for byte in word {
        if matches!(byte, b' '..=b'~') && !b"%/?+".contains(byte) {
            body.push(*byte);
        } else {
            body.push(b'%');
            push_hex(body, *byte);
        }
    }
}

/// Returns a response's body as RESP: the reply of a script is within a string.
pub(super) fn resp(id: u64, body: &[u8]) -> Result<Cow<'_, [u8]>, Trouble> {
    let mut decoder = Decoder::new();
    decoder.push(body);
    let Ok(Some(Reply::Bulk(text))) = decoder.next_reply() else { return Ok(Cow::Borrowed(body)) };
    let mark = format!(":{id}\r\n");
    match text.strip_prefix(mark.as_bytes()) {
        Some(reply) if decoder.buffered() == 0 => Ok(Cow::Owned(reply.to_vec())),
        _ => Err(Trouble::new(Failure::Reset, "Webdis sent the reply to another callout: upgrade it")),
    }
}

/// Returns the source of a script, from the form that is sent to Webdis.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn inner_source(flat: &str) -> Option<&str> {
    flat.strip_prefix(HEAD)?.strip_suffix(TAIL)?.strip_suffix('\n')
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::redis::Call;
    use crate::redis::resp::encode_command;

    fn encoded(words: &[&[u8]]) -> Vec<u8> {
        let mut commands = Vec::new();
        encode_command(&mut commands, words);
        body(7, &commands, &FlatScripts::default())
    }

    /// Decodes a body as Webdis does.
    fn decoded(body: &[u8]) -> Vec<Vec<u8>> {
        let words = body.strip_suffix(RAW).unwrap().split(|byte| *byte == b'/');
        words
            .map(|word| {
                let (mut bytes, mut rest) = (Vec::new(), word);
                while let Some((byte, after)) = rest.split_first() {
                    rest = after;
                    bytes.push(match byte {
                        b'%' => {
                            let (digits, after) = rest.split_at(2);
                            rest = after;
                            u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()
                        }
                        b'?' | b'+' => panic!("Webdis gives {} a meaning", char::from(*byte)),
                        byte => *byte,
                    });
                }
                bytes
            })
            .collect()
    }

    #[test]
    fn a_command_is_percent_encoded_words() {
        assert_eq!(encoded(&[b"ZREM", b"weir:slots:a/b", b"50%+?", b""]), b"ZREM/weir:slots:a%2Fb/50%25%2B%3F/.raw");
    }

    #[test]
    fn a_script_is_sent_in_its_form_for_webdis_with_the_id_of_the_callout() {
        let script = Arc::new(Script::new("return {1, false}"));
        let (call, mut scripts) = (Call::script(&script, &["k"], &["1"]), FlatScripts::default());
        scripts.learn(&script);
        let (mut by_name, mut by_source) = (Vec::new(), Vec::new());
        call.encode(&mut by_name);
        call.encode_with_source(&mut by_source);
        let by_source = decoded(&body(42, &by_source, &scripts));
        let source = str::from_utf8(&by_source[1]).unwrap();
        assert_eq!(inner_source(source), Some("return {1, false}"));
        let sha1 = Script::new(source.to_string()).sha1_hex().to_string();
        let by_name = String::from_utf8(body(42, &by_name, &scripts)).unwrap();
        assert_eq!(by_name, format!("EVALSHA/{sha1}/1/k/1/42.raw"));
        assert_eq!(by_source[2..], [&b"1"[..], b"k", b"1", b"42"]);
    }

    #[test]
    fn the_reply_of_a_script_is_within_a_string() {
        assert_eq!(*resp(42, b"$14\r\n:42\r\n*1\r\n$-1\r\n\r\n").unwrap(), *b"*1\r\n$-1\r\n");
        for other in
            [&b"-NOSCRIPT No matching script.\r\n"[..], b":1\r\n", b"+PONG\r\n", b"$-1\r\n", b"junk", b"$5\r\nab", b""]
        {
            assert_eq!(*resp(42, other).unwrap(), *other);
        }
    }

    #[test]
    fn the_reply_to_another_callout_is_lost() {
        for other in
            [&b"$9\r\n:41\r\n:1\r\n\r\n"[..], b"$4\r\n:1\r\n\r\n", b"$0\r\n\r\n", b"$9\r\n:42\r\n:1\r\n\r\n:1\r\n"]
        {
            assert_eq!(resp(42, other).unwrap_err().failure, Failure::Reset);
        }
    }

    proptest! {
        #[test]
        fn any_words_survive(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..6)) {
            let words: Vec<&[u8]> = [&b"SET"[..]].into_iter().chain(words.iter().map(Vec::as_slice)).collect();
            prop_assert_eq!(decoded(&encoded(&words)), words);
        }

        #[test]
        fn any_body_is_read(body in prop::collection::vec(any::<u8>(), 0..60), id: u64) {
            let _ = resp(id, &body);
        }
    }
}

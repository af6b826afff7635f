//! Conversations with front ends.

use super::*;
use crate::redis::inner_source;

/// Text of a body, with the SHA-1 of a script's form for Webdis cut out.
fn flat(callout: &Callout) -> String {
    let body = text(callout);
    let sha1 = body.split('/').nth(1).filter(|_| body.starts_with("EVALSHA/")).unwrap_or("none");
    assert_ne!(sha1, SHA, "the form for Webdis");
    body.replace(sha1, "sha1")
}

/// Response of Webdis to a script whose reply is `resp`.
fn within(id: u64, resp: &[u8]) -> Vec<u8> {
    let text = [format!(":{id}\r\n").as_bytes(), resp].concat();
    [format!("${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat()
}

#[test]
fn webdis_gets_one_command_in_each_callout() {
    let mut talk = Talk::through(FrontEnd::Webdis);
    talk.submit(1, call()).unwrap();
    let first = talk.sends();
    assert_eq!((flat(&first).as_str(), first.id), ("EVALSHA/sha1/1/k/1/41.raw", 41));
    talk.after(Micros(1));
    for (ticket, call) in (2..).zip(joinable(&["a", "b"])) {
        talk.submit(ticket, call).unwrap();
    }
    talk.submit(4, Call::command(&["ZREM", "slots", "h"])).unwrap();
    talk.sends_nothing();
    assert_eq!(talk.ends(&first, Ok(&within(41, b":1\r\n"))), [(1, Ok(Reply::Integer(1)))]);
    let (joined, plain) = (talk.sends(), talk.sends());
    assert_eq!(flat(&joined), "EVALSHA/sha1/2/a/b/1/1/42.raw");
    assert_eq!(flat(&plain), "ZREM/slots/h.raw");
    talk.sends_nothing();
    assert_eq!(talk.ends(&plain, Ok(b":1\r\n")), [(4, Ok(Reply::Integer(1)))]);
    let reply = within(42, b"*3\r\n:1\r\n:2\r\n-OOM x\r\n");
    let numbers = Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)]);
    assert_eq!(talk.ends(&joined, Ok(&reply)), [(2, Ok(numbers)), (3, Err(Failure::Refused))]);
    assert_eq!(talk.callouts.in_flight(), 0);
}

#[test]
fn all_calls_of_a_script_that_webdis_lost_are_sent_in_one_callout_with_its_source() {
    let mut talk = Talk::through(FrontEnd::Webdis);
    for (ticket, call) in (1..).zip(joinable(&["a", "b", "c"])) {
        talk.submit(ticket, call).unwrap();
    }
    let first = talk.sends();
    assert_eq!(talk.ends(&first, Ok(NOSCRIPT)), []);
    let again = talk.sends();
    let body = text(&again).replace("%0A", "\n").replace("%25", "%").replace("%2F", "/").replace("%2B", "+");
    let source = body.strip_prefix("EVAL/").and_then(|body| body.strip_suffix("/3/a/b/c/1/1/1/42.raw"));
    assert_eq!(source.and_then(inner_source), Some("return 1"), "{body}");
    talk.sends_nothing();
    let reply = within(42, &packed(&[1, 2, 3, 4, 5, 6]));
    let expected = [(1, Ok(bulk(&[1, 2]))), (2, Ok(bulk(&[3, 4]))), (3, Ok(bulk(&[5, 6])))];
    assert_eq!(talk.ends(&again, Ok(&reply)), expected);
}

#[test]
fn a_script_that_is_sent_with_its_source_is_not_sent_again() {
    let mut talk = Talk::through(FrontEnd::Webdis);
    talk.submit(1, call()).unwrap();
    let first = talk.sends();
    talk.ends(&first, Ok(NOSCRIPT));
    let again = talk.sends();
    assert_eq!(talk.ends(&again, Ok(NOSCRIPT)), [(1, Err(Failure::Refused))]);
}

#[test]
fn the_reply_to_another_callout_decides_nothing() {
    let mut talk = Talk::through(FrontEnd::Webdis);
    talk.submit(1, call()).unwrap();
    let callout = talk.sends();
    assert_eq!(talk.ends(&callout, Ok(&within(40, b":1\r\n"))), [(1, Err(Failure::Reset))]);
}

#[test]
fn upstash_gets_all_commands_in_one_callout() {
    let mut talk = Talk::through(FrontEnd::Upstash);
    talk.submit(1, call()).unwrap();
    let first = talk.sends();
    assert_eq!(text(&first), format!(r#"[["EVALSHA","{SHA}","1","k","1"]]"#));
    for (ticket, call) in (2..).zip(joinable(&["a", "b"])) {
        talk.submit(ticket, call).unwrap();
    }
    talk.submit(4, Call::command(&["ZREM", "slots", "h"])).unwrap();
    talk.ends(&first, Ok(br#"[{"result":1}]"#));
    let second = talk.sends();
    assert_eq!(text(&second), format!(r#"[["EVALSHA","{SHA}","2","a","b","1","1"],["ZREM","slots","h"]]"#));
    let lost = br#"[{"error":"NOSCRIPT No matching script"},{"result":0}]"#;
    assert_eq!(talk.ends(&second, Ok(lost)), [(4, Ok(Reply::Integer(0)))]);
    let again = talk.sends();
    let by_source = r#"["EVAL","return 1","1","a","1"]"#;
    assert_eq!(text(&again), format!(r#"[{by_source},["EVALSHA","{SHA}","1","b","1"]]"#));
    let results = br#"[{"result":"AAAAAAAAAAEAAAAAAAAAAg=="},{"error":"WRONGTYPE x"}]"#;
    assert_eq!(talk.ends(&again, Ok(results)), [(2, Ok(bulk(&[1, 2]))), (3, Err(Failure::Refused))]);
}

#[test]
fn a_response_of_another_length_or_form_is_a_failure() {
    for (body, failure) in [
        (&b"[]"[..], Failure::Reset),
        (br#"[{"result":1},{"result":1}]"#, Failure::Protocol),
        (b"<html>", Failure::Protocol),
        (b"", Failure::Protocol),
    ] {
        let mut talk = Talk::through(FrontEnd::Upstash);
        talk.submit(1, call()).unwrap();
        let callout = talk.sends();
        assert_eq!(talk.ends(&callout, Ok(body)), [(1, Err(failure))]);
    }
    for (body, failure) in
        [(&b"<html>"[..], Failure::Protocol), (b"", Failure::Reset), (b"$-1\r\n:1\r\n", Failure::Protocol)]
    {
        let mut talk = Talk::through(FrontEnd::Webdis);
        talk.submit(1, call()).unwrap();
        let callout = talk.sends();
        assert_eq!(talk.ends(&callout, Ok(body)), [(1, Err(failure))]);
    }
}

#[test]
fn each_status_is_a_failure() {
    let reset = b"upstream connect error or disconnect/reset before headers. reset reason: connection termination";
    let refused = b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    for (status, body, failure) in [
        (401, &b""[..], Failure::Auth),
        (403, b"", Failure::Auth),
        (400, br#"{"error":"WRONGPASS invalid password"}"#, Failure::Auth),
        (400, br#"{"error":"ERR max requests limit exceeded"}"#, Failure::Refused),
        (400, b"Bad Request", Failure::Protocol),
        (404, b"", Failure::Protocol),
        (413, b"", Failure::Refused),
        (429, b"", Failure::Refused),
        (500, br#"{"error":"no connection to Redis"}"#, Failure::Reset),
        (503, b"", Failure::Reset),
        (503, reset, Failure::Reset),
        (503, refused, Failure::Unavailable),
        (503, b"no healthy upstream", Failure::Unavailable),
        (0, b"", Failure::Protocol),
    ] {
        let mut talk = Talk::through(FrontEnd::Webdis);
        talk.submit(1, call().tracked()).unwrap();
        let callout = talk.sends();
        let trouble = crate::redis::trouble_of(status, body);
        talk.callouts.handle_trouble(talk.now, callout.id, trouble);
        assert_eq!(talk.completed(), [(1, Err(failure))], "{status}");
        assert!(!talk.callouts.is_answering());
    }
}

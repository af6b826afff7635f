//! The worker on a fake host: the hazards of Envoy's wasm host that decide the order of calls.

mod metrics;
mod outages;

use crate::host::Action;
use crate::host::fake::{Call, FIRST, LIMITER, Proxy, take_calls};

/// Each user has a million tokens, so that a reply of any time admits.
const PER_USER: &str = r#"{"redis": {"cluster": "redis"}, "overrides": {"enabled": false}, "limits": [{"name": "per_user",
    "descriptor": [{"request_header": {"name": "x-user-id", "default": "nobody"}}],
    "token_bucket": {"max_tokens": 1000000, "tokens_per_fill": 1, "fill_interval": "1s"}}]}"#;
const BY_BODY: &str = r#"{"redis": {"cluster": "redis"}, "overrides": {"enabled": false}, "request_body": {"timeout": "1s"}, "limits": [{"name": "per_model",
    "descriptor": [{"request_body": {"json_pointer": "/model"}}],
    "token_bucket": {"max_tokens": 1000000, "tokens_per_fill": 1, "fill_interval": "1s"}}]}"#;
/// Redis' reply to one request: admitted now, and the bucket was full.
const ADMITTED: &[u8] = b"*2\r\n:1\r\n:0\r\n";
/// A denial: the time is negative, and the bucket lacked all of its tokens.
const DENIED: &[u8] = b"*2\r\n:-1\r\n:1000000000000\r\n";

const JSON: [(&str, &str); 2] = [("content-type", "application/json"), (":method", "POST")];

fn connected(configuration: &str) -> Proxy {
    Proxy::connected(configuration, |proxy| {
        proxy.request(FIRST, &[&JSON[..], &by("first")].concat(), false);
        proxy.request_body(FIRST, br#"{"model": "first"}"#, true);
    })
}

/// [`PER_USER`] over callouts.
fn callouts() -> String {
    PER_USER.replace(r#""cluster": "redis""#, r#""cluster": "redis", "transport": "callout""#)
}

fn by(user: &str) -> Vec<(&str, &str)> {
    vec![("x-user-id", user)]
}

/// The decisions among calls: contexts resumed, and contexts answered with a status.
fn decided(calls: &[Call]) -> Vec<u32> {
    let context = |call: &Call| match call {
        Call::Resume(context) | Call::Answer(context, _) => Some(*context),
        _ => None,
    };
    calls.iter().filter_map(context).collect()
}

fn sends(calls: &[Call]) -> Vec<(u32, String)> {
    let send = |call: &Call| match call {
        Call::Send(context, bytes) => Some((*context, String::from_utf8_lossy(bytes).into_owned())),
        _ => None,
    };
    calls.iter().filter_map(send).collect()
}

/// Many requests whose checks are sent at the turn's end. Returns Redis' replies, which admit all of them.
fn crowd(proxy: &Proxy, contexts: core::ops::Range<u32>) -> Vec<u8> {
    for context in contexts {
        let user = format!("user-{context}");
        assert_eq!(proxy.request(context, &by(&user), true), Action::Pause);
    }
    let mut replies = Vec::new();
    // A turn checks a bounded number of requests, and asks for another.
    proxy.turn();
    for (_, sent) in sends(&take_calls()) {
        replies.extend(sent.split("EVALSHA").skip(1).flat_map(|command| joined(command.matches(":user-").count())));
    }
    replies
}

/// Hazard 1: the proxy keeps the handle of a stream that the peer closed until the module closes it, too.
#[test]
fn a_stream_that_the_peer_closed_is_closed_at_once_and_never_used_again() {
    let proxy = connected(PER_USER);
    let token = proxy.redis_closes();
    assert!(take_calls().contains(&Call::CloseStream(token)));
    proxy.request(4, &by("alice"), true);
    proxy.turn();
    proxy.passes(10_000);
    proxy.tick();
    let opened: Vec<Call> = take_calls().into_iter().filter(|call| matches!(call, Call::OpenStream(_))).collect();
    assert_eq!(opened.len(), 1, "a tick opens another");
    assert_ne!(opened, [Call::OpenStream(token)]);
}

/// Hazard 2: a stream is never cancelled in a callback that brings its bytes.
#[test]
fn a_stream_of_garbage_is_cancelled_by_a_tick() {
    let proxy = connected(PER_USER);
    proxy.request(4, &by("alice"), true);
    proxy.turn();
    take_calls();
    proxy.redis_says(b"what is this\r\n");
    let cancelled = |calls: &[Call]| calls.iter().any(|call| matches!(call, Call::CancelStream(_)));
    assert!(!cancelled(&take_calls()));
    proxy.tick();
    assert!(cancelled(&take_calls()));
}

/// Hazards 4 and 5: `send` runs the bridge in the same VM, and the token is the root context's, whoever called.
#[test]
fn a_check_is_sent_in_the_place_of_the_root_context_and_without_framing() {
    let proxy = connected(PER_USER);
    assert_eq!(proxy.request(4, &by("alice"), true), Action::Pause);
    proxy.turn();
    let sent = sends(&take_calls());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, LIMITER);
    assert!(sent[0].1.starts_with("*") && sent[0].1.contains("weir:per_user:alice"), "{}", sent[0].1);
}

/// Hazard 12: a reply for a request that is over is dropped, and the replies of others reach them.
#[test]
fn a_request_that_ends_before_its_reply_takes_no_other_along() {
    let proxy = connected(PER_USER);
    let replies = crowd(&proxy, 10..14);
    proxy.done(11);
    proxy.delete(11);
    proxy.redis_says(&replies);
    proxy.turn();
    assert_eq!(sorted(decided(&take_calls())), [10, 12, 13]);
}

/// Hazard 13: a callback decides a bounded number of requests, and the next ones carry on with the rest.
#[test]
fn many_replies_at_once_are_decided_by_several_callbacks() {
    let proxy = connected(PER_USER);
    let replies = crowd(&proxy, 1_000..1_500);
    proxy.stream_says(&replies);
    let mut all = decided(&take_calls());
    assert_eq!(all.len(), 192, "as many as the stack of Envoy's VM holds");
    for _ in 0..20 {
        proxy.tick();
        let some = decided(&take_calls());
        assert!(some.len() <= 192, "{} in one callback", some.len());
        all.extend(some);
    }
    assert_eq!(sorted(all), (1_000..1_500).collect::<Vec<_>>());
}

/// The bridge cuts a long reply into frames, each of which is a callback of its own.
#[test]
fn a_long_reply_is_handed_over_in_frames() {
    let proxy = connected(PER_USER);
    let replies = crowd(&proxy, 1_000..1_500);
    assert!(replies.len() > 2_048, "more than the bridge hands over at once");
    proxy.redis_says(&replies);
    assert_eq!(sorted(decided(&take_calls())), (1_000..1_500).collect::<Vec<_>>());
}

/// Hazard 16: an answer is the last act of its callback.
#[test]
fn nothing_is_sent_after_a_request_is_answered() {
    let proxy = connected(PER_USER);
    proxy.request(4, &by("alice"), true);
    proxy.turn();
    take_calls();
    // A request that is checked in the turn in which another is answered.
    proxy.request(5, &by("bob"), true);
    proxy.redis_says(DENIED);
    proxy.turn();
    let calls = take_calls();
    let answered = calls.iter().position(|call| matches!(call, Call::Answer(4, 429))).expect("alice is denied");
    let after = calls.get(answered..).unwrap_or_default();
    let callback = after.iter().skip(1).take_while(|call| !matches!(call, Call::Send(..)));
    assert!(callback.clone().all(|call| matches!(call, Call::Answer(..) | Call::Resume(_))), "{calls:?}");
}

/// Hazard 19: a request that is over looks alive until its deferred deletion, and is not checked.
#[test]
fn a_request_that_is_over_is_not_checked_at_the_turns_end() {
    let proxy = connected(PER_USER);
    for context in 20..40 {
        proxy.request(context, &by("alice"), true);
    }
    take_calls();
    proxy.done(39);
    proxy.turn();
    let sent = sends(&take_calls());
    let keys: usize = sent.iter().map(|(_, sent)| sent.matches("weir:per_user:alice").count()).sum();
    assert!((1..20).contains(&keys), "{keys}");
    proxy.tick();
    assert!(sends(&take_calls()).is_empty());
}

/// Hazard 20: the headers of a request whose body is read are held, and so is the body until the request is decided.
#[test]
fn a_body_is_held_back_until_its_request_is_decided() {
    let proxy = connected(BY_BODY);
    assert_eq!(proxy.request(4, &JSON, false), Action::Pause);
    assert_eq!(proxy.request_body(4, br#"{"model": "#, false), Action::HoldBack);
    assert!(sends(&take_calls()).is_empty(), "the value is not there yet");
    assert_eq!(proxy.request_body(4, br#""small"}"#, true), Action::HoldBack);
    proxy.turn();
    let sent = sends(&take_calls());
    assert!(sent.iter().any(|(_, sent)| sent.contains("weir:per_model:small")), "{sent:?}");
    proxy.redis_says(ADMITTED);
    proxy.turn();
    assert_eq!(decided(&take_calls()), [4]);
}

/// A body that does not come holds its request for the configured time.
#[test]
fn a_body_that_does_not_come_has_a_deadline() {
    let proxy = connected(BY_BODY);
    assert_eq!(proxy.request(4, &JSON, false), Action::Pause);
    proxy.passes(990);
    proxy.tick();
    assert!(sends(&take_calls()).is_empty());
    proxy.passes(10);
    proxy.tick();
    let sent = sends(&take_calls());
    assert!(sent.iter().any(|(_, sent)| sent.contains("weir:per_model:unreadable")), "{sent:?}");
    proxy.redis_says(ADMITTED);
    assert_eq!(decided(&take_calls()), [4]);
}

/// The end of a body by trailers: the request is decided with what has come of it.
#[test]
fn trailers_end_a_body() {
    let proxy = connected(BY_BODY);
    assert_eq!(proxy.request(4, &JSON, false), Action::Pause);
    assert_eq!(proxy.request_body(4, br#"{"model": "small"}"#, false), Action::HoldBack);
    assert_eq!(proxy.request_trailers(4), Action::Pause);
    proxy.turn();
    proxy.redis_says(ADMITTED);
    assert_eq!(decided(&take_calls()), [4]);
}

#[test]
fn rate_limit_headers_are_added_to_a_response_once() {
    let proxy = connected(PER_USER);
    proxy.request(4, &by("alice"), true);
    proxy.turn();
    proxy.redis_says(ADMITTED);
    proxy.turn();
    take_calls();
    let added = |calls: Vec<Call>| calls.iter().filter(|call| matches!(call, Call::SetHeader(4, ..))).count();
    assert_eq!(proxy.response_headers(4), Action::Continue);
    assert_eq!(added(take_calls()), 3);
    assert_eq!(proxy.response_headers(4), Action::Continue);
    assert_eq!(proxy.response_trailers(4), Action::Continue);
    assert_eq!(added(take_calls()), 0);
}

/// Hazard 17: no callout is started in the callback that brings the response of another.
#[test]
fn a_callout_is_not_started_in_the_callback_of_another() {
    let proxy = Proxy::start(&callouts());
    let callouts = |calls: &[Call]| calls.iter().filter(|call| **call == Call::Callout(LIMITER)).count();
    assert_eq!(proxy.request(4, &by("alice"), true), Action::Pause);
    proxy.turn();
    assert_eq!(callouts(&take_calls()), 1);
    proxy.request(5, &by("bob"), true);
    proxy.callout_ends(Some(ADMITTED));
    let calls = take_calls();
    assert_eq!((decided(&calls), callouts(&calls)), (vec![4], 0));
    proxy.turn();
    assert_eq!(callouts(&take_calls()), 1);
    proxy.callout_ends(None);
    assert_eq!(decided(&take_calls()), [5], "the failure mode admits");
}

/// The reply of the script for so many requests at once, all admitted: each has a time and its bucket's state.
fn joined(requests: usize) -> Vec<u8> {
    let mut reply = format!("*{}\r\n", requests * 2).into_bytes();
    (0..requests).for_each(|_| reply.extend_from_slice(b":1\r\n:0\r\n"));
    reply
}

fn sorted(mut contexts: Vec<u32>) -> Vec<u32> {
    contexts.sort_unstable();
    contexts
}

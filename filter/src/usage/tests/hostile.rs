//! Responses that are broken, absurd or dishonest.

use super::super::*;
use super::{read_all_ways, usage};

fn json(body: &str) -> Readings {
    read_all_ways(Framing::Json, body.as_bytes())
}

#[test]
fn a_value_that_is_no_whole_number_is_none_and_counted() {
    for value in
        ["-1", "1.5", "1e300", "\"7\"", "true", "{}", "[7]", "18446744073709551616", "1e-5", &"9".repeat(10_000)]
    {
        let readings = json(&format!(r#"{{"usage":{{"prompt_tokens":{value},"completion_tokens":3}}}}"#));
        assert_eq!((readings.usage(), readings.unreadable), (Some(usage(0, 0, 0, 0, 3)), 1), "{value}");
    }
    for (value, expected) in [("7.0", 7), ("70e-1", 7), ("0", 0), ("18446744073709551615", u64::MAX)] {
        let readings = json(&format!(r#"{{"usage":{{"prompt_tokens":{value}}}}}"#));
        assert_eq!((readings.usage(), readings.unreadable), (Some(usage(expected, 0, 0, 0, 0)), 0), "{value}");
    }
    let readings = json(r#"{"usage":{"prompt_tokens":null}}"#);
    assert_eq!((readings.usage(), readings.unreadable), (None, 0));
}

#[test]
fn of_values_that_are_repeated_the_last_number_counts() {
    let readings =
        json(r#"{"usage":{"prompt_tokens":1,"prompt_tokens":2},"usage":{"prompt_tokens":3,"prompt_tokens":null}}"#);
    assert_eq!(readings.usage(), Some(usage(3, 0, 0, 0, 0)));
}

#[test]
fn sums_do_not_overflow() {
    let max = u64::MAX;
    let readings = json(&format!(
        r#"{{"usage":{{"prompt_tokens":{max},"completion_tokens":{max},"cache_read_input_tokens":{max},
        "prompt_tokens_details":{{"cached_tokens":{max}}},"total_tokens":1}}}}"#
    ));
    assert_eq!(readings.usage(), Some(usage(0, max, 0, 0, max)));
    assert_eq!(readings.usage().map(|usage| usage.total()), Some(max));
}

#[test]
fn any_depth_is_skipped_in_constant_memory() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"usage\":", "}")] {
        let body = format!(r#"{{"x":{}1{},"usage":{{"prompt_tokens":4}}}}"#, open.repeat(10_000), close.repeat(10_000));
        assert_eq!(json(&body).usage(), Some(usage(4, 0, 0, 0, 0)), "{open}");
    }
}

#[test]
fn keys_are_compared_as_they_are_meant() {
    assert_eq!(json(r#"{"\u0075sage":{"prompt\u005ftokens":4}}"#).usage(), Some(usage(4, 0, 0, 0, 0)));
    let long = "usage".repeat(1_000);
    assert_eq!(json(&format!(r#"{{"{long}":{{"prompt_tokens":4}}}}"#)).usage(), None);
}

#[test]
fn a_malformed_document_is_counted_and_the_next_one_read() {
    let readings = json("{\"usage\" {\"prompt_tokens\":4}}\n{\"usage\":{\"prompt_tokens\":5}}\n");
    assert_eq!((readings.usage(), readings.malformed), (Some(usage(5, 0, 0, 0, 0)), 1));
    let events = "data: {\"usage\":{,\n\ndata: {\"usage\":{\"prompt_tokens\":6}}\n\n";
    let readings = read_all_ways(Framing::ServerSentEvents, events.as_bytes());
    assert_eq!((readings.usage(), readings.malformed), (Some(usage(6, 0, 0, 0, 0)), 1));
}

#[test]
fn a_stream_of_aws_with_impossible_lengths_is_read_no_further() {
    for prelude in [[0, 0, 0, 15, 0, 0, 0, 0], [0, 0, 0, 20, 0, 0, 0, 5], [255; 8], [1, 255, 255, 255, 0, 0, 0, 0]] {
        let body = [&prelude[..], &[0; 4], br#"{"usage":{"inputTokens":5}}"#].concat();
        let readings = read_all_ways(Framing::AwsEventStream, &body);
        assert_eq!((readings.usage(), readings.malformed), (None, 1), "{prelude:?}");
    }
}

#[test]
fn an_error_within_a_response_is_noticed() {
    for body in
        [r#"{"error":{"message":"x"}}"#, r#"{"error":"x"}"#, r#"{"type":"error","error":{"type":"overloaded_error"}}"#]
    {
        assert!(json(body).has_error, "{body}");
        assert!(
            read_all_ways(Framing::ServerSentEvents, format!("event: error\ndata: {body}\n\n").as_bytes()).has_error
        );
    }
    assert!(!json(r#"{"error":null,"text":"error"}"#).has_error);
}

#[test]
fn a_cut_response_keeps_what_it_has_told() {
    let events =
        "data: {\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\ndata: {\"usage\":{\"output_tok";
    let readings = read_all_ways(Framing::ServerSentEvents, events.as_bytes());
    // The tokens of an answer that has just begun are a guess.
    assert_eq!((readings.usage(), readings.has_output()), (Some(usage(25, 0, 0, 0, 0)), false));
}

#[test]
fn the_text_of_a_response_is_measured_whatever_its_format() {
    let measured = |framing, body: &str| {
        let (paths, mut whole, mut pieces) = (Paths::default(), Reader::new(framing), Reader::new(framing));
        whole.push(&paths, body.as_bytes());
        body.as_bytes().chunks(1).for_each(|byte| pieces.push(&paths, byte));
        assert_eq!(pieces.text_bytes(), whole.text_bytes(), "{body}");
        whole.text_bytes()
    };
    let openai = r#"{"id":"chatcmpl-1","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hello, \"you\""}}]}"#;
    assert_eq!(measured(Framing::Json, openai), 14);
    let tool = r#"{"choices": [ {"delta": {"tool_calls": [{"function": {"arguments" : "{}"}}]}, "n": ["a", 1]} ]}"#;
    assert_eq!(measured(Framing::Json, tool), 2);
    let gemini = r#"[{"candidates":[{"content":{"parts":[{"text":"abc"}]}}],"modelVersion":"gemini"}]"#;
    assert_eq!(measured(Framing::Json, gemini), 3);
    assert_eq!(measured(Framing::Json, r#"{"message":{"role":"assistant","content":"four"},"done":false}"#), 4);
    assert_eq!(measured(Framing::Json, r#"{"model":"llama","response":"five5","done":false}"#), 5);
    assert_eq!(measured(Framing::Json, r#"{"error":{"message":"overloaded"}}"#), 0);
    let anthropic = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\"sixsix\"}}\n\n";
    assert_eq!(measured(Framing::ServerSentEvents, &anthropic.repeat(3)), 18);
    let responses = "data: {\"type\":\"response.created\",\"response\":{\"instructions\":\"Be kind.\"}}\n\n\
        data: {\"type\":\"response.output_text.delta\",\"delta\":\"seven77\"}\n\n";
    assert_eq!(measured(Framing::ServerSentEvents, responses), 7);
}

#[test]
fn a_response_that_is_computed_in_the_background_is_pending() {
    assert!(json(r#"{"id":"resp_1","status":"queued","usage":null}"#).is_pending);
    let done = json(r#"{"id":"resp_1","status":"completed","usage":{"input_tokens":1,"output_tokens":2}}"#);
    assert!(!done.is_pending && done.has_output());
}

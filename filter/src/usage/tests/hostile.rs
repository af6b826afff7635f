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
    assert_eq!(read_all_ways(Framing::ServerSentEvents, events.as_bytes()).usage(), Some(usage(25, 0, 0, 0, 1)));
}

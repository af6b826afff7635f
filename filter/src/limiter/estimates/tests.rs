//! Tests of estimates, by the headers and bodies of requests.

use super::*;
use crate::config;
use crate::descriptor::{JsonScanner, Request};

fn usage() -> UsageConfig {
    UsageConfig::default()
}

/// The default charge of tokens.
fn charge() -> Charge {
    let json = r#"{"redis": {"cluster": "redis"}, "limits": [{"name": "a", "descriptor": [],
        "charge": "total_tokens", "fixed_window": {"max_tokens": 1000000, "window": "60s"}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    *config.limits[0].charge.clone().unwrap()
}

fn body(json: &str) -> RequestBody {
    body_with(json, &[], &[])
}

/// Body of which these members and pointers are read as well.
fn body_with(json: &str, members: &[&str], others: &[&str]) -> RequestBody {
    let mut pointers = vec![JsonPointer::member("model")];
    pointers.extend(members.iter().map(|member| JsonPointer::member(member)));
    pointers.extend(others.iter().map(|pointer| JsonPointer::parse(pointer).unwrap()));
    charge().visit_pointers(&mut |pointer| pointers.push(pointer.clone()));
    let all = (1 << pointers.len()) - 1;
    let mut scanner = JsonScanner::new(&pointers.into(), all).adding(all);
    scanner.measure(json.as_bytes());
    scanner.push(json.as_bytes());
    scanner.into_values().into()
}

fn estimated(request: &Request) -> Result<(u64, u64), BadRequest> {
    let mut estimates = Estimates::default();
    estimates.add((0, &charge()), &usage(), request, true)?;
    let (_, limits) = estimates.finish().unwrap();
    Ok((limits[0].input, limits[0].output))
}

#[test]
fn a_maximum_is_never_read_as_less_than_its_largest_reading() {
    for (members, tokens) in [
        ("", 2_048),
        (r#", "max_tokens": 10"#, 10),
        (r#", "max_tokens": "10""#, 10),
        (r#", "max_tokens": 1, "max_tokens": 7, "max_tokens": 5"#, 7),
        (r#", "max_completion_tokens": 3, "max_tokens": 9"#, 9),
        (r#", "max_tokens": null"#, 2_048),
        (r#", "max_tokens": 8, "max_tokens": null"#, 8),
        (r#", "max_tokens": -1"#, 32_000),
        (r#", "max_tokens": 1.5"#, 32_000),
        (r#", "max_tokens": 1e309"#, 32_000),
        (r#", "max_tokens": 33000"#, 32_000),
        (r#", "max_tokens": 99999999999999999999"#, 32_000),
        (r#", "max_tokens": 10, "n": 3"#, 30),
        (r#", "max_tokens": 10, "n": 3, "n": 1"#, 30),
        (r#", "max_tokens": 10, "n": 0"#, 10),
        (r#", "n": 2"#, 4_096),
        (r#", "generationConfig": {"maxOutputTokens": 77}"#, 77),
        (r#", "generationConfig": {"maxOutputTokens": 77}, "generationConfig": {}"#, 77),
    ] {
        let json = format!(r#"{{"model": "m"{members}}}"#);
        let request = Request::default().body(body(&json));
        let bytes = u64::try_from(json.len()).unwrap();
        assert_eq!(estimated(&request), Ok((bytes.div_ceil(3), tokens)), "{members}");
    }
}

#[test]
fn an_unreadable_body_has_the_greatest_estimate() {
    let request = Request::default().header("content-length", "3000").body(RequestBody::Unreadable);
    assert_eq!(estimated(&request), Ok((1_000, 32_000)));
}

/// Configuration of a charge with an enforced maximum, and of usage that is injected.
fn rewriting() -> Config {
    let json = r#"{"redis": {"cluster": "redis"}, "usage": {"include_usage": "inject"}, "limits": [{"name": "a",
        "descriptor": [], "charge": "total_tokens", "fixed_window": {"max_tokens": 1000000, "window": "60s"},
        "reserve": {"output": {"json_pointers": ["/max_tokens"], "default": 50, "enforce": true}}}]}"#;
    config::parse(json.as_bytes(), &|_| None).unwrap()
}

#[test]
fn members_are_added_where_they_are_missing() {
    let config = rewriting();
    let request = |method: &str, path: &str, json: &str| {
        let pointers = config.body.pointers();
        let mut scanner = JsonScanner::new(pointers, u32::MAX).adding(config.body.of_charges());
        scanner.push(json.as_bytes());
        Request::default().header(":method", method).header(":path", path).body(scanner.into_values().into())
    };
    let chat = "/v1/chat/completions?x";
    let usage = r#","stream_options":{"include_usage":true}"#;
    for (method, path, json, expected) in [
        ("POST", chat, "{}", r#","max_tokens":50"#.to_owned()),
        ("POST", chat, r#"{"max_tokens": 9000}"#, String::new()),
        ("POST", chat, r#"{"max_tokens": null}"#, r#","max_tokens":50"#.to_owned()),
        ("POST", chat, r#"{"stream": true, "max_tokens": 1}"#, usage.to_owned()),
        ("POST", chat, r#"{"stream": true}"#, [r#","max_tokens":50"#, usage].concat()),
        (
            "POST",
            chat,
            r#"{"stream": true, "max_tokens": 1, "stream_options": {"include_usage": false}}"#,
            usage.to_owned(),
        ),
        (
            "POST",
            chat,
            r#"{"stream": true, "max_tokens": 1, "stream_options": {"include_usage": true}}"#,
            String::new(),
        ),
        ("POST", "/v1/messages", r#"{"stream": true, "max_tokens": 1}"#, String::new()),
        ("POST", chat, r#"{"stream": true"#, String::new()),
        ("PUT", chat, "{}", String::new()),
    ] {
        assert_eq!(additions(&config, &request(method, path, json)), expected, "{method} {path} {json}");
    }
}

#[test]
fn of_the_maxima_of_several_limits_the_least_is_added() {
    for defaults in [[50, 40], [40, 50]] {
        let limit = |name: &str, default: u64| {
            format!(
                r#"{{"name": "{name}", "descriptor": [], "charge": "total_tokens",
                "fixed_window": {{"max_tokens": 1000, "window": "60s"}},
                "reserve": {{"output": {{"json_pointers": ["/max_tokens"], "default": {default}, "enforce": true}}}}}}"#
            )
        };
        let limits = [limit("a", defaults[0]), limit("b", defaults[1])].join(", ");
        let json = format!(r#"{{"redis": {{"cluster": "redis"}}, "limits": [{limits}]}}"#);
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        let request = Request::default().header(":method", "POST").body(body("{}"));
        assert_eq!(additions(&config, &request), r#","max_tokens":40"#);
    }
}

#[test]
fn an_enforced_maximum_has_no_bound() {
    let charge = rewriting().limits[0].charge.clone().unwrap();
    let estimate = &charge.reserve.as_ref().unwrap().output;
    assert_eq!(output(estimate, &body(r#"{"max_tokens": 90000}"#)), 90_000);
    assert_eq!(output(estimate, &RequestBody::Unreadable), MAX_AMOUNT);
}

#[test]
fn a_request_with_two_models_is_rejected() {
    let request = |json: &str| Request::default().body(body(json));
    assert_eq!(estimated(&request(r#"{"model": "a", "model": "b"}"#)), Err(BadRequest::Models));
    assert!(estimated(&request(r#"{"model": "a", "model": "a"}"#)).is_ok());
}

#[test]
fn a_stream_that_does_not_ask_for_its_usage_is_rejected_only_where_the_configuration_says_so() {
    let [stream, asks] = [r#"{"stream": true}"#, r#"{"stream": true, "stream_options": {"include_usage": true}}"#];
    for (include_usage, json, rejected) in [
        (IncludeUsage::Reject, stream, true),
        (IncludeUsage::Reject, asks, false),
        (IncludeUsage::Reject, "{}", false),
        (IncludeUsage::Leave, stream, false),
        (IncludeUsage::Inject, stream, false),
    ] {
        let usage = UsageConfig { include_usage, ..usage() };
        let request = Request::default().body(body_with(json, &["stream"], &[INCLUDE_USAGE]));
        let accepted = Facts::of(&usage, &request).accept(&charge(), &usage, &request);
        assert_eq!(accepted, if rejected { Err(BadRequest::IncludeUsage) } else { Ok(()) }, "{include_usage:?} {json}");
    }
}

#[test]
fn a_bound_counts_the_bytes_of_images_too() {
    let size = BodySize { bytes: 10_001, images: 2, image_bytes: 9_000 };
    let bytes = |per_token| InputEstimate::Bytes { per_token, per_image: 100, plus: 7 };
    let tokens = |estimate| input(&estimate, &size, &Request::default());
    assert_eq!([bytes(1), bytes(3)].map(tokens), [10_008, 334 + 200 + 7]);
    assert_eq!(tokens(InputEstimate::Constant(5)), 5);
}

#[test]
fn the_tokens_of_a_request_are_never_less_than_it_states() {
    let source = Source::request_header("x-tokens");
    let of = |values: &[&str]| {
        let request = Request::default().header("content-length", "30");
        let request = values.iter().fold(request, |request, value| request.header("x-tokens", value));
        input(&InputEstimate::Stated(source.clone()), &BodySize { bytes: 30, ..BodySize::default() }, &request)
    };
    assert_eq!(of(&[]), 10, "without it, by the bytes");
    for (values, tokens) in [
        (&["7"][..], 7),
        (&["0"], 0),
        (&["7", "900"], 900),
        (&["7, 900"], 900),
        (&["-1"], MAX_AMOUNT),
        (&["7.5"], MAX_AMOUNT),
        (&["many"], MAX_AMOUNT),
        (&[""], MAX_AMOUNT),
        (&["99999999999999999999999"], MAX_AMOUNT),
        (&["18446744073709551615"], MAX_AMOUNT),
    ] {
        assert_eq!(of(values), tokens, "{values:?}");
    }
}

#[test]
fn a_body_may_state_the_tokens_of_its_request() {
    let pointer = JsonPointer::parse("/max_tokens").unwrap();
    let estimate = InputEstimate::Stated(Source::RequestBody(pointer));
    let of = |body| input(&estimate, &BodySize::default(), &Request::default().body(body));
    for (json, tokens) in [
        (r#"{"max_tokens": 20}"#, 20),
        (r#"{"max_tokens": 20, "max_tokens": 3}"#, 20),
        (r#"{"max_tokens": -3}"#, MAX_AMOUNT),
        (r#"{"max_tokens": null}"#, 0),
    ] {
        assert_eq!(of(body(json)), tokens, "{json}");
    }
    assert_eq!(of(RequestBody::Unreadable), MAX_AMOUNT);
}

#[test]
fn a_header_or_the_path_names_the_model() {
    let usage = |model: &str| {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "usage": {{"model": {model}}}, "limits": [{{"name": "a",
            "descriptor": [], "charge": "total_tokens", "fixed_window": {{"max_tokens": 1000000, "window": "60s"}}}}]}}"#
        );
        *config::parse(json.as_bytes(), &|_| None).unwrap().usage.unwrap()
    };
    let header = usage(r#"{"request_header": {"name": "x-model"}}"#);
    let request = Request::default().header("x-model", "gpt-4o").body(body(r#"{"model": "other"}"#));
    assert_eq!(Facts::of(&header, &request).model, "gpt-4o");
    assert!(!has_several(&header.model, &request));
    assert!(!has_several(&header.model, &Request::default()));
    assert!(!has_several(&header.model, &Request::default().header("x-model", "a").header("x-model", "a")));
    assert!(has_several(&header.model, &Request::default().header("x-model", "a").header("x-model", "b")));
    let path = usage(r#"{"path": {"template": "/m/{model}/**"}}"#);
    let of = |path_of_request: &str| Facts::of(&path, &Request::default().header(":path", path_of_request)).model;
    assert_eq!([of("/m/gpt-4o/chat?x"), of("/models/x"), of("/")], ["gpt-4o", "x", ""]);
}

#[test]
fn a_path_may_name_the_model() {
    for (path, model) in [
        ("/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse", "gemini-2.0-flash"),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=1", "gpt-4o"),
        ("/model/anthropic.claude-3-haiku-20240307-v1:0/converse", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("/v1/chat/completions", ""),
        ("/v1/models", ""),
    ] {
        assert_eq!(model_of_path(path), model);
    }
    let facts = Facts::of(&usage(), &Request::default().header(":path", "/model/x/invoke").body(body("{}")));
    assert_eq!(facts.model, "x");
}

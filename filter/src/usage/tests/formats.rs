//! Formats that a configuration names, and the cost that a provider tells.

use serde_json::{Value, json};

use super::super::*;
use super::usage;
use crate::config;

/// Format of a configuration.
fn format(format: &Value, provider_cost: &str) -> Format {
    let json = json!({"redis": {"cluster": "redis"}, "usage": {"format": format, "provider_cost": provider_cost},
        "limits": [{"name": "a", "descriptor": [], "charge": "total_tokens",
            "fixed_window": {"max_tokens": 5_000, "window": "1s"}}]});
    config::parse(json.to_string().as_bytes(), &|_| None).unwrap().usage.unwrap().format.clone()
}

fn read(format: &Format, body: &str) -> Readings {
    let mut reader = Reader::new(Framing::Json);
    reader.push(&Paths::of(format), body.as_bytes());
    reader.readings().clone()
}

#[test]
fn a_named_format_reads_no_other() {
    let all = json!({
        "usage": {"prompt_tokens": 1, "inputTokens": 20, "billed_units": {"input_tokens": 300}, "input_tokens": 4_000},
        "usageMetadata": {"promptTokenCount": 50_000}, "prompt_eval_count": 600_000, "model": "m",
    })
    .to_string();
    for (name, input) in [
        ("bedrock", 20),
        ("cohere", 300),
        ("anthropic", 4_000),
        ("openai_responses", 4_000),
        ("gemini", 50_000),
        ("ollama", 600_000),
    ] {
        let readings = read(&format(&json!(name), "ignore"), &all);
        assert_eq!(
            (readings.usage(), readings.model.as_deref()),
            (Some(usage(input, 0, 0, 0, 0)), Some("m")),
            "{name}"
        );
    }
    let openai = json!({"usage": {"prompt_tokens": 1, "inputTokens": 20}}).to_string();
    assert_eq!(read(&format(&json!("openai"), "ignore"), &openai).usage(), Some(usage(1, 0, 0, 0, 0)));
}

#[test]
fn every_fixture_of_an_api_is_read_by_its_own_format() {
    let formats = NAMED.map(|(name, _)| format(&json!(name), "ignore"));
    for fixture in super::fixtures::all() {
        let of = |format: &Format| {
            let mut reader = Reader::new(fixture.framing);
            reader.push(&Paths::of(format), &fixture.body);
            reader.readings().usage()
        };
        let read = formats.iter().skip(1).filter(|format| of(format) == fixture.usage).count();
        assert!(read > 0, "{}", String::from_utf8_lossy(&fixture.body));
        assert_eq!(of(&formats[0]), fixture.usage);
    }
}

#[test]
fn pointers_name_the_places_of_an_api_of_ones_own() {
    let pointers = |inside: Value| {
        let pointers = json!({"input": ["/meter/in", "/a~1b"], "output": ["/meter/out"], "cache_read": ["/meter/cached"],
            "cache_write": ["/meter/written"], "reasoning": ["/meter/thoughts"], "inside": inside});
        format(&json!({"pointers": pointers}), "ignore")
    };
    let body = json!({"meter": {"in": 100, "out": 7, "cached": 30, "written": 20, "thoughts": 5}, "model": "own",
        "usage": {"prompt_tokens": 9, "completion_tokens": 9}});
    let beside = read(&pointers(json!([])), &body.to_string());
    assert_eq!((beside.usage(), beside.model.as_deref()), (Some(usage(100, 30, 20, 0, 12)), Some("own")));
    let both = read(&pointers(json!(["cache_read", "cache_write"])), &body.to_string());
    assert_eq!(both.usage(), Some(usage(50, 30, 20, 0, 12)));
    let escaped = read(&pointers(json!([])), &json!({"a/b": 8}).to_string());
    assert_eq!(escaped.usage(), Some(usage(8, 0, 0, 0, 0)));
    for malformed in ["-1", "1e300", "\"7\"", "[7]", "{}", "true", "1.5"] {
        let readings = read(&pointers(json!([])), &format!(r#"{{"meter": {{"in": {malformed}, "out": 3}}}}"#));
        assert_eq!((readings.usage(), readings.unreadable), (Some(usage(0, 0, 0, 0, 3)), 1), "{malformed}");
    }
    let deep = format!("{}1{}", r#"{"meter":"#.repeat(10_000), "}".repeat(10_000));
    assert_eq!(read(&pointers(json!([])), &deep).usage(), None);
}

#[test]
fn a_format_may_have_the_most_pointers_of_the_longest_kind() {
    let names = ["input", "output", "total", "cache_read", "cache_write", "cache_write_1h", "reasoning"];
    let place = |name: &str, nth: usize| format!("/{name}{nth}/2/3/4/5/6/7/end");
    let pointers: serde_json::Map<String, Value> = names
        .into_iter()
        .map(|name| (name.to_owned(), (0..4).map(|nth| place(name, nth)).collect::<Vec<_>>().into()))
        .collect();
    let format = format(&json!({"pointers": pointers}), "prefer");
    let last = r#"{"reasoning3":{"2":{"3":{"4":{"5":{"6":{"7":{"end": 5}}}}}}}, "output0":{"2":{"3":{"4":{"5":{"6":{"7":{"end": 4}}}}}}}}"#;
    let readings = read(&format, &format!("{last}{{\"model\": \"m\"}}"));
    assert_eq!((readings.usage(), readings.model.as_deref()), (Some(usage(0, 0, 0, 0, 9)), Some("m")));
}

#[test]
fn headers_are_those_of_the_format() {
    let headers = json!({"input": "X-In", "output": "x-out", "cache_read": "x-cached", "inside": ["cache_read"]});
    let own = format(&json!({"headers": headers}), "ignore");
    let expected = [("x-in", Field::Prompt), ("x-out", Field::Completion), ("x-cached", Field::Cached)];
    let found: Vec<(&str, Field)> = own.headers().iter().map(|(name, field)| (name.as_str(), *field)).collect();
    assert_eq!(found, expected);
    assert_eq!(read(&own, r#"{"usage": {"prompt_tokens": 1}}"#).usage(), None, "of the body nothing is read");
    assert_eq!(format(&json!("bedrock"), "ignore").headers().len(), 2);
    assert_eq!(format(&json!("openai"), "ignore").headers().len(), 0);
    assert_eq!(Format::default().headers().len(), 2);
}

#[test]
fn a_provider_tells_its_cost_where_it_is_trusted() {
    let body = |cost: &str| format!(r#"{{"usage": {{"prompt_tokens": 1, {cost}}}}}"#);
    let prefer = format(&json!("auto"), "prefer");
    for (cost, nanos, unreadable) in [
        (r#""cost": 0.00014"#, Some(140_000), 0),
        (r#""cost": 1.4e-5"#, Some(14_000), 0),
        (r#""cost": 0"#, Some(0), 0),
        (r#""cost": null"#, None, 0),
        (r#""cost": -0.1"#, None, 1),
        (r#""cost": 1e300"#, None, 1),
        (r#""cost": "0.1""#, None, 1),
        (r#""cost": {"total": 1}"#, None, 1),
        (r#""cost": true"#, None, 1),
        (r#""cost": 0.1, "cost": 0.2"#, Some(200_000_000), 0),
        (r#""cost": 0.1, "cost": -1"#, Some(100_000_000), 1),
        (r#""cost_in_usd_ticks": 37756000"#, Some(3_775_600), 0),
        (r#""cost_in_usd_ticks": 1"#, Some(1), 0),
        (r#""cost_in_usd_ticks": 1.5"#, None, 1),
        (r#""cost_in_usd_ticks": -5"#, None, 1),
        (r#""cost_in_usd_ticks": 18446744073709551615"#, None, 1),
    ] {
        let readings = read(&prefer, &body(cost));
        assert_eq!((readings.cost, readings.unreadable), (nanos.map(NanoUsd), unreadable), "{cost}");
        let ignored = read(&format(&json!("auto"), "ignore"), &body(cost));
        assert_eq!((ignored.cost, ignored.unreadable), (None, 0), "{cost}");
    }
}

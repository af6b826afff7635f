//! Agreement of the JSON Schema and the parser: about each configuration of these tests, and about changed ones.

mod validator;

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::schema::schema;
use super::super::{ConfigError, ConfigErrors, Expected, Problem};
use super::{env, full, parse, with_limit, with_redis};
use validator::Schema;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::new(schema()));

/// Expectations of the parser for several fields together, or for texts that no short pattern describes.
const WORDS_BEYOND: &[&str] = &[
    "a token_bucket beside max_delay",
    "a token_bucket alone beside lease",
    "nothing beside on_exceed.mark: a limit that marks requests neither denies nor holds them",
    "false, or a hash_key of 16 to 64 bytes beside redis",
    "a key of 16 to 64 bytes that are not all white space",
    "one value for each entry of the descriptor",
    "at most 16 different JSON pointers in all limits",
    "all, any and not nested at most 8 deep",
    "none without redis.topology: cluster, or without entries",
    "no braces in a Redis Cluster",
    "\"single\" with a transport other than stream",
    "a password for the username",
    "the username of Webdis' http_basic_auth beside the password",
    "the token of Upstash's REST API",
    "redis.token instead, as Upstash has neither username nor password for HTTP",
    "a token only with the transport \"upstash\"",
    "this field only with the transport \"webdis\" or \"upstash\"",
    "no database, as Webdis has it in its own configuration, and Upstash has one alone",
    "an integer from 1 to 4294967295 (a max_tokens of 0 blocks every request)",
    "a duration in whole microseconds",
    "a duration such as \"60s\", \"15m\" or \"1h30m\"",
    "a range of addresses such as \"10.0.0.0/8\"",
    "a path template such as \"/users/{id}/posts\"",
    "a host in lower case, without a port",
    "a token of 1 to 4096 bytes of printable ASCII",
    "charge beside it",
    "a first json_pointer to a member of the document, such as /max_tokens, beside enforce",
    "nothing beside charge: its limit counts what responses cost",
    "a charge beside max_usd and max_tokens",
    "fixed_window, approximate sliding_window or quota beside charge: cost",
    "token_bucket, fixed_window, approximate sliding_window or quota beside charge",
    "no numbers of requests beside charge",
    "max_usd beside charge: cost",
    "charge: cost beside max_usd",
    "a reserve.output.default of at most the limit, by default 2048",
    "a reserve.output.default whose cost at the dearest model is at most the limit, by default 2048",
    "usage.prices beside charge: cost",
    "input, output or total",
    "a JSON pointer of 1 to 8 steps, such as /usage/input",
    "places of which none is or contains another",
    "false with redis.topology: cluster",
    "a number from 0 to 1000 with at most 3 decimals",
    "a factor from 0.001 to 1000 with at most 3 decimals",
    "dollars from 0 to 9007199 with at most 6 decimals",
    "dollars from 0 to 1099511 with at most 6 decimals",
];

/// Numbers that may be written as text, whose bounds a schema cannot say.
const FRACTIONS: &[&str] = &[
    "a fraction from 0 to 1",
    "a number from 0.000001 to 0.999999, such as 0.8",
    "a share from 0 to 1, such as 0.1",
    "a share from 0.000001 to 1, such as 0.1",
];

/// Ends of the paths of numbers whose bounds depend on other fields.
const BOUNDS_BEYOND: &[&str] = &[".max_requests", ".default", ".min", ".max", ".hash_tag.entry", "redis.database"];

/// Whether no schema says this error.
fn is_beyond(error: &ConfigError) -> bool {
    match &error.problem {
        Problem::Duplicate { .. }
        | Problem::Environment
        | Problem::Regex(_)
        | Problem::Algorithm(_)
        | Problem::Algorithms(_)
        | Problem::UnknownPlaceholder { .. } => true,
        Problem::Unexpected { expected, found } => match expected {
            Expected::Duration { .. } => true,
            Expected::The(words) if FRACTIONS.contains(words) => found.to_string().starts_with('"'),
            Expected::The(words) => WORDS_BEYOND.contains(words),
            // Envoy passes great numbers on as text, whose bounds no schema says.
            Expected::Integer { .. } => {
                found.to_string().starts_with('"') || BOUNDS_BEYOND.iter().any(|end| error.path.ends_with(end))
            }
            // Bytes, where the schema counts characters.
            Expected::Text { .. } => found.to_string().contains("\\u{") || !found.to_string().is_ascii(),
            _ => false,
        },
        Problem::Syntax { .. } | Problem::UnknownField { .. } => false,
    }
}

/// Checks that the schema accepts what the parser accepts, and refuses what it refuses for a reason that a schema says.
pub(super) fn compare(configuration: &Value, errors: Option<&ConfigErrors>) {
    let refusal = SCHEMA.refusal(configuration);
    match (errors, refusal) {
        (None, Some(why)) => panic!("the schema refuses a valid configuration: {why}\n{configuration}"),
        (Some(errors), None) => {
            let told: Vec<String> = errors.iter().filter(|it| !is_beyond(it)).map(ToString::to_string).collect();
            assert!(told.is_empty(), "the schema accepts what the parser refuses: {told:?}\n{configuration}");
        }
        _ => {}
    }
}

/// Values that are wrong in most places, or at the edge.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            json!(null),
            json!(true),
            json!(0),
            json!(1),
            json!(-1),
            json!(1.5),
            json!(20.0),
            json!(4_294_967_297_u64),
            json!("4294967296"),
            json!(""),
            json!("a"),
            json!("GET"),
            json!("/a"),
            json!("60s"),
            json!("1h30m"),
            json!("deny"),
            json!([]),
            json!(["a"]),
            json!([{"method": "GET"}]),
            json!({}),
            json!({"a": 1}),
            json!({"method": {}}),
            json!({"key": "a"}),
            json!("x".repeat(300)),
            json!("x".repeat(5_000)),
            json!({"name": "x-a", "default": 1, "max": 5}),
        ]),
        "[ -~]{0,12}".prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
    ]
}

/// Changes the value at the place that `choice` leads to: replaces it, removes it, or adds a field.
fn change(value: &mut Value, mut choice: impl FnMut(usize) -> usize, odd: Value) {
    let mut here = value;
    loop {
        let below = match &*here {
            Value::Object(fields) => fields.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        };
        let chosen = choice(below.saturating_add(2));
        if chosen >= below {
            match here {
                Value::Object(fields) if chosen == below && below > 0 => {
                    let name = fields.keys().nth(choice(below)).cloned();
                    name.map(|name| fields.remove(&name));
                }
                Value::Object(fields) if below > 0 && choice(2) == 0 => {
                    let names = ["default", "name", "hash", "template", "exact", "present", "quota", "method", "lease"];
                    fields.insert(names[choice(names.len())].to_owned(), odd);
                }
                _ => *here = odd,
            }
            return;
        }
        here = match here {
            Value::Object(fields) => fields.values_mut().nth(chosen).unwrap(),
            Value::Array(items) => &mut items[chosen],
            _ => return,
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn schema_and_parser_agree_about_changed_configurations(
        choices in prop::collection::vec(any::<prop::sample::Index>(), 40), odd in odd(), minimal in any::<bool>(),
    ) {
        let mut choices = choices.into_iter();
        let mut configuration = if minimal { with_limit(json!({})) } else { full() };
        change(&mut configuration, |of| choices.next().map_or(of.saturating_sub(1), |index| index.index(of)), odd);
        compare(&configuration, parse(configuration.to_string().as_bytes(), &env).as_ref().err());
    }
}

#[test]
fn the_schema_has_descriptions_defaults_and_bounds() {
    let schema = schema();
    let timeout = &schema["properties"]["redis"]["properties"]["timeout"];
    assert_eq!(timeout["default"], "0.05s");
    assert_eq!(timeout["description"], "maximum time of a check; after it, the failure mode applies; 0.001s to 10s");
    let limit = &schema["properties"]["limits"]["items"];
    assert_eq!(limit["required"], json!(["name", "descriptor"]));
    assert_eq!(limit["oneOf"].as_array().map(Vec::len), Some(6));
    let tokens = &limit["properties"]["token_bucket"]["properties"]["max_tokens"]["anyOf"];
    assert_eq!(tokens[0]["anyOf"][0], json!({"type": "integer", "minimum": 0, "maximum": 4_294_967_295_u64}));
    let predicate = &schema["definitions"]["predicate"]["properties"];
    assert_eq!(predicate["not"]["allOf"][0], json!({"$ref": "#/definitions/predicate"}));
    assert_eq!(predicate["path"]["properties"]["contains"]["allOf"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_schema_refuses_typing_mistakes() {
    for mistake in [
        with_redis(json!({"timeout": "50"})),
        with_redis(json!({"clustr": "a"})),
        with_limit(json!({"quota": {"max_requests": 1, "unit": "month"}})),
        with_limit(json!({"when": [{"any": [{"not": {"method": "get"}}]}]})),
        with_limit(json!({"descriptor": [{"path": {"exact": "/a", "prefix": "/b"}}]})),
        with_limit(json!({"hash_tag": {"entry": "a"}})),
    ] {
        assert!(SCHEMA.refusal(&mistake).is_some(), "{mistake}");
    }
}

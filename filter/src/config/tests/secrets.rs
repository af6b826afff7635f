//! Tests with secrets at wrong paths: no error and no notice shows them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::parse;
use super::arbitrary::places;
use super::{errors, full, merge, parsed, with};

const PASSWORD: &str = "s3cret-hunter2";
const NUMBER: u64 = 7_305_519_844;
const URL: &str = "redis://weir:s3cret-hunter2@redis:6379";

/// A secret in every shape in which an operator may write it.
fn shapes(secret: &Value) -> Vec<Value> {
    let mut shapes = vec![
        secret.clone(),
        json!([secret]),
        json!([[secret], {"inline": secret}]),
        json!({"inline": secret}),
        json!({"inline": {"inline": secret}}),
        json!({"env": secret}),
        json!({"env": "A", "inline": secret}),
        json!({"password": secret}),
    ];
    if let Some(text) = secret.as_str() {
        let name = |value: Value| Value::Object([(text.to_owned(), value)].into_iter().collect());
        shapes.extend([name(json!(null)), name(json!({})), json!([name(secret.clone())]), json!(format!("{text} \n"))]);
    }
    shapes
}

/// Whether all values below this place are secrets.
fn is_secret(place: &str) -> bool {
    place.starts_with("/redis") || place.starts_with("/hash_key")
}

/// Errors, or notices, the password and the form of keys, of a configuration, as text.
fn messages(value: &Value, variable: Option<&str>) -> String {
    let env = |_: &str| variable.map(str::to_owned);
    match parse(value.to_string().as_bytes(), &env) {
        Ok(config) => {
            let password = config.redis.credentials.map(|known| known.password);
            let forms: Vec<_> = config.limits[0].descriptor.entries().iter().map(|entry| &entry.form).collect();
            format!("{:?} {password:?} {forms:?}", config.notices)
        }
        Err(errors) => format!("{errors} {errors:?}"),
    }
}

/// The configuration with `shape` at a place, and with a field `name` of that value added there.
fn with_secret(whole: &Value, place: &str, name: &str, shape: &Value) -> Vec<Value> {
    let mut instead = whole.clone();
    if let Some(value) = instead.pointer_mut(place) {
        *value = shape.clone();
    }
    let mut beside = whole.clone();
    if let Some(Value::Object(fields)) = beside.pointer_mut(place) {
        fields.insert(name.to_owned(), shape.clone());
    }
    vec![instead, beside]
}

#[test]
fn no_message_shows_a_secret_anywhere_below_redis_and_hash_key() {
    let whole = full();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let mut tried = 0;
    for place in all.iter().filter(|place| is_secret(place)) {
        for secret in [json!(PASSWORD), json!(NUMBER), json!(URL), json!(PASSWORD.repeat(300))] {
            for (shape, name) in
                shapes(&secret).iter().flat_map(|shape| ["pasword", PASSWORD].map(|name| (shape, name)))
            {
                for config in with_secret(&whole, place, name, shape) {
                    for variable in [None, Some(""), Some("s3cret-hunter2\n"), Some("long-s3cret-hunter2\n")] {
                        let messages = messages(&config, variable);
                        let is_silent = !messages.contains("hunter2") && !messages.contains("7305519844");
                        assert!(is_silent, "{place}: {shape}: {messages}");
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
}

#[test]
fn no_message_shows_a_url_with_a_password() {
    let whole = full();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let names = ["redsi", URL].into_iter().cycle();
    for (place, name) in all.iter().zip(names) {
        for secret in [json!(URL), json!(":s3cret-hunter2@redis:6379")] {
            for shape in shapes(&secret) {
                for config in with_secret(&whole, place, name, &shape) {
                    let messages = messages(&config, None);
                    assert!(!messages.contains("hunter2"), "{place}: {shape}: {messages}");
                }
            }
        }
    }
}

#[test]
fn no_message_shows_a_token_that_a_client_must_have() {
    for kind in ["exact", "prefix", "suffix", "contains", "regex", "exat"] {
        for secret in [json!(PASSWORD), json!(NUMBER), json!(PASSWORD.repeat(300)), json!(format!("({PASSWORD}"))] {
            for shape in shapes(&secret) {
                for source in ["header", "query_parameter", "cookie"] {
                    let predicate = json!({source: {"name": "x-token", kind: shape}});
                    let messages = messages(&with(json!({"exempt": [predicate]})), None);
                    assert!(!messages.contains("7305519844"), "{kind}: {shape}: {messages}");
                    // Unknown names of fields in a predicate are shown: they are no secrets.
                    assert!(shape.is_object() || !messages.contains("hunter2"), "{kind}: {shape}: {messages}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_message_shows_an_arbitrary_password(secret in "[!-~]{12,80}", place: prop::sample::Index, shape: prop::sample::Index) {
        let whole = full();
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        let below: Vec<&String> = all.iter().filter(|place| is_secret(place)).collect();
        let shapes = shapes(&json!(secret));
        for config in with_secret(&whole, place.get::<&String>(&below), &secret, shape.get(&shapes)) {
            let messages = messages(&config, None);
            prop_assert!(!messages.contains(&secret), "{messages}");
        }
    }
}

#[test]
fn white_space_around_a_username_and_a_password_is_cut_off_with_a_notice() {
    let credentials = |redis: Value, variable: Option<&str>| {
        let mut fields = json!({"cluster": "redis"});
        merge(&mut fields, redis);
        let config = with(json!({"redis": fields}));
        let env = |_: &str| variable.map(str::to_owned);
        let config = parse(config.to_string().as_bytes(), &env).unwrap();
        let credentials = config.redis.credentials.unwrap();
        let notices: Vec<String> = config.notices.iter().map(ToString::to_string).collect();
        (credentials.username, credentials.password.expose().to_owned(), notices)
    };
    let by_variable = |value: &str| {
        let (_, password, notices) = credentials(json!({"password": {"env": "REDIS_PASSWORD"}}), Some(value));
        (password, notices)
    };
    let newline = "redis.password.env: the value of REDIS_PASSWORD ends in a newline; it is read without";
    let around = "redis.password.env: the value of REDIS_PASSWORD has white space around it; it is read without";
    for (value, expected) in [
        ("correct horse\n", Some(newline)),
        ("correct horse\r\n\n", Some(newline)),
        ("correct horse ", Some(around)),
        ("\tcorrect horse", Some(around)),
        (" correct horse\n", Some(around)),
        ("correct horse", None),
    ] {
        let notices = expected.map(str::to_owned).into_iter().collect::<Vec<_>>();
        assert_eq!(by_variable(value), ("correct horse".to_owned(), notices), "{value:?}");
    }
    assert_eq!(
        credentials(json!({"username": " weir\n", "password": {"inline": "correct horse\n"}}), None),
        (
            Some("weir".to_owned()),
            "correct horse".to_owned(),
            vec![
                "redis.username: the value has white space around it; it is read without".to_owned(),
                "redis.password.inline: the value ends in a newline; it is read without".to_owned()
            ]
        )
    );
}

#[test]
fn white_space_alone_is_no_password_and_no_username() {
    let with_redis = |redis: Value| {
        let mut fields = json!({"cluster": "redis"});
        merge(&mut fields, redis);
        with(json!({"redis": fields}))
    };
    for blank in ["", " ", "\n", " \r\n\t"] {
        let by_variable = with_redis(json!({"password": {"env": "REDIS_PASSWORD"}}));
        let refused = parse(by_variable.to_string().as_bytes(), &|_| Some(blank.to_owned())).unwrap_err();
        assert!(refused.to_string().starts_with("redis.password.env: expected a value"), "{refused}");
        let inline = errors(&with_redis(json!({"password": {"inline": blank}})));
        assert!(inline.starts_with("redis.password.inline: expected a password"), "{inline}");
        let user = errors(&with_redis(json!({"username": blank, "password": {"inline": "x"}})));
        assert!(user.starts_with("redis.username: expected a user"), "{user}");
    }
    assert!(parsed(&full()).notices.is_empty());
}

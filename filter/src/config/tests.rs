//! What operators write, and what they are told about it.

mod accepted;
mod arbitrary;
mod refused;

use serde_json::{Value, json};

use super::{Config, parse};

/// An environment of one variable.
fn env(name: &str) -> Option<String> {
    (name == "REDIS_PASSWORD").then(|| "hunter2".to_owned())
}

fn parsed(value: &Value) -> Config {
    parse(value.to_string().as_bytes(), &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(value: &Value) -> String {
    parse(value.to_string().as_bytes(), &env).unwrap_err().to_string()
}

fn limit() -> Value {
    json!({"name": "per_user", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}})
}

/// The least configuration, with `fields` of the whole put in.
fn with(fields: Value) -> Value {
    let mut whole = json!({"redis": {"cluster": "redis"}, "limits": [limit()]});
    merge(&mut whole, fields);
    whole
}

/// The least configuration, with `fields` put into its one limit.
fn with_limit(fields: Value) -> Value {
    let mut limit = limit();
    merge(&mut limit, fields);
    with(json!({"limits": [limit]}))
}

fn merge(object: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("fields expected") };
    object.as_object_mut().unwrap().extend(fields);
}

/// Every field once, none at its default; numbers as a protobuf `Struct` has them.
fn full() -> Value {
    json!({
        "redis": {
            "cluster": "redis", "transport": "callout", "topology": "single", "username": "weir",
            "password": {"env": "REDIS_PASSWORD"}, "database": 3.0, "key_prefix": "shop:", "timeout": "0.02s",
            "max_in_flight": 100.0
        },
        "failure_mode": "deny", "status_on_error": 500.0, "stat_prefix": "shop.weir", "shadow_mode": false,
        "limits": [
            {
                "name": "per_user",
                "when": [
                    {"path": {"prefix": "/api"}},
                    {"method": ["GET", "HEAD"]},
                    {"header": {"name": "X-Plan", "exact": "free"}},
                    {"not": {"header": {"name": "x-internal", "present": true}}},
                    {"header": {"name": "x-bot", "present": false}}
                ],
                "descriptor": [
                    {"request_header": {"name": "X-User-Id", "default": "nobody"}},
                    {"remote_address": {"trusted_hops": 1.0}}, {"path": {}}, {"method": {}},
                    {"generic_key": {"descriptor_value": "v2"}}
                ],
                "token_bucket": {"max_tokens": 20.0, "tokens_per_fill": 100.0, "fill_interval": "60s"},
                "hits_addend": {"request_header": {"name": "x-cost", "default": 2.0, "max": 50.0}},
                "failure_mode": "allow"
            },
            {
                "name": "all", "descriptor": [], "hits_addend": 0,
                "token_bucket": {"max_tokens": 1000, "fill_interval": "0.001s"}, "shadow_mode": true
            }
        ],
        "response": {"status": 420, "body": "", "headers": ["ratelimit"]}
    })
}

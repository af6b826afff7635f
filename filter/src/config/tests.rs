//! Tests of configurations as operators write them, and of their errors and notices.

mod accepted;
mod algorithms;
mod arbitrary;
mod charges;
mod numbers;
mod refused;
mod refused_parts;
mod schema;
mod secrets;

use serde_json::{Value, json};

use super::{Config, ConfigErrors, parse};

/// Environment of two variables.
fn env(name: &str) -> Option<String> {
    match name {
        "REDIS_PASSWORD" => Some("hunter2".to_owned()),
        "HASH_KEY" => Some("0123456789abcdef".to_owned()),
        _ => None,
    }
}

fn parsed(value: &Value) -> Config {
    read(value).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(value: &Value) -> String {
    read(value).unwrap_err().to_string()
}

/// Reads a configuration. Its JSON Schema must agree with the parser.
fn read(value: &Value) -> Result<Config, ConfigErrors> {
    let read = parse(value.to_string().as_bytes(), &env);
    schema::compare(value, read.as_ref().err());
    read
}

fn limit() -> Value {
    json!({"name": "per_user", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}})
}

/// The minimal configuration, with `fields` added to the whole.
fn with(fields: Value) -> Value {
    let mut whole = json!({"redis": {"cluster": "redis"}, "limits": [limit()]});
    merge(&mut whole, fields);
    whole
}

/// The minimal configuration, with `fields` added to its only limit.
fn with_limit(fields: Value) -> Value {
    let mut limit = limit();
    merge(&mut limit, fields);
    with(json!({"limits": [limit]}))
}

fn merge(object: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("fields expected") };
    object.as_object_mut().unwrap().extend(fields);
}

/// Returns the `redis` section of a cluster `redis` with these further fields, in a valid configuration.
fn with_redis(fields: Value) -> Value {
    let mut redis = json!({"cluster": "redis"});
    merge(&mut redis, fields);
    with(json!({"redis": redis}))
}

/// Configuration with every field once, none at its default, and numbers as in a protobuf `Struct`.
fn full() -> Value {
    json!({
        "redis": {
            "cluster": "redis", "transport": "callout", "topology": "single", "username": "weir",
            "password": {"env": "REDIS_PASSWORD"}, "database": 3.0, "key_prefix": "shop:", "timeout": "0.02s",
            "max_in_flight": 100.0
        },
        "hash_key": {"env": "HASH_KEY"}, "failure_mode": "deny", "status_on_error": 500.0, "stat_prefix": "shop.weir", "shadow_mode": false,
        "exempt": [{"path": {"exact": "/health"}}],
        "limits": [
            {
                "name": "per_user",
                "when": [
                    {"path": {"prefix": "/api"}},
                    {"method": ["GET", "HEAD"]},
                    {"header": {"name": "X-Plan", "exact": "free"}},
                    {"not": {"header": {"name": "x-internal", "present": true}}},
                    {"header": {"name": "x-bot", "present": false}},
                    {"any": [
                        {"query_parameter": {"name": "Page", "contains": "x"}},
                        {"all": [{"cookie": {"name": "session", "suffix": "z"}}, {"host": {"exact": "shop.example"}}]},
                        {"remote_address": {"cidrs": ["10.0.0.0/8"], "trusted_cidrs": ["192.0.2.1"]}},
                        {"dynamic_metadata": {"metadata_key": {"key": "jwt", "path": [{"key": "plan"}]}, "exact": "gold"}},
                        {"path": {"template": "/users/{id}"}},
                        {"path": {"regex": "/v[0-9]+/.*"}}
                    ]}
                ],
                "exempt": [
                    {"descriptor_value": ["root", "10.0.0.1", "/", "GET", "v2"]},
                    {"header": {"name": "x-internal", "exact": "yes"}}
                ],
                "descriptor": [
                    {"request_header": {"name": "X-User-Id", "default": "nobody", "empty": "missing", "lowercase": true,
                        "hash": true}},
                    {"remote_address": {"trusted_hops": 1.0}}, {"path": {}}, {"method": {}},
                    {"generic_key": {"descriptor_value": "v2"}}
                ],
                "token_bucket": {"max_tokens": 20.0, "tokens_per_fill": 100.0, "fill_interval": "60s"},
                "hits_addend": {"request_header": {"name": "x-cost", "default": 2.0, "min": 0.0, "max": 50.0,
                    "on_missing": "max", "on_invalid": "reject"}},
                "failure_mode": "allow",
                "response": {"status": 403, "body": "{limit}: {retry_after}", "grpc_message": "no"}
            },
            {
                "name": "every_source", "hits_addend": {"request_body": {"json_pointer": "/max_tokens"}},
                "descriptor": [
                    {"query_parameter": {"name": "Key", "default": ""}}, {"cookie": {"name": "Session"}},
                    {"path": {"template": "/users/{id}", "default": "other"}}, {"path": {"prefix": "/api"}},
                    {"host": {}}, {"scheme": {"default": "http"}}, {"route_name": {}}, {"cluster_name": {}},
                    {"remote_address": {"trusted_cidrs": ["10.0.0.0/8", "2001:db8::/32"]}},
                    {"masked_remote_address": {"v4_prefix_mask_len": 24.0, "v6_prefix_mask_len": 48.0, "trusted_hops": 2.0}},
                    {"dynamic_metadata": {"metadata_key": {
                        "key": "envoy.filters.http.jwt_authn", "path": [{"key": "jwt"}, {"key": "sub"}]}}},
                    {"filter_state": {"key": "tenant"}}, {"request_body": {"json_pointer": "/user/id", "on_invalid": "skip"}}
                ],
                "token_bucket": {"max_tokens": 5, "fill_interval": "1s"}
            },
            {
                "name": "all", "descriptor": [], "hits_addend": 0,
                "token_bucket": {"max_tokens": 1000, "fill_interval": "0.001s"}, "shadow_mode": true
            },
            {
                "name": "tokens", "descriptor": [], "charge": {"weights": {"input": 2.0, "cache_read": 0.1,
                    "cache_write": 1.25, "cache_write_1h": 3.0, "output": 4.0}},
                "fixed_window": {"max_tokens": 1e12, "window": "60s"},
                "reserve": {
                    "input": {"request_body_bytes": {"bytes_per_token": 1.0, "per_image": 85.0, "plus": 200.0}},
                    "output": {"json_pointers": ["/limit"], "default": 100.0, "max": 4096.0, "times": "/best_of",
                        "enforce": true},
                    "when_short": "take_rest", "lease": "30s", "on_lost": "input"
                },
                "on_missing_usage": "seen", "on_disconnect": "zero", "soft_limit": 0.75
            },
            {
                "name": "money", "descriptor": [], "charge": "cost", "reserve": {"input": 50.0},
                "quota": {"max_usd": 500.25, "unit": "month", "utc_offset": "+01:00"}
            }
        ],
        "response": {
            "status": 420, "body": "", "headers": ["ratelimit"], "content_type": "text/html",
            "grpc_status": "UNAVAILABLE", "grpc_message": "slow down",
            "format": "gemini"
        },
        "request_body": {"max_bytes": 1024.0, "timeout": "0.25s", "on_unreadable": "reject"}, "overrides": {"refresh_interval": "0.5s"},
        "usage": {
            "format": {"pointers": {"input": ["/usage/in", "/in"], "output": ["/out"], "cache_read": ["/cached"],
                "inside": ["cache_read"]}},
            "when": [{"method": "PUT"}], "include_usage": "inject", "strip_accept_encoding": false,
            "model": {"request_body": {"json_pointer": "/engine"}},
            "prices": [
                {"model": {"exact": "gpt-4o-mini"}, "input": 0.15, "cached_input": 0.075, "output": 0.6},
                {"model": {"prefix": "claude-sonnet-"}, "input": 3.0, "cached_input": 0.3, "cache_write": 3.75,
                    "cache_write_1h": 6.0, "output": 15.0,
                    "above": {"input_tokens": 200000.0, "input": 6.0, "output": 22.5}}
            ],
            "service_tiers": [{"tier": "flex", "factor": 0.5}], "unknown_model": "dearest",
            "provider_cost": "prefer"
        },
        "events": {"stream": "shop:decisions", "max_len": 500.0, "only": "all", "sample": 0.25, "usage": true}, "emit_metadata": true,
        "max_delayed_requests": 7.0, "deny_cache": {"max_entries": 0}
    })
}

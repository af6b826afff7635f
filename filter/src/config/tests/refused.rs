//! Tests of refused configurations, and of their errors.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::super::parse;
use super::{env, errors, full, limit, merge, parsed, with, with_limit, with_redis};

#[test]
fn all_errors_are_reported_at_once() {
    let config = json!({
        "redis": {"clutser": "redis", "transport": "http", "timeout": 0.05, "max_in_flight": 0},
        "failure_mode": "locale",
        "stat_prefix": "",
        "limits": [
            limit(),
            {"name": "per user", "descriptor": [{"request_header": {}}], "token_bucket": {"max_tokens": 20.5}},
            {"name": "per_user", "when": [{"path": "/api"}, {"method": "get"}], "descriptor": {},
             "token_bucket": {"max_tokens": 5, "fill_interval": "1 fortnight"}, "hits_addend": -1}
        ],
        "response": {"status": 200, "headers": ["x-ratelimit", "x-rate-limit", "x-ratelimit"]}
    });
    assert_snapshot!(errors(&config), @r#"
    redis: unknown field (did you mean cluster?), expected one of cluster, transport, topology, username, password, token, database, authority, path_prefix, key_prefix, timeout, max_in_flight
    redis.cluster: expected the name of a cluster, found nothing
    redis.transport: expected "stream" or "callout" or "webdis" or "upstash", found a string of 4 bytes
    redis.timeout: expected a duration such as "60s", "15m" or "1h30m", found a number
    redis.max_in_flight: expected an integer from 1 to 65536, found a number
    failure_mode: expected "allow" or "deny" or "local", found "locale"
    stat_prefix: expected 1 to 64 letters, digits, underscores and dots, found ""
    response.status: expected an integer from 400 to 599, found 200
    response.headers[1]: expected "x-ratelimit" or "ratelimit" or "retry-after", found "x-rate-limit"
    response.headers[2]: expected each one only once, found the same as response.headers[0]
    limits[1].name: expected 1 to 64 letters, digits, underscores, dots and hyphens, found "per user"
    limits[1].descriptor[0].request_header.name: expected a header's name, found nothing
    limits[1].token_bucket.max_tokens: expected an integer from 0 to 4294967295, found 20.5
    limits[1].token_bucket.fill_interval: expected a duration such as "60s", found nothing
    limits[2].when[0].path: expected an object with exactly one of exact, prefix, suffix, contains, regex, template, found "/api"
    limits[2].when[1].method: expected a method in capitals such as "GET", found "get"
    limits[2].descriptor: expected a list of 0 to 16 items, found an empty object
    limits[2].token_bucket.fill_interval: expected a duration such as "60s", "15m" or "1h30m", found "1 fortnight"
    limits[2].hits_addend: expected an integer from 0 to 1000000000, found -1
    limits[2].name: expected each one only once, found the same as limits[0].name
    "#);
}

#[test]
fn missing_fields_are_named() {
    assert_snapshot!(errors(&json!({})), @"
    redis: expected an object that names the cluster, found nothing
    limits: expected a list of 1 to 32 limits, found nothing
    ");
    assert_snapshot!(errors(&with(json!({"redis": {}, "limits": [{}]}))), @"
    redis.cluster: expected the name of a cluster, found nothing
    limits[0].name: expected a name for the limit, found nothing
    limits[0].descriptor: expected a list of entries (none: one bucket for all), found nothing
    limits[0]: expected exactly one of token_bucket, sliding_window, fixed_window, quota, concurrency, windows, found nothing
    ");
    assert_snapshot!(
        errors(&with(json!({"limits": []}))),
        @"limits: expected a list of 1 to 32 items, found a list of 0"
    );
}

#[test]
fn a_configuration_is_a_json_object() {
    assert_snapshot!(
        parse(b"", &env).unwrap_err(),
        @"configuration: expected JSON, found a syntax error at line 1, column 0"
    );
    assert_snapshot!(
        parse(b"{\"redis\":\n  {\"password\": {\"inline\": \"hunter2}", &env).unwrap_err(),
        @"configuration: expected JSON, found a syntax error at line 2, column 35"
    );
    assert_snapshot!(errors(&json!([1, 2])), @"configuration: expected an object, found a list of 2");
    assert_snapshot!(errors(&json!(null)), @"configuration: expected an object, found null");
}

#[test]
fn an_unknown_field_is_refused_with_the_similar_known_field() {
    assert_snapshot!(
        errors(&with_limit(json!({"descriptors": []}))),
        @"limits[0].descriptors: unknown field (did you mean descriptor?), expected one of name, when, exempt, descriptor, hash_tag, token_bucket, sliding_window, fixed_window, quota, concurrency, windows, max_delay, lease, hits_addend, charge, reserve, on_missing_usage, on_disconnect, soft_limit, shadow_mode, on_exceed, near_limit, failure_mode, response"
    );
    assert_snapshot!(
        errors(&with(json!({"requests_per_unit": 5}))),
        @"requests_per_unit: unknown field, expected one of redis, hash_key, failure_mode, local, status_on_error, stat_prefix, shadow_mode, exempt, limits, response, request_body, usage, overrides, events, emit_metadata, max_delayed_requests, deny_cache"
    );
    assert_snapshot!(
        errors(&with_limit(json!({"descriptor": [{"remote_adress": {}}]}))),
        @"limits[0].descriptor[0].remote_adress: unknown field (did you mean remote_address?), expected one of request_header, query_parameter, cookie, path, method, host, scheme, remote_address, masked_remote_address, route_name, cluster_name, dynamic_metadata, filter_state, request_body, generic_key"
    );
    assert_snapshot!(
        errors(&with_limit(json!({"descriptor": [{"method": {"exact": "/"}}]}))),
        @"limits[0].descriptor[0].method.exact: unknown field, expected default"
    );
    assert_snapshot!(
        errors(&with(json!({"a\nb\u{1b}[31m": 5}))),
        @r#"["a\nb\u{1b}[31m"]: unknown field, expected one of redis, hash_key, failure_mode, local, status_on_error, stat_prefix, shadow_mode, exempt, limits, response, request_body, usage, overrides, events, emit_metadata, max_delayed_requests, deny_cache"#
    );
}

#[test]
fn a_token_bucket_with_impossible_numbers_is_refused() {
    let bucket = |bucket: Value| errors(&with_limit(json!({"token_bucket": bucket})));
    assert_snapshot!(
        bucket(json!({"max_tokens": 4_000_000_000_u64, "fill_interval": "3600s"})),
        @"limits[0].token_bucket: expected a bucket that fills within 142 years, found 4000000000 tokens of 3600000000 µs each"
    );
    assert_snapshot!(bucket(json!({"max_tokens": -1, "tokens_per_fill": 1e10, "fill_interval": "0s"})), @r#"
    limits[0].token_bucket.max_tokens: expected an integer from 0 to 4294967295, found -1
    limits[0].token_bucket.tokens_per_fill: expected an integer from 1 to 4294967295, found 10000000000
    limits[0].token_bucket.fill_interval: expected a duration from "0.000001s" to "4503599627s", found "0s"
    "#);
    assert_snapshot!(
        bucket(json!({"max_tokens": 5, "tokens_per_fill": 0, "fill_interval": "60s"})),
        @"limits[0].token_bucket.tokens_per_fill: expected an integer from 1 to 4294967295 (a max_tokens of 0 blocks every request), found 0"
    );
    assert_snapshot!(bucket(json!({"max_tokens": "20", "fill_interval": "0.0000001s"})), @r#"
    limits[0].token_bucket.max_tokens: expected an integer from 0 to 4294967295, found "20"
    limits[0].token_bucket.fill_interval: expected a duration in whole microseconds, found "0.0000001s"
    "#);
    assert_snapshot!(bucket(json!(null)), @"limits[0].token_bucket: expected an object, found null");
}

#[test]
fn no_error_shows_a_password() {
    let redis = |fields: Value| {
        let mut redis = json!({"cluster": "redis"});
        merge(&mut redis, fields);
        errors(&with(json!({"redis": redis})))
    };
    assert_snapshot!(
        redis(json!({"password": "hunter2"})),
        @"redis.password: expected an object with exactly one of env, inline, found a string of 7 bytes"
    );
    assert_snapshot!(
        redis(json!({"password": {"hunter2": null}})),
        @"redis.password: expected an object with exactly one of env, inline, found an object"
    );
    assert_snapshot!(
        redis(json!({"password": {"inline": 1234}})),
        @"redis.password.inline: expected a password of 1 to 4096 bytes that are not all white space, found a number"
    );
    assert_snapshot!(
        redis(json!({"password": {"inline": ["hunter2"]}})),
        @"redis.password.inline: expected a password of 1 to 4096 bytes that are not all white space, found a list of 1"
    );
    assert_snapshot!(
        redis(json!({"password": {"env": "hunter-2!"}})),
        @"redis.password.env: expected the name of an environment variable, found a string of 9 bytes"
    );
    assert_snapshot!(
        redis(json!({"password": {"env": "A", "inline": "hunter2"}})),
        @"redis.password: expected an object with exactly one of env, inline, found an object"
    );
    assert_snapshot!(
        redis(json!({"password": {"env": "REDIS_PASS"}})),
        @"redis.password.env: expected a value in the environment variable of this name, found it unset or empty (list it in vm_config.environment_variables of both the limiter and the bridge: a proxy passes no other variable on, and both plugins have one VM)"
    );
    assert_snapshot!(
        redis(json!({"username": "weir"})),
        @"redis.password: expected a password for the username, found nothing"
    );
    assert!(!format!("{:?}", parsed(&full())).contains("hunter2"));
}

#[test]
fn an_empty_variable_is_no_password() {
    let config = with(json!({"redis": {"cluster": "redis", "password": {"env": "EMPTY"}}})).to_string();
    let errors = parse(config.as_bytes(), &|_| Some(String::new())).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["redis.password.env"]);
}

#[test]
fn a_predicate_that_could_never_hold_is_refused() {
    let when = |predicate: Value| errors(&with_limit(json!({"when": [predicate]})));
    assert_snapshot!(
        when(json!({"path": {"prefix": "api"}})),
        @r#"limits[0].when[0].path.prefix: expected a path such as "/api", without a query string, found "api""#
    );
    assert_snapshot!(
        when(json!({"path": {"suffix": "?page=2"}})),
        @r#"limits[0].when[0].path.suffix: expected a part of a path, without a query string, found "?page=2""#
    );
    assert_snapshot!(
        when(json!({"path": {"exact": "/a", "prefix": "/b"}})),
        @"limits[0].when[0].path: expected an object with exactly one of exact, prefix, suffix, contains, regex, template, found an object"
    );
    assert_snapshot!(
        when(json!({"method": []})),
        @"limits[0].when[0].method: expected a list of 1 to 16 items, found a list of 0"
    );
    assert_snapshot!(
        when(json!({"method": ["GET", "GET"]})),
        @"limits[0].when[0].method[1]: expected each one only once, found the same as limits[0].when[0].method[0]"
    );
    assert_snapshot!(when(json!({"header": {"name": "x plan"}})), @r#"
    limits[0].when[0].header.name: expected a header's name, found "x plan"
    limits[0].when[0].header: expected exactly one of exact, prefix, suffix, contains, regex, present, found nothing
    "#);
    assert_snapshot!(
        when(json!({"header": {"name": "x-plan", "exact": "a", "present": true}})),
        @"limits[0].when[0].header: expected exactly one of exact, prefix, suffix, contains, regex, present, found 2 of them"
    );
    assert_snapshot!(
        when(json!({"not": {"not": {"header": {"name": "x-plan", "present": "yes"}}}})),
        @r#"limits[0].when[0].not.not.header.present: expected true or false, found "yes""#
    );
}

#[test]
fn a_descriptor_has_each_source_once() {
    let descriptor = |entries: Value| errors(&with_limit(json!({"descriptor": entries})));
    let header = |name: &str| json!({"request_header": {"name": name}});
    assert_snapshot!(
        descriptor(json!([header("x-user-id"), {"path": {}}, header("X-User-Id")])),
        @"limits[0].descriptor[2]: expected each one only once, found the same as limits[0].descriptor[0]"
    );
    assert_snapshot!(
        descriptor(json!([{"remote_address": {}}, {"path": {}}, {"remote_address": {"trusted_hops": 0}}])),
        @"limits[0].descriptor[2]: expected each one only once, found the same as limits[0].descriptor[0]"
    );
    assert_snapshot!(descriptor(json!([{"remote_address": {"trusted_hops": 33}}, {"path": null}])), @"
    limits[0].descriptor[0].remote_address.trusted_hops: expected an integer from 0 to 32, found 33
    limits[0].descriptor[1].path: expected an object, found null
    ");
}

#[test]
fn costs_are_bounded() {
    let cost = |addend: Value| errors(&with_limit(json!({"hits_addend": addend})));
    assert_snapshot!(
        cost(json!(1_000_000_001)),
        @"limits[0].hits_addend: expected an integer from 0 to 1000000000, found 1000000001"
    );
    assert_snapshot!(
        cost(json!({"request_header": {"name": "x-cost", "default": 11, "max": 10}})),
        @"limits[0].hits_addend.request_header.default: expected an integer from 1 to 10, found 11"
    );
    assert_snapshot!(
        cost(json!({"content_length": {"min": 11, "max": 10}})),
        @"limits[0].hits_addend.content_length.min: expected an integer from 0 to 10, found 11"
    );
    assert_snapshot!(
        cost(json!({"content_length": {"default": 0, "on_missing": "skip"}})),
        @r#"
    limits[0].hits_addend.content_length.default: expected an integer from 1 to 1000000000, found 0
    limits[0].hits_addend.content_length.on_missing: expected "default" or "max" or "reject", found "skip"
    "#
    );
    let entries: Vec<Value> = (0..17).map(|i| json!({"request_body": {"json_pointer": format!("/{i}")}})).collect();
    let error = errors(&with(json!({"limits": [{
        "name": "a", "descriptor": entries[..16], "hits_addend": entries[16],
        "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}]})));
    assert_eq!(error, "limits: expected at most 16 different JSON pointers in all limits, found a list of 1");
    assert_snapshot!(
        cost(json!({"response_header": {}})),
        @"limits[0].hits_addend.response_header: unknown field, expected one of request_header, query_parameter, content_length, request_body"
    );
}

#[test]
fn each_transport_has_fields_of_its_own() {
    let refused = |fields: Value| errors(&with_redis(fields));
    let mut http = json!({"token": {"inline": "t"}, "authority": "a", "path_prefix": "/a"});
    assert_snapshot!(refused(http.clone()), @r#"
    redis.token: expected a token only with the transport "upstash", found an object
    redis.authority: expected this field only with the transport "webdis" or "upstash", found a string of 1 bytes
    redis.path_prefix: expected this field only with the transport "webdis" or "upstash", found a string of 2 bytes
    "#);
    merge(&mut http, json!({"transport": "webdis", "database": 3, "password": {"inline": "hunter2"}}));
    assert_snapshot!(
        refused(http),
        @r#"
    redis.username: expected the username of Webdis' http_basic_auth beside the password, found nothing
    redis.token: expected a token only with the transport "upstash", found an object
    redis.database: expected no database, as Webdis has it in its own configuration, and Upstash has one alone, found a number
    "#
    );
    assert_snapshot!(
        refused(json!({"transport": "upstash", "database": 0, "username": "weir", "password": {"inline": "hunter2"}})),
        @r#"
    redis.token: expected the token of Upstash's REST API, found nothing
    redis.username: expected redis.token instead, as Upstash has neither username nor password for HTTP, found a string of 4 bytes
    redis.password: expected redis.token instead, as Upstash has neither username nor password for HTTP, found an object
    redis.database: expected no database, as Webdis has it in its own configuration, and Upstash has one alone, found a number
    "#
    );
    assert_snapshot!(
        refused(json!({"transport": "upstash", "token": {"inline": "a tok\u{e9}n"}, "authority": "https://a", "path_prefix": "/a/"})),
        @r#"
    redis.token: expected a token of 1 to 4096 bytes of printable ASCII, found a string of 8 bytes
    redis.authority: expected the name of a host, such as "example.upstash.io", of 1 to 256 bytes, found a string of 9 bytes
    redis.path_prefix: expected a path of 2 to 256 bytes that begins with "/" and does not end with it, found a string of 3 bytes
    "#
    );
}

#[test]
fn errors_name_the_bounds() {
    let redis = json!({"cluster": "", "timeout": "11s", "database": "zero", "topology": "sharded",
        "key_prefix": "a\nb", "transport": "carrier pigeon", "username": 7});
    assert_snapshot!(errors(&with(json!({"redis": redis}))), @r#"
    redis.cluster: expected the name of a cluster of the proxy, of 1 to 256 bytes and without "://", found a string of 0 bytes
    redis.transport: expected "stream" or "callout" or "webdis" or "upstash", found a string of 14 bytes
    redis.topology: expected "single" or "cluster", found a string of 7 bytes
    redis.username: expected a user of 1 to 256 bytes that are not all white space, found a number
    redis.database: expected an integer from 0 to 65535, found a string of 4 bytes
    redis.key_prefix: expected up to 64 bytes without control characters, found a string of 3 bytes
    redis.timeout: expected a duration from "0.001s" to "10s", found a string of 3 bytes
    "#);
    let long = "x".repeat(5_000);
    assert_snapshot!(errors(&with(json!({"response": {"body": long, "headers": "all"}, "shadow_mode": "no"}))), @r#"
    shadow_mode: expected true or false, found "no"
    response.body: expected a string of 0 to 4096 bytes, found "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"
    response.headers: expected a list of 0 to 16 items, found "all"
    "#);
}

#[test]
fn a_redis_cluster_has_one_database_hash_tags_and_no_braces_before_them() {
    let cluster = |more: serde_json::Value| {
        let mut redis = json!({"cluster": "redis", "topology": "cluster"});
        redis.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(json!({"redis": redis}))
    };
    assert_snapshot!(errors(&cluster(json!({"database": 1, "key_prefix": "{weir}:"}))), @r#"
    redis.database: expected an integer from 0 to 0, found a number
    redis.key_prefix: expected no braces in a Redis Cluster, found a string of 7 bytes
    "#);
    assert_snapshot!(errors(&cluster(json!({"transport": "webdis"}))), @r#"
    redis.topology: expected "single" with a transport other than stream, found a string of 7 bytes
    "#);
    let mut tagged = cluster(json!({}));
    tagged["limits"][0]["descriptor"] = json!([{"request_header": {"name": "x-tenant"}}]);
    for (tag, error) in [
        (json!({"entry": 1}), "limits[0].hash_tag.entry: expected an integer from 0 to 0, found 1"),
        (json!({"entry": -1}), "limits[0].hash_tag.entry: expected an integer from 0 to 0, found -1"),
        (json!({}), "limits[0].hash_tag.entry: expected the index of an entry of the descriptor, found nothing"),
        (json!("x"), "limits[0].hash_tag: expected an object, found \"x\""),
    ] {
        tagged["limits"][0]["hash_tag"] = tag;
        assert_eq!(errors(&tagged), error);
    }
    tagged["limits"][0]["hash_tag"] = json!({"entry": 0});
    tagged["redis"]["topology"] = "single".into();
    assert_snapshot!(errors(&tagged), @"limits[0].hash_tag: expected none without redis.topology: cluster, or without entries, found an object");
}

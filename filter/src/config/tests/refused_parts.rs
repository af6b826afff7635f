//! Tests of refused parts of limits and of responses, and of their errors.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{errors, parsed, with, with_limit};

#[test]
fn a_source_that_could_never_have_a_value_is_refused() {
    let entry = |entry: Value| errors(&with_limit(json!({"descriptor": [entry]})));
    assert_snapshot!(
        entry(json!({"query_parameter": {"name": ""}})),
        @r#"limits[0].descriptor[0].query_parameter.name: expected a string of 1 to 128 bytes, found """#
    );
    assert_snapshot!(entry(json!({"cookie": {"name": "a b", "default": 5}})), @r#"
    limits[0].descriptor[0].cookie.name: expected a cookie's name, found "a b"
    limits[0].descriptor[0].cookie.default: expected a string of 0 to 256 bytes, found 5
    "#);
    assert_snapshot!(
        entry(json!({"path": {"template": "/users/{id"}})),
        @r#"limits[0].descriptor[0].path.template: expected a path template such as "/users/{id}/posts", found "/users/{id""#
    );
    assert_snapshot!(
        entry(json!({"path": {"template": "/{id}", "prefix": "/a"}})),
        @"limits[0].descriptor[0].path: expected at most one of template, exact, prefix, found 2 of them"
    );
    assert_snapshot!(
        entry(json!({"path": {"prefix": "a"}})),
        @r#"limits[0].descriptor[0].path.prefix: expected a path such as "/api", without a query string, found "a""#
    );
    assert_snapshot!(
        entry(json!({"remote_address": {"trusted_hops": 1, "trusted_cidrs": []}})),
        @"limits[0].descriptor[0].remote_address: expected at most one of trusted_hops, trusted_cidrs, found 2 of them"
    );
    assert_snapshot!(entry(json!({"remote_address": {"trusted_cidrs": ["10.0.0.0/33", "localhost"]}})), @r#"
    limits[0].descriptor[0].remote_address.trusted_cidrs[0]: expected a range of addresses such as "10.0.0.0/8", found "10.0.0.0/33"
    limits[0].descriptor[0].remote_address.trusted_cidrs[1]: expected a range of addresses such as "10.0.0.0/8", found "localhost"
    "#);
    assert_snapshot!(
        entry(json!({"masked_remote_address": {"v4_prefix_mask_len": 33, "v6_prefix_mask_len": -1}})),
        @"
    limits[0].descriptor[0].masked_remote_address.v4_prefix_mask_len: expected an integer from 0 to 32, found 33
    limits[0].descriptor[0].masked_remote_address.v6_prefix_mask_len: expected an integer from 0 to 128, found -1
    "
    );
    assert_snapshot!(
        entry(json!({"dynamic_metadata": {"metadata_key": {"key": "jwt"}}})),
        @"limits[0].descriptor[0].dynamic_metadata.metadata_key.path: expected a list of keys such as [{key: sub}], found nothing"
    );
    assert_snapshot!(
        entry(json!({"dynamic_metadata": {"metadata_key": {"key": "", "path": ["sub", {"key": "a\u{0}b"}]}}})),
        @r#"
    limits[0].descriptor[0].dynamic_metadata.metadata_key.key: expected a key of 1 to 256 bytes, found ""
    limits[0].descriptor[0].dynamic_metadata.metadata_key.path[0]: expected an object, found "sub"
    limits[0].descriptor[0].dynamic_metadata.metadata_key.path[1].key: expected a key of 1 to 256 bytes, found "a\u{0}b"
    "#
    );
    assert_snapshot!(
        entry(json!({"filter_state": {}})),
        @"limits[0].descriptor[0].filter_state.key: expected the key of a filter state, found nothing"
    );
    assert_snapshot!(
        entry(json!({"request_body": {"json_pointer": "user.id"}})),
        @r#"limits[0].descriptor[0].request_body.json_pointer: expected a JSON pointer such as "/user/id", found "user.id""#
    );
}

#[test]
fn an_invalid_regular_expression_is_refused_with_the_position_of_its_error() {
    let regex = |regex: &str| errors(&with_limit(json!({"when": [{"path": {"regex": regex}}]})));
    assert_snapshot!(
        regex("/users/([0-9]+"),
        @"limits[0].when[0].path.regex: expected brackets in pairs, found one at byte 7 that is not"
    );
    assert_snapshot!(
        regex("/(?=a)"),
        @"limits[0].when[0].path.regex: expected the syntax of RE2 without its extensions, found another at byte 1"
    );
    assert_snapshot!(
        regex(&"a".repeat(300)),
        @"limits[0].when[0].path.regex: expected an expression of at most 256 bytes, found one of 300"
    );
    assert_snapshot!(
        regex("((a{9}){9}){9}"),
        @"limits[0].when[0].path.regex: expected an expression of at most 256 states, found more"
    );
    assert_snapshot!(regex(""), @r#"limits[0].when[0].path.regex: expected a string of 1 to 1024 bytes, found """#);
}

#[test]
fn predicates_are_bounded_in_number_and_depth() {
    let when = |predicate: Value| errors(&with_limit(json!({"when": [predicate]})));
    let deep = (0..9).fold(json!({"method": "GET"}), |inner, _| json!({"any": [{"not": inner}]}));
    assert_snapshot!(
        when(deep),
        @"limits[0].when[0].any[0].not.any[0].not.any[0].not.any[0].not.any[0]: expected all, any and not nested at most 8 deep, found an object"
    );
    assert_snapshot!(
        when(json!({"all": []})),
        @"limits[0].when[0].all: expected a list of 1 to 32 items, found a list of 0"
    );
    assert_snapshot!(when(json!({"any": [{"method": "get"}, {"ip": "10.0.0.1"}]})), @r#"
    limits[0].when[0].any[0].method: expected a method in capitals such as "GET", found "get"
    limits[0].when[0].any[1].ip: unknown field, expected one of path, method, header, query_parameter, cookie, host, remote_address, dynamic_metadata, all, any, not
    "#);
    assert_snapshot!(
        when(json!({"header": {"name": "x"}})),
        @"limits[0].when[0].header: expected exactly one of exact, prefix, suffix, contains, regex, present, found nothing"
    );
    assert_snapshot!(
        when(json!({"host": {"exact": "Shop.Example"}})),
        @r#"limits[0].when[0].host.exact: expected a host in lower case, without a port, found "Shop.Example""#
    );
    assert_snapshot!(
        when(json!({"remote_address": {"cidrs": "10.0.0.0/8"}})),
        @r#"limits[0].when[0].remote_address.cidrs: expected a list of 1 to 256 items, found "10.0.0.0/8""#
    );
    assert_snapshot!(
        when(json!({"path": {"contains": "x".repeat(200)}})),
        @r#"limits[0].when[0].path.contains: expected a string of 1 to 128 bytes, found "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…""#
    );
}

#[test]
fn an_exemption_has_one_value_for_each_entry_of_the_descriptor() {
    let exempt = |exempt: Value| {
        let descriptor = json!([{"path": {}}, {"method": {}}]);
        errors(&with_limit(json!({"exempt": exempt, "descriptor": descriptor})))
    };
    assert_snapshot!(exempt(json!([{"descriptor_value": "/"}, {"descriptor_value": ["/", 7]}])), @r#"
    limits[0].exempt[0].descriptor_value: expected one value for each entry of the descriptor, found a string of 1 bytes
    limits[0].exempt[1].descriptor_value[1]: expected a string of 0 to 256 bytes, found a number
    "#);
    assert_snapshot!(
        exempt(json!([{"descriptor_values": "/"}])),
        @"limits[0].exempt[0].descriptor_values: unknown field (did you mean descriptor_value?), expected one of path, method, header, query_parameter, cookie, host, remote_address, dynamic_metadata, all, any, not, descriptor_value"
    );
    assert_snapshot!(
        errors(&with(json!({"exempt": [{"descriptor_value": "/"}]}))),
        @"exempt[0].descriptor_value: unknown field, expected one of path, method, header, query_parameter, cookie, host, remote_address, dynamic_metadata, all, any, not"
    );
}

#[test]
fn a_response_has_an_error_status_and_known_placeholders() {
    assert_snapshot!(
        errors(&with(json!({"response": {
            "status": 302, "body": "{limits}", "content_type": "a\nb", "grpc_status": "OK", "grpc_message": "a\nb"
        }}))),
        @r#"
    response.status: expected an integer from 400 to 599, found 302
    response.body: unknown placeholder "{limits}" (did you mean {limit}?), expected one of {limit}, {retry_after}, {remaining}
    response.content_type: expected a media type such as "application/json", found "a\nb"
    response.grpc_status: expected a gRPC status such as RESOURCE_EXHAUSTED, or its number from 1 to 16, found "OK"
    response.grpc_message: expected a line of 1 to 256 bytes, found "a\nb"
    "#
    );
    assert_snapshot!(errors(&with_limit(json!({"response": {"grpc_status": 0, "bdy": ""}}))), @"
    limits[0].response.bdy: unknown field (did you mean body?), expected one of status, body, content_type, headers, grpc_status, grpc_message, format
    limits[0].response.grpc_status: expected an integer from 1 to 16, found 0
    ");
}

#[test]
fn an_unknown_placeholder_is_refused_with_the_similar_known_one() {
    let body = |text: &str| errors(&with_limit(json!({"response": {"body": text}})));
    assert_snapshot!(
        body("{\"wait\": {retry-after}}"),
        @r#"limits[0].response.body: unknown placeholder "{retry-after}" (did you mean {retry_after}?), expected one of {limit}, {retry_after}, {remaining}"#
    );
    for text in ["{RETRY_AFTER}", "{retryAfter}", "{retry.after}", "{limit} {retry_aftr}", "{retry_after_seconds}"] {
        assert!(body(text).contains("(did you mean {retry_after}?)"), "{}", body(text));
    }
    assert_snapshot!(body("{limit_name} {remaining} {user}"), @r#"
    limits[0].response.body: unknown placeholder "{limit_name}" (did you mean {limit}?), expected one of {limit}, {retry_after}, {remaining}
    limits[0].response.body: unknown placeholder "{user}", expected one of {limit}, {retry_after}, {remaining}
    "#);
    assert_snapshot!(
        body("{seconds}"),
        @r#"limits[0].response.body: unknown placeholder "{seconds}", expected one of {limit}, {retry_after}, {remaining}"#
    );
    assert_snapshot!(
        errors(&with(json!({"response": {"grpc_message": "{remainig}"}}))),
        @r#"response.grpc_message: unknown placeholder "{remainig}" (did you mean {remaining}?), expected one of {limit}, {retry_after}, {remaining}"#
    );
}

#[test]
fn hashed_values_need_a_key() {
    let hashed = |hash: Value| with_limit(json!({"descriptor": [{"cookie": {"name": "session", "hash": hash}}]}));
    let needs_key =
        "limits[0].descriptor[0].cookie.hash: expected false, or a hash_key of 16 to 64 bytes beside redis, found true";
    assert_eq!(errors(&hashed(json!(true))), needs_key);
    parsed(&hashed(json!(false)));
    assert_snapshot!(
        errors(&hashed(json!("yes"))),
        @r#"limits[0].descriptor[0].cookie.hash: expected true or false, found "yes""#
    );
    let with_key = |key: Value| {
        let mut whole = hashed(json!(true));
        whole["hash_key"] = key;
        errors(&whole)
    };
    for (length, shown) in [(1, "a string of 1 bytes"), (15, "a string of 15 bytes"), (65, "a string of 65 bytes")] {
        assert_eq!(
            with_key(json!({"inline": "k".repeat(length)})),
            format!("hash_key: expected a key of 16 to 64 bytes that are not all white space, found {shown}")
        );
    }
    assert_snapshot!(
        with_key(json!({"inline": ""})),
        @"hash_key.inline: expected a key of 16 to 64 bytes that are not all white space, found a string of 0 bytes"
    );
    assert_snapshot!(
        with_key(json!({"env": "REDIS_PASSWORD"})),
        @"hash_key: expected a key of 16 to 64 bytes that are not all white space, found a string of 7 bytes"
    );
    assert!(with_key(json!({"env": "OTHER"})).starts_with("hash_key.env: expected a value in the environment"));
    assert_snapshot!(with_key(json!("s3cret-hunter2-s3cret")), @"hash_key: expected an object with exactly one of env, inline, found a string of 21 bytes");
}

#[test]
fn entries_have_fields_of_their_own() {
    assert_snapshot!(
        errors(&with_limit(json!({"descriptor": [
            {"request_header": {"name": "a", "empty": "absent", "on_invalid": "skip"}},
            {"request_body": {"json_pointer": "/a", "on_invalid": "max"}},
            {"method": {"lowercase": true}}
        ]}))),
        @r#"
    limits[0].descriptor[0].request_header.on_invalid: unknown field, expected one of name, repeated, default, empty, lowercase, hash
    limits[0].descriptor[0].request_header.empty: expected "value" or "missing", found "absent"
    limits[0].descriptor[1].request_body.on_invalid: expected "skip" or "default" or "reject", found "max"
    limits[0].descriptor[2].method.lowercase: unknown field, expected default
    "#
    );
}

#[test]
fn bodies_overrides_events_and_metadata_are_bounded() {
    assert_snapshot!(
        errors(&with(json!({
            "request_body": {"max_bytes": 0, "timeout": "61s", "on_unreadable": "allow"}, "overrides": {"refresh_interval": "0.01s"},
            "events": {"stream": "", "max_len": 0, "only": "admitted", "sample": 1.5}, "emit_metadata": "yes"
        }))),
        @r#"
    request_body.max_bytes: expected an integer from 1 to 1048576, found 0
    request_body.timeout: expected a duration from "0.01s" to "60s", found "61s"
    request_body.on_unreadable: expected "skip" or "default" or "reject", found "allow"
    overrides.refresh_interval: expected a duration from "0.1s" to "3600s", found "0.01s"
    events.stream: expected a key of 1 to 256 bytes without control characters, found ""
    events.max_len: expected an integer from 1 to 10000000, found 0
    events.only: expected "denied" or "all", found "admitted"
    events.sample: expected a fraction from 0 to 1, found 1.5
    emit_metadata: expected true or false, found "yes"
    "#
    );
    assert_snapshot!(
        errors(&with_limit(json!({"hits_addend": {"query_parameter": {"name": "n", "on_invalid": "ignore"}}}))),
        @r#"limits[0].hits_addend.query_parameter.on_invalid: expected "default" or "max" or "reject", found "ignore""#
    );
}

#[test]
fn a_host_is_in_lower_case_and_without_a_port() {
    let host = |value: Value| errors(&with_limit(json!({"when": [{"host": value}]})));
    for text in ["Shop.example", "shop.example:443", "shop.example.", "[2001:db8:0::1]"] {
        let expected =
            format!("limits[0].when[0].host.exact: expected a host in lower case, without a port, found \"{text}\"");
        assert_eq!(host(json!({"exact": text})), expected);
    }
    assert_snapshot!(
        host(json!({"suffix": ".example."})),
        @r#"limits[0].when[0].host.suffix: expected a host in lower case, without a port, found ".example.""#
    );
}

#[test]
fn repeated_has_four_values_in_descriptors_and_three_in_predicates() {
    assert_snapshot!(
        errors(&with_limit(json!({"descriptor": [{"cookie": {"name": "a", "repeated": "all"}}]}))),
        @r#"limits[0].descriptor[0].cookie.repeated: expected "first" or "last" or "joined" or "reject", found "all""#
    );
    assert_snapshot!(
        errors(&with_limit(json!({"when": [{"header": {"name": "a", "repeated": "reject", "exact": "b"}}]}))),
        @r#"limits[0].when[0].header.repeated: expected "first" or "last" or "joined", found "reject""#
    );
}

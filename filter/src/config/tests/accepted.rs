//! Tests of accepted configurations, and of their meaning.

use alloc::sync::Arc;
use core::num::NonZeroU64;

use serde_json::{Value, json};

use super::super::*;
use super::{full, parsed, with, with_limit, with_redis};
use crate::descriptor::{
    Cidr, EmptyValue, Entry, HashKey, HitsAddend, JsonPointer, OnInvalid, OnUnreadable, PathPattern, PathTemplate,
    Predicate, PropertyPath, Regex, Repeated, Request, RequestHits, Source, StringMatch, TrustedProxies, ValueForm,
};
use crate::limit::{Algorithms, Share, TokenBucket};
use crate::redis::TransportKind;
use crate::response::{Api, Format, GrpcStatus, ResponseConfig, ResponseHeaders, Template};
use crate::units::{Micros, Tokens};

#[test]
fn a_full_configuration_is_read() {
    let config = parsed(&full());
    let redis = &config.redis;
    assert_eq!((redis.cluster.as_str(), redis.transport, redis.database), ("redis", TransportKind::Callout, 3));
    assert_eq!((redis.timeout, redis.max_in_flight.get()), (Micros::from_millis(20), 100));
    let credentials = redis.credentials.as_ref().unwrap();
    assert_eq!((credentials.username.as_deref(), credentials.password.expose()), (Some("weir"), "hunter2"));
    assert_eq!((config.responses.status_on_error.code(), config.stat_prefix.as_str()), (500, "shop.weir"));
    let per_user = &config.limits[0];
    assert_eq!(
        per_user.descriptor.entries(),
        [
            Entry {
                source: header("x-user-id"),
                default: Some("nobody".to_owned()),
                empty: EmptyValue::Missing,
                form: ValueForm { lowercase: true, hash_key: HashKey::new(b"0123456789abcdef").map(Arc::new) },
                on_unreadable: None,
            },
            Source::RemoteAddress(TrustedProxies::Hops(1)).into(),
            Source::Path(PathPattern::Any).into(),
            Source::Method.into(),
            Source::GenericKey { descriptor_value: "v2".to_owned() }.into(),
        ]
    );
    let bucket = |max: u64, per_fill: u64, interval| {
        Algorithms::from(
            TokenBucket::new(NonZeroU64::new(max).unwrap(), NonZeroU64::new(per_fill).unwrap(), interval).unwrap(),
        )
    };
    assert_eq!(per_user.windows, bucket(20, 100, Micros::from_secs(60)));
    let (default, min, max) = (Tokens(2), Tokens(0), Tokens(50));
    let (on_missing, on_invalid) = (OnInvalid::Max, OnInvalid::Reject);
    let hits = RequestHits { source: header("x-cost"), default, min, max, on_missing, on_invalid };
    assert_eq!(per_user.hits_addend, HitsAddend::FromRequest(hits));
    assert_eq!(config.limits[2].windows, bucket(1_000, 1, Micros::from_millis(1)));
    assert_eq!(config.limits[2].hits_addend, HitsAddend::Constant(Tokens(0)));

    let body = (config.body.max_bytes, config.body.timeout, config.body.on_unreadable);
    assert_eq!(body, (1_024, Micros::from_millis(250), OnUnreadable::Reject));
    assert!(config.emit_metadata);
    assert_eq!((config.max_delayed_requests, config.deny_cache_entries), (7, 0));
    assert_eq!(config.overrides.map(|overrides| overrides.refresh_interval), Some(Micros::from_millis(500)));
    let events = config.events.unwrap();
    assert_eq!((events.stream.as_str(), events.max_len.get(), events.only), ("shop:decisions", 500, EventsOnly::All));
    assert!(events.sample.picks(249_999) && !events.sample.picks(250_000));
}

fn header(name: &str) -> Source {
    Source::request_header(name)
}

#[test]
fn predicates_are_read() {
    let config = parsed(&full());
    let is = |source, value| Predicate::Matches { source, value };
    let exact = |text: &str| StringMatch::Exact(text.to_owned());
    let session = is(Source::cookie("session"), StringMatch::Suffix("z".to_owned()));
    let plan = Source::Property(PropertyPath::dynamic_metadata("jwt", &["plan"]));
    let trusted = TrustedProxies::Cidrs(vec![Cidr::parse("192.0.2.1/32").unwrap()]);
    assert_eq!(config.exempt, [is(Source::Path(PathPattern::Any), exact("/health"))]);
    assert_eq!(
        config.limits[0].when,
        [
            is(Source::Path(PathPattern::Any), StringMatch::Prefix("/api".to_owned())),
            Predicate::Method(vec!["GET".to_owned(), "HEAD".to_owned()]),
            is(header("x-plan"), exact("free")),
            Predicate::Not(Box::new(Predicate::Present(header("x-internal")))),
            Predicate::Not(Box::new(Predicate::Present(header("x-bot")))),
            Predicate::Any(vec![
                is(Source::query_parameter("Page"), StringMatch::Contains("x".to_owned())),
                Predicate::All(vec![session, is(Source::Host, exact("shop.example"))]),
                Predicate::RemoteAddress { trusted, cidrs: vec![Cidr::parse("10.0.0.0/8").unwrap()] },
                is(plan, exact("gold")),
                Predicate::Present(Source::Path(template("/users/{id}"))),
                is(Source::Path(PathPattern::Any), StringMatch::Regex(Box::new(Regex::new("/v[0-9]+/.*").unwrap()))),
            ]),
        ]
    );
    assert_eq!(config.limits[0].exempt, [is(header("x-internal"), exact("yes"))]);
}

fn template(text: &str) -> PathPattern {
    PathPattern::Template(PathTemplate::parse(text).unwrap())
}

#[test]
fn several_values_and_the_host_are_read_as_configured() {
    let config = parsed(&with_limit(json!({
        "when": [{"header": {"name": "HOST", "repeated": "last", "exact": "a"}}],
        "descriptor": [
            {"request_header": {"name": "Host"}},
            {"request_header": {"name": "X-Key", "repeated": "reject"}},
            {"query_parameter": {"name": "key", "repeated": "joined"}},
            {"cookie": {"name": "key", "repeated": "last"}},
        ],
        "hits_addend": {"request_header": {"name": "hosT", "repeated": "first"}},
    })));
    let limit = &config.limits[0];
    let named = |name: &str, repeated| Source::RequestHeader { name: name.to_owned(), repeated };
    let source = named(":authority", Repeated::Last);
    assert_eq!(limit.when, [Predicate::Matches { source, value: StringMatch::Exact("a".to_owned()) }]);
    let sources: Vec<&Source> = limit.descriptor.entries().iter().map(|entry| &entry.source).collect();
    assert_eq!(
        sources,
        [
            &named(":authority", Repeated::Joined),
            &named("x-key", Repeated::Reject),
            &Source::QueryParameter { name: "key".to_owned(), repeated: Repeated::Joined },
            &Source::Cookie { name: "key".to_owned(), repeated: Repeated::Last },
        ]
    );
    assert!(
        matches!(&limit.hits_addend, HitsAddend::FromRequest(hits) if hits.source == named(":authority", Repeated::First))
    );
}

#[test]
fn every_part_of_a_request_can_be_part_of_a_key() {
    let config = parsed(&full());
    let limit = &config.limits[1];
    let cidrs = ["10.0.0.0/8", "2001:db8::/32"].map(|text| Cidr::parse(text).unwrap()).to_vec();
    let or = |source: Source, default: &str| Entry { default: Some(default.to_owned()), ..source.into() };
    let pointer = |text| JsonPointer::parse(text).unwrap();
    assert_eq!(
        limit.descriptor.entries(),
        [
            or(Source::query_parameter("Key"), ""),
            Source::cookie("Session").into(),
            or(Source::Path(template("/users/{id}")), "other"),
            Source::Path(PathPattern::Prefix("/api".to_owned())).into(),
            Source::Host.into(),
            or(Source::Scheme, "http"),
            Source::Property(PropertyPath::route_name()).into(),
            Source::Property(PropertyPath::cluster_name()).into(),
            Source::RemoteAddress(TrustedProxies::Cidrs(cidrs)).into(),
            Source::MaskedRemoteAddress {
                trusted: TrustedProxies::Hops(2),
                v4_prefix_mask_len: 24,
                v6_prefix_mask_len: 48
            }
            .into(),
            Source::Property(PropertyPath::dynamic_metadata("envoy.filters.http.jwt_authn", &["jwt", "sub"])).into(),
            Source::Property(PropertyPath::filter_state("tenant")).into(),
            Entry { on_unreadable: Some(OnUnreadable::Skip), ..Source::RequestBody(pointer("/user/id")).into() },
        ]
    );
    let (default, min, max, on_invalid) = (Tokens(1), Tokens(1), Tokens(1_000_000), OnInvalid::Default);
    let source = Source::RequestBody(pointer("/max_tokens"));
    let hits = RequestHits { source, default, min, max, on_missing: on_invalid, on_invalid };
    assert_eq!(limit.hits_addend, HitsAddend::FromRequest(hits));
}

#[test]
fn a_limits_response_has_the_filters_values_for_absent_fields() {
    let config = parsed(&full());
    let filters = ResponseConfig {
        status: config.responses.filter.status,
        body: Template::literal(""),
        content_type: Some("text/html".to_owned()),
        headers: ResponseHeaders { x_ratelimit: false, ratelimit: true, retry_after: false },
        grpc_status: GrpcStatus::UNAVAILABLE,
        grpc_message: Some(Template::literal("slow down")),
        format: Format::Of(Api::Gemini),
    };
    assert_eq!((&config.responses.filter, config.responses.filter.status.code()), (&filters, 420));
    let own = config.responses.limits[0].as_deref().unwrap();
    assert_eq!(own.status.code(), 403);
    let (body, grpc_message) =
        (Template::parse("{limit}: {retry_after}", |_| ()).unwrap(), Some(Template::literal("no")));
    assert_eq!(*own, ResponseConfig { status: own.status, body, grpc_message, ..filters });
    assert_eq!(config.responses.limits[1], None);
}

#[test]
fn no_limit_applies_to_exempt_requests() {
    let exempt = json!([{"remote_address": {"cidrs": ["10.0.0.0/8"]}}, {"descriptor_value": "root"}]);
    let descriptor = json!([{"request_header": {"name": "x-user-id"}}]);
    let mut config = with_limit(json!({"exempt": exempt, "descriptor": descriptor}));
    config["exempt"] = json!([{"path": {"prefix": "/health"}}]);
    let config = parsed(&config);
    let limited =
        |request: &Request| config.concerning(request).any(|(_, limit)| limit.descriptor.bucket_key(request).is_some());
    let request = |path: &str, user: &str, source: &str| {
        Request::default().header(":path", path).header("x-user-id", user).source(source)
    };
    assert!(limited(&request("/", "alice", "203.0.113.9:80")));
    assert!(!limited(&request("/health", "alice", "203.0.113.9:80")));
    assert!(!limited(&request("/", "root", "203.0.113.9:80")));
    assert!(!limited(&request("/", "alice", "10.1.2.3:80")));
}

#[test]
fn only_bodies_that_are_read_are_awaited() {
    let body = |pointer: &str| json!({"request_body": {"json_pointer": pointer}});
    let post = json!([{"method": "POST"}]);
    let [mut one, mut other, mut third] = [(); 3].map(|()| with_limit(json!({"when": post}))["limits"][0].clone());
    one["descriptor"] = json!([body("/user"), body("/model")]);
    (other["name"], other["hits_addend"]) = (json!("other"), body("/n"));
    (third["name"], third["descriptor"], third["when"]) = (json!("third"), json!([body("/user")]), json!([]));
    let config = parsed(&with(json!({"limits": [one, other, third]})));
    assert_eq!(config.body.pointers().len(), 3);
    assert_eq!(config.pointers_for(&Request::default().header(":method", "POST")), 0b111);
    assert_eq!(config.pointers_for(&Request::default().header(":method", "GET")), 0b001);
    assert!(config.body.matters());
}

#[test]
fn bodies_matter_where_their_length_is_charged() {
    for addend in [json!({"content_length": {}}), json!({"request_header": {"name": "Content-Length"}})] {
        let config = parsed(&with_limit(json!({"hits_addend": addend})));
        assert!(config.body.matters() && config.body.pointers().is_empty());
    }
}

#[test]
fn a_request_costs_at_least_one_token_and_on_missing_defaults_to_on_invalid() {
    let hits = |addend: serde_json::Value| match parsed(&with_limit(json!({"hits_addend": addend}))).limits[0]
        .hits_addend
        .clone()
    {
        HitsAddend::FromRequest(hits) => (hits.min.0, hits.default.0, hits.on_missing, hits.on_invalid),
        HitsAddend::Constant(tokens) => panic!("{tokens:?}"),
    };
    let (default, max, reject) = (OnInvalid::Default, OnInvalid::Max, OnInvalid::Reject);
    assert_eq!(hits(json!({"content_length": {}})), (1, 1, default, default));
    assert_eq!(hits(json!({"content_length": {"on_invalid": "reject"}})), (1, 1, reject, reject));
    assert_eq!(hits(json!({"content_length": {"on_invalid": "max", "on_missing": "default"}})), (1, 1, default, max));
    assert_eq!(hits(json!({"content_length": {"min": 5}})), (5, 5, default, default));
    assert_eq!(hits(json!({"content_length": {"min": 0}})), (0, 1, default, default));
}

#[test]
fn callouts_have_the_headers_of_their_front_end() {
    let headers = |fields: Value| {
        let redis = parsed(&with_redis(fields)).redis;
        let lines: Vec<String> =
            redis.callout_headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(redis.session().credentials, None, "Redis is not authenticated to");
        lines.join("\n")
    };
    assert_eq!(headers(json!({"transport": "callout"})), ":method: POST\n:path: /\n:authority: redis");
    let login =
        json!({"transport": "webdis", "path_prefix": "/cache", "username": "weir", "password": {"inline": "hunter2"}});
    assert_eq!(
        headers(login),
        ":method: POST\n:path: /cache/\n:authority: redis\nauthorization: Basic d2VpcjpodW50ZXIy"
    );
    let upstash = json!({"transport": "upstash", "authority": "eu1.upstash.io", "token": {"inline": "AYNg="}});
    assert_eq!(
        headers(upstash),
        ":method: POST\n:path: /pipeline\n:authority: eu1.upstash.io\nauthorization: Bearer AYNg=\n\
         content-type: application/json\nupstash-encoding: base64"
    );
}

#[test]
fn absent_fields_have_their_documented_defaults() {
    let config = parsed(&with(json!({})));
    assert_eq!(
        config.redis,
        RedisConfig {
            cluster: "redis".to_owned(),
            transport: TransportKind::Stream,
            topology: crate::redis::Topology::Single,
            credentials: None,
            http: HttpConfig::default(),
            database: 0,
            key_prefix: "weir:".to_owned(),
            timeout: Micros::from_millis(50),
            max_in_flight: 4_096.try_into().unwrap(),
        }
    );
    assert_eq!((config.responses.status_on_error.code(), config.stat_prefix.as_str()), (503, "weir"));
    assert_eq!(
        (config.responses.filter.status.code(), &config.responses.filter.body),
        (429, &Template::literal("rate limited\n"))
    );
    assert_eq!((config.responses.filter.grpc_status.code(), &config.responses.filter.grpc_message), (8, &None));
    let body = (config.body.max_bytes, config.body.timeout, config.body.on_unreadable);
    assert_eq!(body, (65_536, Micros::from_secs(1), OnUnreadable::Default));
    assert!(!config.emit_metadata && !config.body.matters());
    assert_eq!((config.max_delayed_requests, config.deny_cache_entries), (1_024, 10_000));
    assert_eq!(config.overrides.map(|overrides| overrides.refresh_interval), Some(Micros::from_secs(5)));
    assert_eq!(config.events, None);
    assert_eq!(parsed(&with(json!({"overrides": {"enabled": false}}))).overrides, None);
    let events = parsed(&with(json!({"events": {}}))).events.unwrap();
    assert_eq!((events.stream.as_str(), events.max_len.get()), ("weir:events", 10_000));
    assert_eq!((events.only, events.sample), (EventsOnly::Denied, Fraction::ALL));
    let headers = ResponseHeaders { x_ratelimit: true, ratelimit: false, retry_after: true };
    assert_eq!(config.responses.filter.headers, headers);
    let limit = &config.limits[0];
    assert_eq!((limit.failure_mode, limit.shadow_mode), (FailureMode::Allow, false));
    assert_eq!(limit.hits_addend, HitsAddend::Constant(Tokens(1)));
    assert!(limit.when.is_empty() && limit.exempt.is_empty() && config.exempt.is_empty());
    assert_eq!(config.responses.limits, [None]);
}

#[test]
fn a_limit_may_have_another_failure_mode_than_the_filter() {
    let config = parsed(&full());
    assert_eq!(config.limits[0].failure_mode, FailureMode::Allow);
    let config = parsed(&with(json!({"failure_mode": "deny"})));
    assert_eq!(config.limits[0].failure_mode, FailureMode::Deny);
}

#[test]
fn shares_are_settings_of_local_and_only_where_a_limit_has_it() {
    assert_eq!(parsed(&with(json!({"local": {"share": 0.5}}))).local, None);
    let config = parsed(&with(json!({"failure_mode": "local"})));
    assert_eq!(config.limits[0].failure_mode, FailureMode::Local);
    assert_eq!(config.local, Some(LocalConfig { share: None, new_worker_share: Share::NONE, max_keys: 10_000 }));
    let config = parsed(&with(json!({"failure_mode": "local", "local": {"share": "0.5", "max_keys": 1_000}})));
    assert_eq!(
        config.local,
        Some(LocalConfig { share: Share::from_number(0.5), new_worker_share: Share::NONE, max_keys: 1_000 })
    );
    let config = parsed(&with(json!({"failure_mode": "local", "local": {"new_worker_share": 0.25}})));
    assert_eq!(config.local.unwrap().new_worker_share.of_tokens(Tokens(100)), Tokens(25));
    let errors = |local: Value| super::errors(&with(json!({"failure_mode": "local", "local": local})));
    assert_eq!(
        errors(json!({"share": 0, "max_keys": 999})),
        "local.max_keys: expected an integer from 1000 to 1000000, found 999\n\
         local.share: expected a share from 0.000001 to 1, such as 0.1, found 0"
    );
    assert_eq!(
        errors(json!({"new_worker_share": 1.5})),
        "local.new_worker_share: expected a share from 0 to 1, such as 0.1, found 1.5"
    );
    let both = errors(json!({"share": 0.1, "new_worker_share": 0.1}));
    assert!(both.starts_with("local: expected at most one of share, new_worker_share"), "{both}");
}

#[test]
fn a_limit_on_requests_in_flight_denies_in_place_of_local() {
    let slots =
        json!({"failure_mode": "local", "token_bucket": null, "concurrency": {"max_requests": 5, "lease": "60s"}});
    let mut config = with_limit(slots);
    config["limits"][0].as_object_mut().unwrap().remove("token_bucket");
    assert_eq!(parsed(&config).limits[0].failure_mode, FailureMode::Deny);
}

#[test]
fn a_limit_in_shadow_mode_never_denies_even_when_redis_is_down() {
    let whole = parsed(&with(json!({"failure_mode": "deny", "shadow_mode": true})));
    let one = parsed(&with_limit(json!({"failure_mode": "deny", "shadow_mode": true})));
    for config in [whole, one] {
        assert_eq!((config.limits[0].shadow_mode, config.limits[0].failure_mode), (true, FailureMode::Allow));
    }
}

/// The values of exempt requests have the form of the entries.
#[test]
fn a_hashed_value_is_exempt_as_it_is_configured() {
    let key = || HashKey::new(b"0123456789abcdef").map(Arc::new);
    let keyed = |hash_key: Value| {
        let entry = json!({"request_header": {"name": "x-api-key", "hash": true}});
        let limit = json!({"descriptor": [entry], "exempt": [{"descriptor_value": "sk-alice"}]});
        let mut whole = with_limit(limit);
        whole["hash_key"] = hash_key;
        parsed(&whole)
    };
    let (inline, variable) = (keyed(json!({"inline": "0123456789abcdef\n"})), keyed(json!({"env": "HASH_KEY"})));
    assert_eq!(inline.limits, variable.limits);
    assert_eq!(inline.notices.len(), 1, "the newline is cut off");
    let descriptor = &inline.limits[0].descriptor;
    assert_eq!(descriptor.entries()[0].form, ValueForm { lowercase: false, hash_key: key() });
    let of = |key: &str| descriptor.bucket_key(&Request::default().header("x-api-key", key));
    assert_eq!(of("sk-alice"), None);
    assert_eq!(of("SK-Alice"), Some(b"weir:per_user:0dfd9b790e7325135becb1f099f7b88d".to_vec()));
}

#[test]
fn keys_start_with_the_prefix_and_the_limits_name() {
    let config = parsed(&full());
    assert_eq!(config.limits[2].descriptor.bucket_key(&Request::default()), Some(b"shop:all:".to_vec()));
}

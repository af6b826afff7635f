//! Configurations that are taken, and what they mean.

use std::num::NonZeroU64;

use serde_json::json;

use super::super::*;
use super::{full, parsed, with, with_limit};
use crate::descriptor::{Attributes, Entry, HitsAddend, Predicate, StringMatch};
use crate::limit::TokenBucket;
use crate::units::{Micros, Tokens};

#[test]
fn a_configuration_says_what_it_means() {
    let config = parsed(&full());
    let redis = &config.redis;
    assert_eq!((redis.cluster.as_str(), redis.transport, redis.database), ("redis", Transport::Callout, 3));
    assert_eq!((redis.timeout, redis.max_in_flight.get()), (Micros::from_millis(20), 100));
    let credentials = redis.credentials.as_ref().unwrap();
    assert_eq!((credentials.username.as_deref(), credentials.password.expose()), (Some("weir"), "hunter2"));
    assert_eq!((config.status_on_error.code(), config.stat_prefix.as_str()), (500, "shop.weir"));
    assert_eq!((config.response.status.code(), config.response.body.as_str()), (420, ""));
    let headers = ResponseHeaders { x_ratelimit: false, ratelimit: true, retry_after: false };
    assert_eq!(config.response.headers, headers);

    let per_user = &config.limits[0];
    let header = |name: &str| Predicate::HeaderPresent { name: name.to_owned() };
    assert_eq!(
        per_user.when,
        [
            Predicate::Path(StringMatch::Prefix("/api".to_owned())),
            Predicate::Method(vec!["GET".to_owned(), "HEAD".to_owned()]),
            Predicate::Header { name: "x-plan".to_owned(), value: StringMatch::Exact("free".to_owned()) },
            Predicate::Not(Box::new(header("x-internal"))),
            Predicate::Not(Box::new(header("x-bot"))),
        ]
    );
    assert_eq!(
        per_user.descriptor.entries(),
        [
            Entry::RequestHeader { name: "x-user-id".to_owned(), default: Some("nobody".to_owned()) },
            Entry::RemoteAddress { trusted_hops: 1 },
            Entry::Path,
            Entry::Method,
            Entry::GenericKey { descriptor_value: "v2".to_owned() },
        ]
    );
    let bucket = |max: u64, per_fill: u64, interval| {
        TokenBucket::new(NonZeroU64::new(max).unwrap(), NonZeroU64::new(per_fill).unwrap(), interval).unwrap()
    };
    assert_eq!(per_user.token_bucket, bucket(20, 100, Micros::from_secs(60)));
    let addend = HitsAddend::RequestHeader { name: "x-cost".to_owned(), default: Tokens(2), max: Tokens(50) };
    assert_eq!(per_user.hits_addend, addend);
    assert_eq!(config.limits[1].token_bucket, bucket(1_000, 1, Micros::from_millis(1)));
    assert_eq!(config.limits[1].hits_addend, HitsAddend::Constant(Tokens(0)));
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let config = parsed(&with(json!({})));
    assert_eq!(
        config.redis,
        RedisConfig {
            cluster: "redis".to_owned(),
            transport: Transport::Stream,
            topology: Topology::Single,
            credentials: None,
            database: 0,
            key_prefix: "weir:".to_owned(),
            timeout: Micros::from_millis(50),
            max_in_flight: 4_096.try_into().unwrap(),
        }
    );
    assert_eq!((config.status_on_error.code(), config.stat_prefix.as_str()), (503, "weir"));
    assert_eq!((config.response.status.code(), config.response.body.as_str()), (429, "rate limited\n"));
    let headers = ResponseHeaders { x_ratelimit: true, ratelimit: false, retry_after: true };
    assert_eq!(config.response.headers, headers);
    let limit = &config.limits[0];
    assert_eq!((limit.failure_mode, limit.shadow_mode), (FailureMode::Allow, false));
    assert_eq!(limit.hits_addend, HitsAddend::Constant(Tokens(1)));
    assert!(limit.when.is_empty());
}

#[test]
fn a_limit_may_fail_otherwise_than_the_filter() {
    let config = parsed(&full());
    assert_eq!(config.limits[0].failure_mode, FailureMode::Allow);
    let config = parsed(&with(json!({"failure_mode": "deny"})));
    assert_eq!(config.limits[0].failure_mode, FailureMode::Deny);
}

#[test]
fn a_shadow_never_denies_even_when_redis_is_down() {
    let whole = parsed(&with(json!({"failure_mode": "deny", "shadow_mode": true})));
    let one = parsed(&with_limit(json!({"failure_mode": "deny", "shadow_mode": true})));
    for config in [whole, one] {
        assert_eq!((config.limits[0].shadow_mode, config.limits[0].failure_mode), (true, FailureMode::Allow));
    }
}

#[test]
fn keys_start_with_the_prefix_and_the_limits_name() {
    struct Anything;
    impl Attributes for Anything {
        fn header(&self, _: &str) -> Option<Vec<u8>> {
            None
        }
        fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
            None
        }
    }
    let config = parsed(&full());
    assert_eq!(config.limits[1].descriptor.bucket_key(&Anything), Some(b"shop:all:".to_vec()));
}

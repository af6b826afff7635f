//! Tests of charges, their estimates, and prices.

use serde_json::{Value, json};

use super::{errors, full, limit, merge, parsed, with};
use crate::config::{Config, IncludeUsage, UsageConfig};
use crate::descriptor::{JsonPointer, Source};
use crate::limit::{
    Charge, Charged, Fallback, InputEstimate, NearLimit, OnLost, OutputEstimate, Reserve, Weights, WhenShort,
};
use crate::units::{Micros, Tokens};
use crate::usage::{ModelPrice, Price, Prices, Rates, TierFactor, UnknownModel};

/// Configuration of one limit, with `fields` in place of its token bucket, and with the `usage` section.
fn charging(fields: Value, usage: Value) -> Value {
    let mut limit = limit();
    limit.as_object_mut().unwrap().remove("token_bucket");
    merge(&mut limit, fields);
    with(json!({"limits": [limit], "usage": usage}))
}

fn tokens(fields: Value) -> Value {
    let mut limit = json!({"charge": "total_tokens", "fixed_window": {"max_tokens": 1_000_000, "window": "60s"}});
    merge(&mut limit, fields);
    charging(limit, json!({}))
}

fn charge(config: &Config, name: &str) -> Charge {
    *config.limits.iter().find(|limit| limit.name == name).unwrap().charge.clone().unwrap()
}

fn pointer(text: &str) -> JsonPointer {
    JsonPointer::parse(text).unwrap()
}

#[test]
fn a_charge_has_defaults() {
    let config = parsed(&tokens(json!({})));
    let maxima = [
        "/max_completion_tokens",
        "/max_tokens",
        "/max_output_tokens",
        "/generationConfig/maxOutputTokens",
        "/inferenceConfig/maxTokens",
    ];
    let expected = Charge {
        of: Charged::Tokens(Weights::all(1_000, 1_000)),
        reserve: Some(Reserve {
            input: InputEstimate::Bytes { per_token: 3, per_image: 1_600, plus: 0 },
            output: OutputEstimate {
                pointers: maxima.map(pointer).to_vec(),
                default: 2_048,
                max: 32_000,
                times: Some(pointer("/n")),
                enforce: false,
            },
        }),
        when_short: WhenShort::Deny,
        lease: Micros::from_secs(60),
        on_lost: OnLost::Estimate,
        on_missing_usage: Fallback::Estimate,
        on_disconnect: Fallback::Seen,
        soft_limit: None,
    };
    assert_eq!(charge(&config, "per_user"), expected);
    assert_eq!(config.usage.as_deref(), Some(&UsageConfig::default()));
    // The maxima, their number, and the model.
    assert_eq!((config.body.pointers().len(), config.body.of_charges()), (7, 0b111_1111));
    assert_eq!(parsed(&with(json!({}))).usage, None, "no limit has a charge");
    let post_paid = parsed(&tokens(json!({"reserve": "none"})));
    assert_eq!(charge(&post_paid, "per_user"), Charge { reserve: None, ..expected });
}

#[test]
fn each_field_of_a_charge_is_read() {
    let config = parsed(&full());
    let expected = Charge {
        of: Charged::Tokens(Weights {
            input: 2_000,
            cache_read: 100,
            cache_write: 1_250,
            cache_write_1h: 3_000,
            output: 4_000,
        }),
        reserve: Some(Reserve {
            input: InputEstimate::Bytes { per_token: 1, per_image: 85, plus: 200 },
            output: OutputEstimate {
                pointers: vec![pointer("/limit")],
                default: 100,
                max: 4_096,
                times: Some(pointer("/best_of")),
                enforce: true,
            },
        }),
        when_short: WhenShort::TakeRest,
        lease: Micros::from_secs(30),
        on_lost: OnLost::Input,
        on_missing_usage: Fallback::Seen,
        on_disconnect: Fallback::Zero,
        soft_limit: NearLimit::new(0.75),
    };
    assert_eq!(charge(&config, "tokens"), expected);
    let money = charge(&config, "money");
    assert_eq!((money.of, money.reserve.unwrap().input), (Charged::Cost, InputEstimate::Constant(50)));
    let limits: Vec<u64> =
        config.limits.iter().map(|limit| limit.windows.algorithms().next().unwrap().limit().0).collect();
    assert_eq!(limits[3..], [1_000_000_000_000, 500_250_000_000]);
    let usage = *config.usage.unwrap();
    let micros = |[input, cached_input, cache_write, cache_write_1h, output]: [u64; 5]| Rates {
        input: Price(input),
        cached_input: Price(cached_input),
        cache_write: Price(cache_write),
        cache_write_1h: Price(cache_write_1h),
        output: Price(output),
    };
    let models = vec![
        ModelPrice {
            name: "gpt-4o-mini".into(),
            is_exact: true,
            rates: micros([150_000, 75_000, 150_000, 150_000, 600_000]),
            above: None,
        },
        ModelPrice {
            name: "claude-sonnet-".into(),
            is_exact: false,
            rates: micros([3_000_000, 300_000, 3_750_000, 6_000_000, 15_000_000]),
            above: Some((200_000, micros([6_000_000, 6_000_000, 6_000_000, 6_000_000, 22_500_000]))),
        },
    ];
    let tiers = vec![TierFactor { tier: "flex".into(), thousandths: 500 }];
    assert_eq!(usage.prices.as_deref(), Some(&Prices { models, tiers, unknown: UnknownModel::Dearest }));
    assert_eq!((usage.include_usage, usage.strip_accept_encoding), (IncludeUsage::Inject, false));
    assert_eq!((usage.model, usage.when.unwrap().len()), (Source::RequestBody(pointer("/engine")), 1));
    assert!(config.events.unwrap().usage);
}

#[test]
fn weights_follow_from_each_other() {
    let of = |weights: Value| charge(&parsed(&tokens(json!({"charge": {"weights": weights}}))), "per_user").of;
    assert_eq!(of(json!({})), Charged::Tokens(Weights::all(1_000, 1_000)));
    assert_eq!(of(json!({"input": 0.001, "output": "0"})), Charged::Tokens(Weights::all(1, 0)));
    let written = Weights { cache_write: 1_250, cache_write_1h: 1_250, ..Weights::all(1_000, 1_000) };
    assert_eq!(of(json!({"cache_write": 1.25})), Charged::Tokens(written));
}

#[test]
fn a_charge_refuses_what_it_cannot_be_beside() {
    let bucket = json!({"max_tokens": 5_000, "fill_interval": "1s"});
    let quota = json!({"max_usd": 5, "unit": "day"});
    for (fields, expected) in [
        (json!({"hits_addend": 1}), "hits_addend: expected nothing beside charge"),
        (json!({"lease": {"max": 5}}), "lease: expected nothing beside charge"),
        (json!({"max_delay": "1s"}), "max_delay: expected nothing beside charge"),
        (json!({"fixed_window": {"max_usd": 1, "window": "60s"}}), "charge: expected charge: cost beside max_usd"),
        (json!({"charge": "cost"}), "charge: expected max_usd beside charge: cost"),
        (json!({"charge": "tokens"}), "charge: expected \"total_tokens\" or"),
        (json!({"charge": {"weights": {"input": 0.0001}}}), "input: expected a number from 0 to 1000"),
        (json!({"reserve": "some"}), "reserve: expected \"none\" or an object"),
        (json!({"reserve": {"output": {"max": 10, "default": 11}}}), "default: expected an integer from 0 to 10"),
        (
            json!({"reserve": {"output": {"json_pointers": ["/a/b"], "enforce": true}}}),
            "output: expected a first json_pointer to a member",
        ),
        (json!({"fixed_window": {"max_tokens": 2_047, "window": "60s"}}), "charge: expected a reserve.output.default"),
        (
            json!({"fixed_window": {"max_usd": 9_007_200, "window": "1s"}}),
            "max_usd: expected dollars from 0 to 9007199",
        ),
        (json!({"fixed_window": {"max_usd": 0.000_000_1, "window": "1s"}}), "max_usd: expected dollars"),
    ] {
        let found = errors(&tokens(fields.clone()));
        assert!(found.starts_with("limits[0].") && found.contains(expected), "{fields}: {found}");
    }
    for (fields, expected) in [
        (json!({"charge": "cost", "token_bucket": bucket}), "beside charge: cost"),
        (json!({"charge": "total_tokens", "concurrency": {"max_requests": 5_000}}), "token_bucket, fixed_window"),
        (
            json!({"charge": "total_tokens", "sliding_window": {"max_requests": 5_000, "window": "1s", "mode": "exact"}}),
            "token_bucket, fixed_window, approximate sliding_window or quota",
        ),
        (
            json!({"charge": "total_tokens", "token_bucket": {"fill_interval": "1s",
                "max_tokens": {"filter_state": {"key": "a", "default": 5_000, "max": 6_000}}}}),
            "no numbers of requests beside charge",
        ),
        (
            json!({"charge": "cost", "windows": [{"quota": quota}, {"fixed_window": {"max_tokens": 5_000, "window": "1s"}}]}),
            "max_usd beside charge: cost",
        ),
        (json!({"quota": quota}), "quota: expected a charge beside max_usd and max_tokens"),
        (json!({"quota": {"max_tokens": 5, "unit": "day"}}), "quota: expected a charge beside max_usd and max_tokens"),
        (json!({"token_bucket": bucket, "on_disconnect": "zero"}), "on_disconnect: expected charge beside it"),
        (json!({"token_bucket": bucket, "reserve": "none"}), "reserve: expected charge beside it"),
        (json!({"charge": "cost", "quota": quota}), "limits: expected usage.prices beside charge: cost"),
    ] {
        let found = errors(&charging(fields.clone(), json!({})));
        assert!(found.contains(expected), "{fields}: {found}");
    }
    // A blocked key may have no room for a single request.
    parsed(&tokens(json!({"fixed_window": {"max_tokens": 0, "window": "60s"}})));
}

#[test]
fn prices_are_refused_with_their_paths() {
    let model = json!({"exact": "a"});
    for (usage, expected) in [
        (json!({"prices": []}), "usage.prices: expected a list of 1 to 256 items"),
        (json!({"prices": [{"input": 1}]}), "usage.prices[0].model: expected a name"),
        (json!({"prices": [{"model": model}]}), "usage.prices[0].input: expected dollars for a million tokens"),
        (json!({"prices": [{"model": model, "input": 0.000_000_1}]}), "input: expected dollars from 0 to 1099511"),
        (json!({"prices": [{"model": model, "input": -1}]}), "input: expected dollars from 0 to 1099511"),
        (
            json!({"prices": [{"model": model, "input": 1}, {"model": model, "input": 2}]}),
            "usage.prices[1]: expected each one only once",
        ),
        (json!({"service_tiers": [{"tier": "flex", "factor": 0}]}), "factor: expected a factor from 0.001"),
        (json!({"unknown_model": "free"}), "usage.unknown_model: expected \"reject\" or \"dearest\""),
        (json!({"model": {"path": {"exact": "/a"}}}), "usage.model.path.exact: unknown field"),
    ] {
        let found = errors(&with(json!({"usage": usage})));
        assert!(found.contains(expected), "{usage}: {found}");
    }
}

#[test]
fn formats_are_refused_with_their_paths() {
    for (format, expected) in [
        (json!("openrouter"), "usage.format: expected a format such as \"auto\", or an object such as {pointers:"),
        (json!({}), "usage.format: expected an object with exactly one of pointers, headers"),
        (json!({"pointers": {}}), "usage.format.pointers: expected input, output or total, found an empty object"),
        (json!({"pointers": {"cache_read": ["/a"]}}), "usage.format.pointers: expected input, output or total"),
        (json!({"pointers": {"input": "/a"}}), "usage.format.pointers.input: expected a list of 1 to 4 items"),
        (json!({"pointers": {"input": ["a"]}}), "input[0]: expected a JSON pointer such as"),
        (json!({"pointers": {"input": [""]}}), "input[0]: expected a JSON pointer of 1 to 8 steps"),
        (json!({"pointers": {"input": ["/1/2/3/4/5/6/7/8/9"]}}), "input[0]: expected a JSON pointer of 1 to 8 steps"),
        (
            json!({"pointers": {"input": ["/a"], "output": ["/a/b"]}}),
            "expected places of which none is or contains another",
        ),
        (
            json!({"pointers": {"input": ["/a"], "output": ["/a"]}}),
            "expected places of which none is or contains another",
        ),
        (
            json!({"pointers": {"input": ["/a"], "inside": ["output"]}}),
            "inside[0]: expected \"cache_read\" or \"cache_write\"",
        ),
        (json!({"pointers": {"prompt": ["/a"]}}), "usage.format.pointers.prompt: unknown field"),
        (json!({"headers": {"input": "a b"}}), "usage.format.headers.input: expected a header's name"),
        (json!({"headers": {"input": ["x-in"]}}), "usage.format.headers.input: expected a header's name"),
    ] {
        let found = errors(&with(json!({"usage": {"format": format}})));
        assert!(found.contains(expected), "{format}: {found}");
    }
    assert!(errors(&with(json!({"usage": {"provider_cost": "trust"}}))).contains("expected \"ignore\" or \"prefer\""));
    assert!(
        errors(&with(json!({"usage": {"model": {"path": {}}}})))
            .contains("model.path.template: expected a path template")
    );
}

#[test]
fn a_default_of_money_must_fit_at_the_dearest_model() {
    let of = |default: u64, max_usd: f64, unknown: &str| {
        charging(
            json!({"charge": "cost", "quota": {"max_usd": max_usd, "unit": "day"}, "reserve": {"output": {"default": default}}}),
            json!({"unknown_model": unknown, "prices": [
                {"model": {"prefix": "cheap"}, "input": 1, "output": 1},
                {"model": {"prefix": "dear"}, "input": 1, "output": 100}]}),
        )
    };
    for unknown in ["reject", "dearest"] {
        parsed(&of(1_000, 0.1, unknown));
        parsed(&of(1_001, 0.0, unknown));
        let found = errors(&of(1_001, 0.1, unknown));
        let expected =
            "limits[0]: expected a reserve.output.default whose cost at the dearest model is at most the limit";
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_ledger_needs_one_redis() {
    let cluster = json!({"redis": {"cluster": "redis", "topology": "cluster"}, "events": {"usage": true}});
    assert!(errors(&with(cluster)).contains("events.usage: expected false with redis.topology: cluster"));
}

#[test]
fn a_charge_is_never_decided_by_shares() {
    let mut whole = tokens(json!({}));
    merge(&mut whole, json!({"failure_mode": "local"}));
    let config = parsed(&whole);
    assert_eq!((config.limits[0].failure_mode, config.local), (crate::limit::FailureMode::Deny, None));
    assert_eq!(config.limits[0].hits_addend, crate::descriptor::HitsAddend::Constant(Tokens(1)));
}

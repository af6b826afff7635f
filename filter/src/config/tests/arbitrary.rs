//! Tests of arbitrary bytes and values in place of a configuration.

use proptest::prelude::*;
use serde_json::Value;

use super::super::parse;
use super::{env, full};

/// Any JSON of a modest size, with names of fields and with arbitrary text.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("name"),
        Just("env"),
        Just("exact"),
        Just("present"),
        Just("not"),
        Just("path"),
        Just("header"),
        Just("request_header"),
        Just("any"),
        Just("regex"),
        Just("cidrs"),
        Just("default"),
        Just("cookie"),
        Just("template"),
        Just("(a|b)*"),
        Just("10.0.0.0/8"),
        Just("60s"),
        Just("GET"),
        Just("/a"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Collects the places of a value, as JSON pointers.
pub(super) fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| places(field, &format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = parse(&bytes, &env);
    }

    #[test]
    fn an_arbitrary_value_at_any_place_is_read_or_refused(place: proptest::sample::Index, value in any_json()) {
        let mut config = full();
        let mut all = Vec::new();
        places(&config, "", &mut all);
        *config.pointer_mut(place.get::<String>(&all)).unwrap() = value;
        if let Err(errors) = parse(config.to_string().as_bytes(), &env) {
            prop_assert!(errors.iter().all(|error| !error.path.is_empty()));
            prop_assert!(errors.to_string().lines().count() == errors.iter().count(), "one per line: {}", errors);
            prop_assert!(errors.iter().all(|error| error.to_string().len() < 700), "bounded: {}", errors);
        }
    }
}

//! The page of the configuration has every field that the filter reads, and no other; and the defaults, bounds and
//! values in its tables are those of the filter.
//!
//! The headings of the page name objects of the configuration, such as `` `limits[].token_bucket` ``. Below each is a
//! table of its fields: name, type, default, bounds, meaning.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weir_filter::config::{self, Config, ConfigErrors, Expected, Problem};

use crate::page::{Page, Row, code, codes};

const PAGE: &str = "docs/src/configuration.md";
const UNKNOWN: &str = "nonsense";

/// An object of the configuration: the heading of its section, its place in a configuration, and that configuration,
/// which has no fields beyond the required ones there.
struct Object {
    heading: &'static str,
    pointer: &'static str,
    configuration: Value,
}

fn objects() -> Vec<Object> {
    let object =
        |heading, pointer, limit: Value| Object { heading, pointer, configuration: with(json!({"limits": [limit]})) };
    let section = |heading, pointer, more| Object { heading, pointer, configuration: with(more) };
    let metadata_key = json!({"key": "a", "path": [{"key": "b"}]});
    let window = json!({"max_requests": 1, "window": "60s"});
    let price = json!({"model": {"exact": "a"}, "input": 1});
    vec![
        section("configuration", "", json!({})),
        section("redis", "/redis", json!({})),
        object("limits[]", "/limits/0", json!({})),
        object(
            "limits[].token_bucket",
            "/limits/0/token_bucket",
            json!({"token_bucket": {"max_tokens": 1, "fill_interval": "0.001s"}}),
        ),
        object(
            "limits[].token_bucket.max_tokens.request_header",
            "/limits/0/token_bucket/max_tokens/request_header",
            carried(json!({"request_header": {"name": "x-limit", "default": 1, "max": 5}})),
        ),
        object("limits[].sliding_window", "/limits/0/sliding_window", json!({"sliding_window": window})),
        object("limits[].fixed_window", "/limits/0/fixed_window", json!({"fixed_window": window})),
        object("limits[].quota", "/limits/0/quota", json!({"quota": {"max_requests": 1, "unit": "month"}})),
        object("limits[].concurrency", "/limits/0/concurrency", json!({"concurrency": {"max_requests": 1}})),
        object("limits[].lease", "/limits/0/lease", json!({"lease": {"max": 10}})),
        object(
            "limits[].hits_addend.request_header",
            "/limits/0/hits_addend/request_header",
            json!({"hits_addend": {"request_header": {"name": "x-cost"}}}),
        ),
        object("metadata_key", "/limits/0/descriptor/0/dynamic_metadata/metadata_key", metadata(&metadata_key)),
        object(
            "metadata_key.path[]",
            "/limits/0/descriptor/0/dynamic_metadata/metadata_key/path/0",
            metadata(&metadata_key),
        ),
        object("limits[].charge.weights", "/limits/0/charge/weights", charging(json!({"charge": {"weights": {}}}))),
        object("limits[].reserve", "/limits/0/reserve", charging(json!({"reserve": {}}))),
        object("limits[].reserve.output", "/limits/0/reserve/output", charging(json!({"reserve": {"output": {}}}))),
        object(
            "limits[].reserve.input.request_body_bytes",
            "/limits/0/reserve/input/request_body_bytes",
            charging(json!({"reserve": {"input": {"request_body_bytes": {}}}})),
        ),
        section("usage", "/usage", json!({"usage": {}})),
        section(
            "usage.format.pointers",
            "/usage/format/pointers",
            json!({"usage": {"format": {"pointers": {"input": ["/a"]}}}}),
        ),
        section(
            "usage.format.headers",
            "/usage/format/headers",
            json!({"usage": {"format": {"headers": {"input": "x-a"}}}}),
        ),
        section("usage.prices[]", "/usage/prices/0", json!({"usage": {"prices": [price]}})),
        section(
            "usage.prices[].above",
            "/usage/prices/0/above",
            json!({"usage": {"prices": [{
            "model": {"exact": "a"}, "input": 1, "above": {"input_tokens": 5, "input": 2}}]}}),
        ),
        section(
            "usage.service_tiers[]",
            "/usage/service_tiers/0",
            json!({"usage": {"service_tiers": [{"tier": "flex", "factor": 0.5}]}}),
        ),
        section("response", "/response", json!({"response": {}})),
        section("request_body", "/request_body", json!({"request_body": {}})),
        section("overrides", "/overrides", json!({"overrides": {}})),
        section("events", "/events", json!({"events": {}})),
        section("deny_cache", "/deny_cache", json!({"deny_cache": {}})),
        section("local", "/local", json!({"failure_mode": "local", "local": {}})),
        section("heal", "/heal", json!({"heal": {}})),
    ]
}

/// Fields of a limit with a charge, and more.
fn charging(more: Value) -> Value {
    let mut fields = json!({"charge": "total_tokens", "token_bucket": {"max_tokens": u32::MAX, "fill_interval": "1s"}});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

/// Fields of a limit whose capacity requests carry.
fn carried(number: Value) -> Value {
    json!({"token_bucket": {"max_tokens": number, "fill_interval": "60s"}})
}

fn metadata(metadata_key: &Value) -> Value {
    json!({"descriptor": [{"dynamic_metadata": {"metadata_key": metadata_key}}]})
}

/// Objects with exactly one field, the name of a kind: the heading, the place, and a configuration that has one.
fn kinds() -> Vec<Object> {
    let object = |heading, pointer, limit| Object { heading, pointer, configuration: with(json!({"limits": [limit]})) };
    let password = json!({"redis": {"cluster": "redis", "password": {"inline": "a"}}});
    let hash_key = json!({"hash_key": {"inline": "0123456789abcdef"}});
    let windows = json!([{"fixed_window": {"max_requests": 1, "window": "60s"}}]);
    vec![
        Object { heading: "redis.password", pointer: "/redis/password", configuration: with(password) },
        Object { heading: "hash_key", pointer: "/hash_key", configuration: with(hash_key) },
        object("limits[].windows[]", "/limits/0/windows/0", json!({ "windows": windows })),
        object("limits[].descriptor[]", "/limits/0/descriptor/0", json!({"descriptor": [{"method": {}}]})),
        object("limits[].when[]", "/limits/0/when/0", json!({"when": [{"method": "GET"}]})),
        object("limits[].exempt[]", "/limits/0/exempt/0", json!({"exempt": [{"method": "GET"}]})),
        object(
            "limits[].token_bucket.max_tokens",
            "/limits/0/token_bucket/max_tokens",
            carried(json!({"filter_state": {"key": "a", "default": 1, "max": 5}})),
        ),
        object("limits[].on_exceed", "/limits/0/on_exceed", json!({"on_exceed": {"mark": {"name": "x-over"}}})),
        object("limits[].charge", "/limits/0/charge", charging(json!({"charge": {"weights": {}}}))),
        object(
            "limits[].reserve.input",
            "/limits/0/reserve/input",
            charging(json!({"reserve": {"input": {"request_body_bytes": {}}}})),
        ),
        Object {
            heading: "usage.format",
            pointer: "/usage/format",
            configuration: with(json!({"usage": {"format": {"headers": {"input": "x-a"}}}})),
        },
        Object {
            heading: "usage.model",
            pointer: "/usage/model",
            configuration: with(json!({"usage": {"model": {"request_body": {"json_pointer": "/model"}}}})),
        },
        object("limits[].hits_addend", "/limits/0/hits_addend", json!({"hits_addend": {"content_length": {}}})),
    ]
}

/// A configuration with these fields, and with what else is required. A limit among them has a token bucket, unless it
/// admits otherwise.
fn with(more: Value) -> Value {
    let mut configuration = json!({"redis": {"cluster": "redis"}, "limits": [{}]});
    configuration.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let limit = configuration["limits"][0].as_object_mut().unwrap();
    limit.entry("name").or_insert(json!("a_limit"));
    limit.entry("descriptor").or_insert(json!([]));
    let ways = ["token_bucket", "sliding_window", "fixed_window", "quota", "concurrency", "windows"];
    if !ways.iter().any(|way| limit.contains_key(*way)) {
        limit.insert("token_bucket".into(), json!({"max_tokens": 20, "fill_interval": "60s"}));
    }
    configuration
}

fn parse(configuration: &Value) -> Result<Config, ConfigErrors> {
    config::parse(configuration.to_string().as_bytes(), &|_| Some("a password or a key".to_owned()))
}

/// The fields that the filter would read at a place where it found an unknown one.
fn known(configuration: &Value) -> BTreeSet<&'static str> {
    let errors = parse(configuration).expect_err("an unknown field is an error");
    let unknown = errors.iter().find_map(|error| match &error.problem {
        Problem::UnknownField { known, .. } => Some(*known),
        _ => None,
    });
    // Of an object whose names may be secrets, the error does not say that the name is unknown.
    let known = unknown.or_else(|| {
        errors.iter().find_map(|error| match &error.problem {
            Problem::Unexpected { expected: Expected::OneField(known), .. } => Some(*known),
            _ => None,
        })
    });
    known.unwrap_or_else(|| panic!("no unknown field in {configuration}: {errors}")).iter().copied().collect()
}

impl Object {
    /// Its configuration with another value at its place.
    fn with(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut configuration = self.configuration.clone();
        change(configuration.pointer_mut(self.pointer).expect("the object is there"));
        configuration
    }

    fn with_field(&self, name: &str, value: Value) -> Result<Config, ConfigErrors> {
        parse(&self.with(|object| drop(object.as_object_mut().unwrap().insert(name.to_owned(), value))))
    }

    fn without(&self, name: &str) -> Result<Config, ConfigErrors> {
        parse(&self.with(|object| drop(object.as_object_mut().unwrap().remove(name))))
    }
}

/// The rows of each section whose heading is code.
fn sections(page: &Page) -> BTreeMap<&str, Vec<Row<'_>>> {
    let mut sections: BTreeMap<&str, Vec<Row<'_>>> = BTreeMap::new();
    for row in page.rows().into_iter().filter(|row| row.cells.first().is_some_and(|cell| code(cell).is_some())) {
        if let Some(heading) = code(row.heading) {
            sections.entry(heading).or_default().push(row);
        }
    }
    sections
}

fn names<'a>(rows: &'a [Row<'_>]) -> BTreeSet<&'a str> {
    rows.iter().filter_map(|row| code(row.cells[0])).collect()
}

#[test]
fn every_field_is_documented_and_no_other() {
    let page = Page::read(PAGE);
    let mut sections = sections(&page);
    for object in objects() {
        parse(&object.configuration).unwrap_or_else(|errors| panic!("{}: {errors}", object.heading));
        let known = known(&object.with(|it| it[UNKNOWN] = json!(1)));
        let rows = sections.remove(object.heading).unwrap_or_default();
        assert_eq!(names(&rows), known, "{PAGE}, section `{}`", object.heading);
    }
    for object in kinds() {
        let known = known(&object.with(|it| *it = json!({ UNKNOWN: {} })));
        let rows = sections.remove(object.heading).unwrap_or_default();
        assert_eq!(names(&rows), known, "{PAGE}, section `{}`", object.heading);
        for row in rows.iter().filter(|row| row.cells[1].starts_with('`')) {
            let kind = code(row.cells[0]).unwrap();
            let fields = self::known(&object.with(|it| *it = json!({ kind: { UNKNOWN: {}, "also": {} } })));
            assert_eq!(codes(row.cells[1]).collect::<BTreeSet<_>>(), fields, "{PAGE}, `{kind}`");
        }
    }
    assert!(sections.is_empty(), "{PAGE} has sections of unknown objects: {:?}", sections.keys());
}

#[test]
fn defaults_are_the_filters() {
    let page = Page::read(PAGE);
    let sections = sections(&page);
    let mut checked = 0;
    for object in objects() {
        for row in sections.get(object.heading).into_iter().flatten() {
            let (name, cell) = (code(row.cells[0]).unwrap(), row.cells[2]);
            let place = format!("{PAGE}, section `{}`, field `{name}`", object.heading);
            if cell == "required" {
                assert!(object.without(name).is_err(), "{place} is not required");
            } else if !cell.starts_with("one of ") {
                object.without(name).unwrap_or_else(|errors| panic!("{place} is required: {errors}"));
            }
            if let Some(default) = code(cell) {
                checked += 1;
                let default: Value = serde_saphyr::from_str(default).unwrap();
                assert_eq!(object.with_field(name, default), object.without(name), "{place}: the default");
            }
        }
    }
    assert!(checked >= 25, "only {checked} defaults found");
}

#[test]
fn bounds_are_the_filters() {
    let page = Page::read(PAGE);
    let sections = sections(&page);
    let mut checked = 0;
    for object in objects() {
        for row in sections.get(object.heading).into_iter().flatten() {
            let name = code(row.cells[0]).unwrap();
            let place = format!("{PAGE}, section `{}`, field `{name}`", object.heading);
            let [least, most] = codes(row.cells[3]).collect::<Vec<_>>()[..] else { continue };
            let Some([below, least, most, above]) = around(least, most, row.cells[3].ends_with("bytes")) else {
                continue;
            };
            checked += 1;
            for (value, is_allowed) in [(below, false), (least, true), (most, true), (above, false)] {
                let Some(value) = value else { continue };
                let parsed = object.with_field(name, value.clone());
                assert_eq!(parsed.is_ok(), is_allowed, "{place}, value {value}: {:?}", parsed.err());
            }
        }
    }
    assert!(checked >= 20, "only {checked} bounds found");
}

/// Values just below the bounds, at both bounds, and just above: integers, durations, or texts of this length.
fn around(least: &str, most: &str, is_length: bool) -> Option<[Option<Value>; 4]> {
    let duration = |text: &str| text.strip_suffix('s')?.parse::<f64>().ok().map(|seconds| (seconds * 1e6) as u64);
    let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
    let (value, [least, most]): (fn(u64) -> Value, _) = match (duration(least), duration(most)) {
        (Some(least), Some(most)) => {
            (|micros| json!(format!("{}.{:06}s", micros / 1_000_000, micros % 1_000_000)), [least, most])
        }
        _ if is_length => (|len| json!("x".repeat(len as usize)), [number(least)?, number(most)?]),
        _ => (|number| json!(number), [number(least)?, number(most)?]),
    };
    Some([least.checked_sub(1).map(value), Some(value(least)), Some(value(most)), Some(value(most + 1))])
}

/// A type that lists values lists all of them.
#[test]
fn values_are_the_filters() {
    let page = Page::read(PAGE);
    let sections = sections(&page);
    let mut checked = 0;
    for object in objects() {
        for row in sections.get(object.heading).into_iter().flatten() {
            let (name, documented) = (code(row.cells[0]).unwrap(), codes(row.cells[1]).collect::<BTreeSet<_>>());
            let Err(errors) = object.with_field(name, json!(UNKNOWN)) else { continue };
            let values = errors.iter().find_map(|error| match &error.problem {
                Problem::Unexpected { expected: Expected::OneOf(values), .. } => Some(values.clone()),
                _ => None,
            });
            if let Some(values) = values {
                checked += 1;
                let values = BTreeSet::from_iter(values);
                assert_eq!(documented, values, "{PAGE}, section `{}`, field `{name}`", object.heading);
            }
        }
    }
    assert!(checked >= 7, "only {checked} fields with fixed values found");
}

//! Keys that Envoy reads in other ways than their author may think: merge keys, and keys that are there more than once.

use std::collections::HashSet;

use super::{sources, types};
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Format, Value, camel_case};

/// Fields whose keys are the file's: protobuf's maps.
const MAPS: [&str; 5] = [
    "typed_per_filter_config",
    "typed_extension_protocol_options",
    "filter_metadata",
    "typed_filter_metadata",
    "key_values",
];
/// Fields that exclude others of their message: members of a `oneof`, which protobuf's JSON sets only once.
const EXCLUSIVE: [&str; 22] = [
    "combined_validation_context",
    "connect_matcher",
    "contains",
    "direct_response",
    "environment_variable",
    "exact",
    "explicit_http_config",
    "grpc_health_check",
    "http_health_check",
    "inline_bytes",
    "inline_string",
    "json_format",
    "path_config_source",
    "path_separated_prefix",
    "rds",
    "redirect",
    "safe_regex",
    "socket_address",
    "suffix",
    "tcp_health_check",
    "text_format_source",
    "vm_config",
];

/// Adds the findings about a value, and about all values in it. `frozen` is the path of the `Struct` around the value,
/// whose keys may be misplaced secrets: no path shows them.
pub(super) fn findings(at: &At<'_>, frozen: Option<&str>, found: &mut Vec<Finding>) {
    let entries: Vec<_> = at.entries().collect();
    let path = frozen.unwrap_or(&at.path);
    let finding = |rule, key: &At<'_>, expected: &str, shown: &str, help: &str| Finding {
        position: key.key,
        path: path.to_owned(),
        ..Finding::at(rule, at, expected, shown, help)
    };
    if frozen.is_none() {
        found.extend(types::findings(at));
    }
    let mut known = HashSet::new();
    for (key, value) in &entries {
        found.extend(sources::finding(key, value).filter(|_| frozen.is_none()));
        if !known.insert(*key) {
            let (rule, help) = repeated(at, key, value, frozen);
            found.push(finding(rule, value, "each key once", "the same key again", help));
        }
        let camel = camel_case(key);
        let around = at.path.rsplit('.').next().unwrap_or_default();
        if camel != *key && frozen.is_none() && !is_one_of(&MAPS, around) && at.spelled(&camel).is_some() {
            let help = "remove one of them: of two spellings, Envoy takes one by chance, or refuses both";
            let shown = format!("{camel} as well");
            found.push(finding(rules::DUPLICATE_KEY, value, "each field once", &shown, help));
        }
        // In a Struct, any key is a field.
        if *key == "<<" && frozen.is_none() {
            let help = "write the fields out, or use an alias for the whole value: Envoy refuses the field \"<<\"";
            found.push(finding(rules::MERGE_KEY, value, "fields", "a merge key", help));
        }
        let is_struct = at.field("@type").is_some_and(|at| at.text().is_some_and(|text| text.ends_with(".Struct")));
        // The message `Metadata` has typed fields beside the free ones; the metadata of a node is free.
        let is_typed = value.field("typed_filter_metadata").is_some();
        let is_free =
            is_struct || matches!(*key, "filter_metadata" | "filterMetadata") || (*key == "metadata" && !is_typed);
        let below = value.path.clone();
        findings(value, frozen.or(is_free.then_some(&below)), found);
    }
    if !at.is_object() {
        at.children().iter().for_each(|at| findings(at, frozen, found));
    }
}

/// Whether a key is one of these fields, in snake case or in camel case.
fn is_one_of(names: &[&str], key: &str) -> bool {
    names.iter().any(|name| *name == key || camel_case(name) == key)
}

/// The rule and the help for a key that is there again. (Envoy 1.36 and 1.40 were observed.)
fn repeated(at: &At<'_>, key: &str, value: &At<'_>, frozen: Option<&str>) -> (rules::Rule, &'static str) {
    let is_json = Format::of(&at.document.origin) == Format::Json;
    let around = at.path.rsplit('.').next().unwrap_or_default();
    let is_free = frozen.is_some_and(|path| !path.is_empty());
    match value.node.value {
        _ if !is_json => (rules::DUPLICATE_KEY, "remove all but one: Envoy takes the last one of YAML without a word"),
        _ if is_free || key == "@type" || is_one_of(&MAPS, around) || is_one_of(&EXCLUSIVE, key) => {
            (rules::REPEATED_KEY, "remove all but one: Envoy refuses JSON with this key twice")
        }
        Value::List(_) | Value::Map(_) => (
            rules::DUPLICATE_KEY,
            "write one list or object: Envoy joins those of JSON, and only the last is checked here",
        ),
        _ => (rules::DUPLICATE_KEY, "remove all but one: Envoy takes the last one without a word"),
    }
}

//! Types of messages: names that Envoy does not have, and messages without a type.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, TYPED_STRUCTS, quoted};
use crate::spelling::nearest;

/// Messages of Envoy 1.36 to 1.40 that a file can name: in each line a package, and the messages in it.
const MESSAGES: &str = include_str!("messages.txt");
/// Messages of protobuf that files of Envoy name.
const PROTOBUF: [&str; 9] = [
    "google.protobuf.Struct",
    "google.protobuf.StringValue",
    "google.protobuf.BytesValue",
    "google.protobuf.BoolValue",
    "google.protobuf.Value",
    "google.protobuf.ListValue",
    "google.protobuf.Empty",
    "google.protobuf.Duration",
    "google.protobuf.Any",
];
/// Fields whose value is a message of any type.
const ANY: [&str; 2] = ["typed_config", "typedConfig"];
/// Fields whose values are messages of any type, each under a key of the file.
const MAPS_OF_ANY: [&str; 6] = [
    "typed_per_filter_config",
    "typedPerFilterConfig",
    "typed_extension_protocol_options",
    "typedExtensionProtocolOptions",
    "typed_filter_metadata",
    "typedFilterMetadata",
];

/// Results of [`similar`].
static KNOWN: Mutex<BTreeMap<String, Option<String>>> = Mutex::new(BTreeMap::new());

/// Names of [`MESSAGES`].
static NAMES: LazyLock<BTreeSet<String>> =
    LazyLock::new(|| messages().map(|(package, message)| format!("{package}.{message}")).collect());

/// Findings about the types that an object names, and about the messages of any type in its fields that name none.
pub(super) fn findings(at: &At<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        at.field("@type").and_then(|url| host(&url).or_else(|| name(&url))).into_iter().collect();
    let is_wrapper = at.text_of("@type").rsplit('/').next().is_some_and(|name| TYPED_STRUCTS.contains(&name));
    // The URL in a `TypedStruct` needs no host.
    found.extend(at.field("type_url").filter(|_| is_wrapper).and_then(|url| name(&url)));
    for (key, value) in at.entries() {
        if ANY.contains(&key) {
            found.extend(untyped(&value));
        } else if MAPS_OF_ANY.contains(&key) {
            found.extend(value.entries().filter_map(|(_, value)| untyped(&value)));
        } else if key == "resources" && at.is_root() {
            found.extend(value.items().iter().filter_map(untyped));
        }
    }
    found
}

/// Finding about a message of any type, with fields and without a type. An extension inside another one has a name and a
/// message of its own in a field of the same name.
fn untyped(at: &At<'_>) -> Option<Finding> {
    if ANY.iter().any(|name| at.field(name).is_some()) {
        return None;
    }
    (at.entries().next().is_some() && at.field("@type").is_none()).then(|| {
        let help = "add \"@type\" with the name of the message; Envoy refuses fields without it";
        Finding::at(rules::TYPE, at, "\"@type\" beside the fields", "none", help)
    })
}

/// Finding about a URL of a type without a host.
fn host(at: &At<'_>) -> Option<Finding> {
    let url = at.text()?;
    url.rsplit_once('/').is_none_or(|(host, _)| host.is_empty()).then(|| {
        let help = "write type.googleapis.com/ before the name; Envoy refuses a type without a host";
        Finding::at(rules::TYPE, at, "a type with a host", quoted(url), help)
    })
}

/// Finding about a URL of a type that Envoy does not have.
pub(super) fn name(at: &At<'_>) -> Option<Finding> {
    let url = at.text()?;
    let name = url.rsplit('/').next().unwrap_or(url);
    match meant(name) {
        Some(meant) => {
            let help = format!("did you mean {meant}? Envoy refuses messages that it does not know");
            Some(Finding::at(rules::TYPE, at, meant, quoted(url), help))
        }
        None if is_of_v2(name) => {
            let help = "write the message of the API v3; Envoy refuses those of the API v2, which it no longer has";
            Some(Finding::at(rules::TYPE, at, "a message of the API v3", quoted(url), help))
        }
        None => None,
    }
}

/// Whether official builds of Envoy 1.36 to 1.40 have a message with a name.
pub(crate) fn is_envoys(name: &str) -> bool {
    NAMES.contains(name)
}

/// The message that a name stands for that is none of Envoy's. `None` for a known name, and for a name that resembles no
/// known one: a build of Envoy may have more messages.
pub(super) fn meant(name: &str) -> Option<String> {
    if [&TYPED_STRUCTS[..], &PROTOBUF[..]].concat().contains(&name) {
        return None;
    }
    if !name.starts_with("envoy.") {
        return nearest(name, &[&TYPED_STRUCTS[..], &PROTOBUF[..]].concat()).map(str::to_owned);
    }
    if NAMES.contains(name) {
        return None;
    }
    // Files repeat their mistakes.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(name.to_owned()).or_insert_with(|| similar(name)).clone()
}

/// The message of Envoy that a name resembles.
fn similar(name: &str) -> Option<String> {
    let known: Vec<&str> = NAMES.iter().map(String::as_str).collect();
    let steps = without_version(name);
    let of_other_version = known.iter().find(|known| without_version(known) == steps);
    let similar = || nearest(name, &known);
    let successor = || is_of_v2(name).then(|| successor(name, &known)).flatten();
    of_other_version.copied().or_else(similar).or_else(successor).map(str::to_owned)
}

/// Packages with their messages.
pub(super) fn messages() -> impl Iterator<Item = (&'static str, &'static str)> {
    MESSAGES.lines().flat_map(|line| {
        let mut words = line.split(' ');
        let package = words.next().unwrap_or_default();
        words.map(move |message| (package, message))
    })
}

/// The message of the API v3 with the same last step, and with the most other steps in common, at least two.
fn successor<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let steps: Vec<&str> = name.split('.').collect();
    let common = |known: &str| known.split('.').filter(|step| steps.contains(step)).count();
    let candidates = known.iter().filter(|known| last(known) == last(name) && common(known) > 2);
    candidates.max_by_key(|known| common(known)).copied()
}

/// Whether a message is of the API v2, which Envoy has no longer.
fn is_of_v2(name: &str) -> bool {
    name.starts_with("envoy.") && name.split('.').any(|step| step == "v2" || step.starts_with("v2alpha"))
}

/// The steps of a name but for the version, such as `v3` or `v3alpha`.
fn without_version(name: &str) -> Vec<&str> {
    let is_version = |step: &str| {
        let digits = step.strip_prefix('v').unwrap_or_default().trim_end_matches(|last: char| !last.is_ascii_digit());
        let tail = step.trim_start_matches(|first: char| first != 'a' && first != 'b');
        step.starts_with('v')
            && digits.starts_with(|first: char| first.is_ascii_digit())
            && (tail.is_empty() || tail.starts_with("alpha") || tail.starts_with("beta"))
    };
    name.split('.').filter(|step| !is_version(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

    #[test]
    fn a_wrong_version_and_a_misspelt_name_stand_for_a_known_message() {
        for (name, expected) in [
            ("envoy.extensions.filters.http.wasm.v2.Wasm", WASM),
            ("envoy.extensions.filters.http.wasm.v4alpha.Wasm", WASM),
            ("envoy.extensions.filters.http.wasm.v3.Wsam", WASM),
            ("envoy.extensions.filters.htpp.wasm.v3.Wasm", WASM),
            ("envoy.extensions.filters.http.wasm.v3.wasm", WASM),
            ("envoy.extensions.filter.http.router.v3.Router", "envoy.extensions.filters.http.router.v3.Router"),
            ("envoy.config.filter.http.router.v2.Router", "envoy.extensions.filters.http.router.v3.Router"),
            ("envoy.api.v2.auth.UpstreamTlsContexts", "a message of the API v3"),
            ("xds.type.v3.TypeStruct", "xds.type.v3.TypedStruct"),
            ("google.protobuf.struct", "google.protobuf.Struct"),
        ] {
            let found = meant(name).or_else(|| is_of_v2(name).then(|| "a message of the API v3".to_owned()));
            assert_eq!(found.as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn known_messages_and_those_of_other_builds_stand_for_themselves() {
        for name in [
            WASM,
            "envoy.extensions.filters.network.wasm.v3.Wasm",
            "envoy.extensions.filters.http.golang.v3alpha.Config",
            "envoy.extensions.filters.network.postgres_proxy.v3alpha.PostgresProxy",
            "envoy.extensions.filters.network.sip_proxy.router.v3alpha.Router",
            "envoy.tcp.metadataexchange.config.MetadataExchange",
            "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
            "google.protobuf.Struct",
            "google.protobuf.BytesValue",
            "xds.type.v3.TypedStruct",
            "a",
            "",
        ] {
            assert_eq!((meant(name), is_of_v2(name)), (None, false), "{name}");
        }
        assert!(messages().all(|(package, message)| meant(&format!("{package}.{message}")).is_none()));
    }

    #[test]
    fn no_two_messages_differ_in_the_version_only() {
        let all: Vec<_> = messages().map(|(package, message)| format!("{package}.{message}")).collect();
        let mut names: Vec<_> = all.iter().map(|name| without_version(name)).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(
            without_version("envoy.extensions.geoip_providers.v3alpha.value.V3"),
            ["envoy", "extensions", "geoip_providers", "value", "V3"]
        );
    }
}

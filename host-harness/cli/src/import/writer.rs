//! Writer: a configuration of the filter as YAML, with comments that name the origin of each limit.

use super::condition::{Condition, Test};
use super::plan::{Configuration, Limit, Rate, Settings};
use super::source::{Entry, Source};
use super::yaml::Yaml;

/// Most items of a list of predicates.
const MAX_PREDICATES: usize = 32;

/// A configuration as YAML.
pub(super) fn text(configuration: &Configuration, cluster: &str) -> String {
    let mut text = comments(&configuration.title);
    for (name, value) in settings(&configuration.settings, cluster) {
        text += &format!("{name}: {}\n", value.flow());
    }
    text += "limits:\n";
    for limit in &configuration.limits {
        text += &comments(&limit.comments);
        let mut lead = "- ";
        for (name, value) in fields(limit) {
            text += lead;
            lead = "  ";
            match &value {
                Yaml::List(items) if !items.is_empty() => {
                    text += &format!("{name}:\n");
                    items.iter().for_each(|item| text += &format!("  - {}\n", item.unwrapped()));
                }
                value => text += &format!("{name}: {}\n", value.flow()),
            }
        }
    }
    text
}

/// A configuration with this limit alone, as JSON.
pub(super) fn json_of(limit: &Limit, settings_of: &Settings, cluster: &str) -> serde_json::Value {
    let mut all = settings(settings_of, cluster);
    all.push(("limits", Yaml::List(vec![Yaml::Object(fields(limit))])));
    Yaml::Object(all).to_json()
}

fn comments(lines: &[String]) -> String {
    lines.iter().map(|line| format!("# {}\n", crate::printable::line(line))).collect()
}

fn settings(settings: &Settings, cluster: &str) -> Vec<(&'static str, Yaml)> {
    let mut redis = vec![("cluster", Yaml::text(cluster))];
    redis.extend(settings.timeout.as_ref().map(|timeout| ("timeout", Yaml::text(timeout))));
    let mut fields = vec![("redis", Yaml::Object(redis))];
    if settings.denies_on_failure {
        fields.push(("failure_mode", Yaml::text("deny")));
    }
    fields.extend(settings.status_on_error.map(|status| ("status_on_error", Yaml::Number(status))));
    if settings.shadow_mode {
        fields.push(("shadow_mode", Yaml::Flag(true)));
    }
    let mut response = Vec::new();
    response.extend(settings.status.map(|status| ("status", Yaml::Number(status))));
    if settings.is_body_empty {
        response.push(("body", Yaml::text("")));
    }
    response.extend(settings.headers.as_ref().map(|headers| ("headers", Yaml::texts(headers))));
    response.extend(settings.grpc_status.map(|status| ("grpc_status", Yaml::text(status))));
    if !response.is_empty() {
        fields.push(("response", Yaml::Object(response)));
    }
    fields
}

fn fields(limit: &Limit) -> Vec<(&'static str, Yaml)> {
    let mut fields = vec![("name", Yaml::text(&limit.name))];
    let when: Vec<Yaml> = limit.when.parts().iter().map(predicate).collect();
    if !when.is_empty() {
        fields.push(("when", Yaml::List(when)));
    }
    if !limit.exempt.is_empty() {
        fields.push(("exempt", Yaml::List(limit.exempt.iter().map(predicate).collect())));
    }
    fields.push(("descriptor", Yaml::List(limit.descriptor.iter().map(entry).collect())));
    match limit.rates.as_slice() {
        [rate] => fields.push(("fixed_window", window(rate))),
        rates => {
            let windows = rates.iter().map(|rate| Yaml::one("fixed_window", window(rate))).collect();
            fields.push(("windows", Yaml::List(windows)));
        }
    }
    if limit.hits_addend != 1 {
        fields.push(("hits_addend", Yaml::Number(limit.hits_addend)));
    }
    if limit.shadow_mode {
        fields.push(("shadow_mode", Yaml::Flag(true)));
    }
    fields
}

fn window(rate: &Rate) -> Yaml {
    let window = Yaml::text(format!("{}s", rate.seconds));
    Yaml::Object(vec![("max_requests", Yaml::Number(rate.max_requests)), ("window", window)])
}

fn entry(entry: &Entry) -> Yaml {
    let (kind, mut fields) = named(&entry.source);
    let kind = if kind == "header" { "request_header" } else { kind };
    fields.extend(entry.default.as_ref().map(|default| ("default", Yaml::text(default))));
    Yaml::one(kind, Yaml::Object(fields))
}

/// A condition as a predicate.
fn predicate(condition: &Condition) -> Yaml {
    match condition {
        // Constants stand alone, and limits that never apply are dropped before.
        Condition::Always => Yaml::one("not", predicate(&Condition::Never)),
        Condition::Never => Yaml::one("method", Yaml::text("NONE")),
        Condition::All(parts) => Yaml::one("all", list("all", parts)),
        Condition::Any(parts) => match methods(parts) {
            Some(methods) => Yaml::one("method", Yaml::texts(&methods)),
            None => Yaml::one("any", list("any", parts)),
        },
        Condition::Not(inner) => match inner.as_ref() {
            Condition::Value(source, Test::Present) => value(source, ("present", Yaml::Flag(false))),
            inner => Yaml::one("not", predicate(inner)),
        },
        Condition::Value(Source::Method, Test::Exact(method)) if is_method(method) => {
            Yaml::one("method", Yaml::text(method))
        }
        Condition::Value(source, test) => value(
            source,
            match test {
                Test::Present => ("present", Yaml::Flag(true)),
                Test::Exact(text) => ("exact", Yaml::text(text)),
                Test::Prefix(text) => ("prefix", Yaml::text(text)),
                Test::Suffix(text) => ("suffix", Yaml::text(text)),
                Test::Contains(text) => ("contains", Yaml::text(text)),
                Test::Regex(text) => ("regex", Yaml::text(text)),
                Test::Within(ranges) => ("cidrs", Yaml::texts(ranges)),
            },
        ),
    }
}

/// The predicates of a list; of more than Weir's lists have, in lists of the same kind.
fn list(kind: &'static str, parts: &[Condition]) -> Yaml {
    let all = |parts: &[Condition]| Yaml::List(parts.iter().map(predicate).collect());
    match parts.len() {
        ..=MAX_PREDICATES => all(parts),
        _ => Yaml::List(parts.chunks(MAX_PREDICATES).map(|parts| Yaml::one(kind, all(parts))).collect()),
    }
}

fn value(source: &Source, test: (&'static str, Yaml)) -> Yaml {
    let by_header = Source::Header(":method".to_owned());
    let source = if *source == Source::Method { &by_header } else { source };
    let (kind, mut fields) = named(source);
    fields.push(test);
    Yaml::one(kind, Yaml::Object(fields))
}

/// The methods of a list that compares nothing else, if Weir's predicate `method` takes so many.
fn methods(parts: &[Condition]) -> Option<Vec<&str>> {
    let method = |part| match part {
        &Condition::Value(Source::Method, Test::Exact(ref method)) if is_method(method) => Some(method.as_str()),
        _ => None,
    };
    parts.iter().map(method).collect::<Option<Vec<_>>>().filter(|methods| methods.len() <= 16)
}

/// Whether Weir's predicate `method` takes a text.
fn is_method(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_uppercase() || b"-_".contains(&it))
}

/// Kind of a source, with the fields that name it.
fn named(source: &Source) -> (&'static str, Vec<(&'static str, Yaml)>) {
    match source {
        Source::Header(name) => ("header", vec![("name", Yaml::text(name))]),
        Source::FirstHeader(name) => ("header", vec![("name", Yaml::text(name)), ("repeated", Yaml::text("first"))]),
        Source::Query(name) => ("query_parameter", vec![("name", Yaml::text(name))]),
        Source::Path => ("path", Vec::new()),
        Source::Method => ("method", Vec::new()),
        Source::Host => ("host", Vec::new()),
        Source::Scheme => ("scheme", Vec::new()),
        Source::RemoteAddress => ("remote_address", Vec::new()),
        Source::MaskedRemoteAddress { v4, v6 } => {
            let fields = vec![("v4_prefix_mask_len", Yaml::Number(*v4)), ("v6_prefix_mask_len", Yaml::Number(*v6))];
            ("masked_remote_address", fields)
        }
        Source::RouteName => ("route_name", Vec::new()),
        Source::ClusterName => ("cluster_name", Vec::new()),
        Source::Metadata { key, path } => {
            let path = path.iter().map(|key| Yaml::one("key", Yaml::text(key))).collect();
            let metadata_key = vec![("key", Yaml::text(key)), ("path", Yaml::List(path))];
            ("dynamic_metadata", vec![("metadata_key", Yaml::Object(metadata_key))])
        }
    }
}

//! Rules of Envoy's messages: fields that exclude each other, fields that are required, and bounds.
//!
//! Two fields of a `oneof` are refused by protobuf's parser, wherever they stand. The other rules are those of Envoy's
//! validation, which looks at the messages that Envoy uses. ([`schema`] has the rules.)

use super::durations;
use super::schema::{self, Bound, Field, Kind, Oneof};
use crate::check::finding::Finding;
use crate::check::rules::{self, Rule};
use crate::documents::{At, Document, Message, Value, quoted};
use crate::files::is_bootstrap;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
const DATA_SOURCE: &str = "envoy.config.core.v3.DataSource";
/// Fields with free structures.
const FREE: [&str; 3] = ["metadata", "filter_metadata", "filterMetadata"];
/// Fields with messages that Envoy may leave unused, and so unvalidated: metadata, all policies of a cluster but the
/// first one that Envoy has, and what is only read for a request.
const UNUSED: [&str; 8] = [
    "typed_filter_metadata",
    "typedFilterMetadata",
    "load_balancing_policy",
    "loadBalancingPolicy",
    "upstream_config",
    "upstreamConfig",
    "retry_priority",
    "retryPriority",
];
/// Messages that Envoy 1.36 or 1.40 was observed to take without validation.
const UNVALIDATED: [&str; 3] = [
    "envoy.extensions.health_checkers.udp.v3.UdpHealthCheck",
    "envoy.extensions.internal_redirect.filter_state.v3.FilterStateConfig",
    "envoy.extensions.network.dns_resolver.hickory.v3.DnsOverTlsConfig",
];
/// Messages that Envoy was observed to take without validation at routes.
const OF_FILTERS: [&str; 2] = [
    "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
    "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
];

/// Findings about all messages of a document.
pub(super) fn of_document(document: &Document) -> Vec<Finding> {
    of_value(&At::root(document), is_bootstrap(document).then_some(BOOTSTRAP))
}

/// Findings about a value, which may be a message without `@type`, and about all messages in it.
pub(super) fn of_value(at: &At<'_>, message: Option<&str>) -> Vec<Finding> {
    let mut walk = Walk { found: Vec::new(), is_validated: true };
    if let Some(message) = message {
        walk.message(at, message);
    }
    walk.search(at);
    walk.found
}

/// Whether a finding is about a rule of this module.
pub(super) fn is_constraint(finding: &Finding) -> bool {
    [rules::ONEOF, rules::REQUIRED, rules::BOUNDS].contains(&finding.rule)
}

struct Walk {
    found: Vec<Finding>,
    /// Whether Envoy validates the messages here.
    is_validated: bool,
}

impl Walk {
    /// Looks for typed messages. A `Struct` has any fields.
    fn search(&mut self, at: &At<'_>) {
        if let Some(message) = Message::of(at) {
            if message.name == "google.protobuf.Struct" {
                return;
            }
            let around = self.is_validated;
            self.is_validated &= is_validated(&message, at);
            self.message(&message.body, message.name);
            self.is_validated = around;
        }
        if !at.is_object() {
            at.children().iter().for_each(|at| self.search(at));
            return;
        }
        for (key, value) in at.entries() {
            let value = match FREE.contains(&key) {
                // Of metadata, only that with types has messages.
                true if at.path != "node" => value.field("typed_filter_metadata"),
                true => None,
                false => Some(value),
            };
            let Some(value) = value else { continue };
            let around = self.is_validated;
            self.is_validated &= !UNUSED.contains(&key) && !FREE.contains(&key);
            self.search(&value);
            self.is_validated = around;
        }
    }

    /// Judges a message and the messages in its fields, but for those of any type.
    fn message(&mut self, at: &At<'_>, name: &str) {
        let Some(message) = schema::message(name).filter(|_| at.is_object() || at.is_null()) else { return };
        for oneof in &message.oneofs {
            let finding = oneof.judge(at);
            self.found.extend(finding.filter(|finding| self.is_validated || finding.rule == rules::ONEOF));
        }
        if name == DATA_SOURCE {
            self.found.extend(unset_variable(at));
        }
        for field in &message.fields {
            let value = field.name.values(at).next();
            if field.is_of_items {
                let items = value.map(|value| value.items()).unwrap_or_default();
                let found = items.iter().filter_map(|item| field.wrong(item));
                self.found.extend(found.filter(|_| self.is_validated));
                continue;
            }
            let finding = match &value {
                Some(value) => field.wrong(value),
                None => field.missing(at),
            };
            self.found.extend(finding.filter(|finding| self.is_validated || finding.rule == rules::TYPE));
            if let (Some(value), Kind::Message(inner)) = (&value, &field.kind) {
                self.values(value, inner, field.is_map);
            }
        }
    }

    fn values(&mut self, value: &At<'_>, message: &str, is_map: bool) {
        // In a list, Envoy takes `null` for an empty message.
        let values = match is_map {
            true => value.children().into_iter().filter(At::is_object).collect(),
            false => value.items(),
        };
        values.iter().for_each(|value| self.message(value, message));
    }
}

/// Whether Envoy validates a message of any type: not that of a route as that of a filter, nor always the reverse.
fn is_validated(message: &Message<'_>, at: &At<'_>) -> bool {
    let is_at_route = ["typed_per_filter_config.", "typedPerFilterConfig."].iter().any(|step| at.path.contains(step));
    match message.name {
        name if UNVALIDATED.contains(&name) => false,
        name if OF_FILTERS.contains(&name) => !is_at_route,
        _ => is_at_route || !message.short_name().contains("PerRoute"),
    }
}

impl Oneof {
    /// The finding about a message with two of the fields, or with none that needs one.
    fn judge(&self, at: &At<'_>) -> Option<Finding> {
        let mut present: Vec<At<'_>> = self.members.iter().flat_map(|name| name.values(at)).collect();
        let names = self.members.iter().map(|name| name.snake).collect::<Vec<_>>().join(", ");
        if present.is_empty() && self.is_required {
            let help = "add the field; Envoy refuses the message without it";
            return Some(match &*self.members {
                [only] => Finding::at_field(rules::REQUIRED, at, only.snake, "a value", "nothing", help),
                _ => Finding::at(rules::REQUIRED, at, format!("one of {names}"), "none", help),
            });
        }
        present.sort_by_key(|value| value.key);
        let second = present.get(1)?;
        let keys: Vec<&str> = present.iter().filter_map(|value| value.path.rsplit('.').next()).collect();
        let help = "remove all but one; Envoy refuses a message with more";
        let expected = format!("only one of {names}");
        Some(Finding::at(rules::ONEOF, second, expected, keys.join(" and "), help).at_key(second))
    }
}

impl Field {
    /// The finding about a message without this field.
    fn missing(&self, at: &At<'_>) -> Option<Finding> {
        let finding = |expected: &str, found: &str| {
            let help = "add the field; Envoy refuses the message without it";
            Some(Finding::at_field(rules::REQUIRED, at, self.name.snake, expected, found, help))
        };
        let keeps_bounds = self.bounds.iter().all(|bound| bound.admits_length(0));
        match self.kind {
            _ if self.is_required => finding(self.kind.shown(), "nothing"),
            _ if self.is_optional => None,
            Kind::Number if !self.bounds.iter().all(|bound| bound.admits(0.0)) => {
                finding(&self.expected(self.kind.shown()), "nothing, which means 0")
            }
            Kind::Duration | Kind::Number => None,
            _ if keeps_bounds => None,
            _ => finding(&self.expected(self.kind.shown()), "nothing"),
        }
    }

    /// The finding about a value of this field.
    fn wrong(&self, at: &At<'_>) -> Option<Finding> {
        match self.kind {
            Kind::Duration => {
                // A list has a finding as long as Envoy has no list of durations.
                let Some(seconds) = durations::seconds(at) else { return Some(durations::refused(at)) };
                if !self.bounds.iter().all(|bound| bound.admits(seconds)) {
                    let found = at.text().map_or(at.kind(), quoted);
                    return Some(self.beyond(rules::BOUNDS, at, "a duration", found));
                }
                (!durations::is_envoys(seconds)).then(|| durations::beyond(at))
            }
            Kind::Number => {
                let number = number(at)?;
                let is_kept = self.bounds.iter().all(|bound| bound.admits(number));
                (!is_kept).then(|| self.beyond(rules::BOUNDS, at, "a number", number.to_string()))
            }
            Kind::True => {
                (at.flag() == Some(false)).then(|| self.beyond(rules::BOUNDS, at, "true", "false".to_owned()))
            }
            Kind::Text => self.length(at, at.text()?.chars().count(), "an empty text"),
            Kind::Any if !self.is_map => None,
            Kind::Enum => None,
            _ if self.is_map => self.length(at, at.entries().count(), "an empty object"),
            _ => self.length(at, at.items().len(), "an empty list"),
        }
    }

    /// The finding about a text, a list or a map of a length beyond the bounds.
    fn length(&self, at: &At<'_>, length: usize, none: &str) -> Option<Finding> {
        let is_kept = self.bounds.iter().all(|bound| bound.admits_length(length));
        (!is_kept).then(|| match length {
            0 => self.beyond(rules::REQUIRED, at, self.kind.shown(), none.to_owned()),
            _ => self.beyond(rules::BOUNDS, at, self.kind.shown(), at.kind()),
        })
    }

    fn beyond(&self, rule: Rule, at: &At<'_>, kind: &str, found: String) -> Finding {
        Finding::at(rule, at, self.expected(kind), found, "change the value; Envoy refuses it")
    }

    /// A value of a kind within the bounds.
    fn expected(&self, kind: &str) -> String {
        let unit = if self.kind == Kind::Duration { " s" } else { "" };
        let of = |bound: &Bound| match bound {
            Bound::AtLeast(number) => format!("of at least {number}{unit}"),
            Bound::Above(number) => format!("above {number}{unit}"),
            Bound::AtMost(number) => format!("of at most {number}{unit}"),
            Bound::Below(number) => format!("below {number}{unit}"),
            Bound::Shortest(1) => "that is not empty".to_owned(),
            Bound::Shortest(least) => format!("with {least} {} or more", self.kind.parts()),
            Bound::Longest(most) => format!("with {most} {} or less", self.kind.parts()),
        };
        let bounds: Vec<String> = self.bounds.iter().map(of).collect();
        if bounds.is_empty() { kind.to_owned() } else { format!("{kind} {}", bounds.join(" and ")) }
    }
}

impl Kind {
    /// Kind of a value, for error texts.
    fn shown(&self) -> &'static str {
        match self {
            Self::Duration => "a duration",
            Self::Text => "a text",
            Self::Number => "a number",
            Self::List => "a list",
            Self::Enum => "a value other than the one of number 0",
            Self::True => "true",
            Self::Any | Self::Message(_) => "a value",
        }
    }

    fn parts(&self) -> &'static str {
        if *self == Self::Text { "characters" } else { "items" }
    }
}

/// A number, also as text or wrapped.
fn number(at: &At<'_>) -> Option<f64> {
    match &at.node.value {
        Value::Number(number) => number.as_f64(),
        Value::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        // A wrapper without a value has that of its type.
        Value::Map(_) => at.field("value").map_or(Some(0.0), |at| number(&at)),
        _ => None,
    }
}

/// The note about a source of bytes whose variable is not set here. Envoy refuses one that the proxy does not have.
fn unset_variable(source: &At<'_>) -> Option<Finding> {
    let at = source.field("environment_variable")?;
    let name = at.text().filter(|name| !name.is_empty() && std::env::var_os(name).is_none())?;
    let help = "the proxy needs the variable to start; its value was not checked";
    let expected = format!("the environment variable {} to be set", quoted(name));
    Some(Finding::at(rules::UNSET_VARIABLE, &at, expected, "none here", help))
}

//! Limits of Limitador, joined with the Envoy rules that make their descriptors.

use super::cel::{self, Operand};
use super::condition::Condition;
use super::envoy::{Action, ActionValue, Envoy, Filter, Rule, Variant};
use super::finding::{self, Findings, Place};
use super::plan::{Configuration, Limit, Names, Rate, Settings};
use super::scalar;
use super::source::Entry;
use crate::documents::At;

/// Limit of a namespace.
#[derive(Debug)]
pub(super) struct Limited {
    place: Place,
    namespace: String,
    name: String,
    rate: Rate,
    conditions: Vec<String>,
    variables: Vec<String>,
}

impl Limited {
    /// The namespace, which is the domain of Envoy's filter.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Whether a value is an item of Limitador's list.
pub(super) fn is_limit(at: &At<'_>) -> bool {
    at.field("namespace").is_some() && (at.field("max_value").is_some() || at.field("seconds").is_some())
}

/// Reads an item of the list.
pub(super) fn read(at: &At<'_>, default_namespace: &str, findings: &mut Findings) -> Option<Limited> {
    let number = |name: &str| at.field(name).and_then(|at| at.integer());
    let (Some(max_requests), Some(seconds)) = (number("max_value"), number("seconds").filter(|it| *it > 0)) else {
        findings.add(finding::INVALID, at, "a limit without max_value or seconds", "Limitador refuses the file");
        return None;
    };
    let texts = |name: &str| at.each(name).iter().filter_map(scalar).collect();
    let namespace = at.field("namespace").and_then(|at| scalar(&at)).unwrap_or_else(|| default_namespace.to_owned());
    Some(Limited {
        place: Place::of(at),
        namespace,
        name: at.field("name").and_then(|at| scalar(&at)).unwrap_or_default(),
        rate: Rate { max_requests, seconds },
        conditions: texts("conditions"),
        variables: texts("variables"),
    })
}

/// Configurations of all filters whose domain is a namespace.
pub(super) fn join(
    limits: &[Limited],
    envoy: &Envoy,
    names: &mut Names,
    findings: &mut Findings,
) -> Vec<Configuration> {
    let mut namespaces: Vec<&str> = Vec::new();
    for limit in limits {
        if !namespaces.contains(&limit.namespace.as_str()) {
            namespaces.push(&limit.namespace);
        }
    }
    let mut configurations = Vec::new();
    for (index, namespace) in namespaces.iter().enumerate() {
        let own: Vec<(usize, &Limited)> =
            limits.iter().enumerate().filter(|(_, limit)| limit.namespace == *namespace).collect();
        let Some((_, first)) = own.first() else { continue };
        let filters = filters(namespace, first, envoy, namespaces.len() == 1 && index == 0);
        if filters.is_empty() {
            let help = "the file says how descriptors are called, not where they come from: give the Envoy file with the \
                        ratelimit filter of this domain and the `rate_limits` of its routes as well";
            let what = format!("no rate_limits of Envoy for the namespace {namespace}");
            findings.add_at(finding::NO_SOURCE, first.place.clone(), what, help);
        }
        for filter in filters {
            let limits: Vec<Limit> = own
                .iter()
                .flat_map(|(number, limit)| of_limit(*number, limit, &filter, envoy, names, findings))
                .collect();
            if limits.is_empty() {
                continue;
            }
            window_start(&first.place, findings);
            let title = vec![
                format!("From {}: limits of the namespace {namespace}.", first.place),
                "Put the cluster of Redis behind `redis.cluster`, and Weir in the place of the ratelimit filter."
                    .to_owned(),
            ];
            configurations.push(Configuration { title, settings: filter.settings, limits });
        }
    }
    configurations
}

/// Says that windows begin at other times.
pub(super) fn window_start(place: &Place, findings: &mut Findings) {
    let help = "Limitador's window begins at the first request, Weir's at a multiple of its length since 1970: a limit \
                holds in other windows";
    findings.add_at(finding::WINDOW_START, place.clone(), "windows begin at other times", help);
}

fn filters(namespace: &str, first: &Limited, envoy: &Envoy, is_only: bool) -> Vec<Filter> {
    if envoy.filters.is_empty() && !envoy.rules.is_empty() && is_only {
        return vec![Filter {
            place: first.place.clone(),
            domain: namespace.to_owned(),
            stage: 0,
            settings: Settings::default(),
            scope: None,
            requests: Condition::Always,
            has_own_rules: false,
        }];
    }
    envoy.filters.iter().filter(|filter| filter.domain == namespace).cloned().collect()
}

fn of_limit(
    number: usize,
    limited: &Limited,
    filter: &Filter,
    envoy: &Envoy,
    names: &mut Names,
    findings: &mut Findings,
) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    let rules: Vec<&Rule> = envoy.rules_of(filter).collect();
    for rule in &rules {
        let Some(descriptor) = first_of_list(rule, &rules) else { continue };
        let Some(rule) = descriptor else {
            let help = "the first rule of the list makes no descriptor for some requests, and descriptors[0] is then \
                        that of the next rule; write the limit by hand";
            findings.add_at(finding::EXPRESSION, limited.place.clone(), "descriptors[0] of several rules", help);
            continue;
        };
        for variant in &rule.variants {
            match applied(limited, variant) {
                Ok(None) => {}
                Ok(Some((condition, entries))) => {
                    let parts = [filter.requests.clone(), rule.condition.clone(), variant.condition.clone(), condition];
                    let when = Condition::all(parts);
                    let identity = format!("limitador|{number}|{entries:?}|{}", rule.hits_addend);
                    let name = names.of(&identity, &wanted(number, limited));
                    add(&mut limits, limited, name, when, entries, rule, findings);
                }
                Err(what) => {
                    let help = "write the limit by hand";
                    findings.add_at(finding::EXPRESSION, limited.place.clone(), what, help);
                    return Vec::new();
                }
            }
        }
    }
    limits
}

/// The rule of `descriptors[0]` for a list, at the list's first rule; `Some(None)` if it is not always the first.
fn first_of_list<'a>(rule: &'a Rule, rules: &[&Rule]) -> Option<Option<&'a Rule>> {
    let same: Vec<&&Rule> = rules.iter().filter(|other| other.list == rule.list).collect();
    if same.iter().any(|other| other.index < rule.index) {
        return None;
    }
    let is_always = rule.variants.iter().all(|variant| {
        variant.condition == Condition::Always && variant.actions.iter().all(|action| is_always(&action.value))
    });
    Some((same.len() == 1 || is_always).then_some(rule))
}

fn is_always(value: &ActionValue) -> bool {
    match value {
        ActionValue::Constant(_) => true,
        ActionValue::OfRequest(entry) => entry.is_present() == Condition::Always,
    }
}

/// The condition of a limit and its entries; `None` if no request with this descriptor has the limit.
fn applied(limited: &Limited, variant: &Variant) -> Result<Option<(Condition, Vec<Entry>)>, String> {
    let entry = |path: &[String]| -> Result<Option<&Action>, String> {
        let key = match path {
            [first, index, key] if first == "descriptors" && index == "0" => key.clone(),
            [first, ..] if first == "descriptors" => return Err("another descriptor than descriptors[0]".to_owned()),
            // The form before Limitador 2: the key alone.
            path => path.join("."),
        };
        Ok(variant.actions.iter().rev().find(|action| action.key == key))
    };
    let resolve = |path: &[String]| {
        Ok(match entry(path)?.map(|action| &action.value) {
            None => Operand::Absent,
            Some(ActionValue::Constant(text)) => Operand::Constant(text.clone()),
            Some(ActionValue::OfRequest(Entry { default: Some(_), .. })) => {
                return Err("a condition on a value with a default".to_owned());
            }
            Some(ActionValue::OfRequest(entry)) => Operand::Value(entry.source.clone()),
        })
    };
    let mut conditions = Vec::new();
    for text in &limited.conditions {
        let expression = cel::parse(text).ok_or_else(|| "a condition beyond the subset of CEL".to_owned())?;
        conditions.push(cel::condition(&expression, &resolve).map_err(|what| format!("{what} in a condition"))?);
    }
    let mut entries = Vec::new();
    for text in &limited.variables {
        let Some(cel::Expression::Path(path)) = cel::parse(text) else {
            return Err("a variable that is no key".to_owned());
        };
        match entry(&path)?.map(|action| &action.value) {
            None => return Ok(None),
            Some(ActionValue::Constant(_)) => {}
            Some(ActionValue::OfRequest(entry)) => entries.push(entry.clone()),
        }
    }
    // Envoy sends no descriptor at all if a value of it is missing.
    let others = variant.actions.iter().filter_map(|action| match &action.value {
        ActionValue::OfRequest(entry) if !entries.contains(entry) => Some(entry.is_present()),
        _ => None,
    });
    let condition = Condition::all(others.chain(conditions));
    Ok((condition != Condition::Never).then_some((condition, entries)))
}

fn wanted(number: usize, limited: &Limited) -> String {
    match limited.name.as_str() {
        "" => format!("{}.{}", limited.namespace, number.saturating_add(1)),
        name => name.to_owned(),
    }
}

fn add(
    limits: &mut Vec<Limit>,
    limited: &Limited,
    name: String,
    when: Condition,
    entries: Vec<Entry>,
    rule: &Rule,
    findings: &mut Findings,
) {
    if let Some(known) = limits.iter_mut().find(|known| known.name == name) {
        known.when = Condition::any([known.when.clone(), when]);
        known.comments.push(format!("descriptor of {}", rule.place));
        return;
    }
    if !limits.is_empty() {
        let help = "the routes take the value from different places: in Limitador, they share counters; in Weir, each is \
                    a limit of its own";
        findings.add_at(finding::SHARED_COUNTER, limited.place.clone(), "a limit of several descriptors", help);
    }
    let comments = vec![
        format!("{}: a limit of the namespace {}", limited.place, limited.namespace),
        format!("descriptor of {}", rule.place),
    ];
    limits.push(Limit {
        name,
        place: limited.place.clone(),
        comments,
        when,
        exempt: Vec::new(),
        descriptor: entries,
        rates: vec![limited.rate],
        hits_addend: rule.hits_addend,
        shadow_mode: false,
    });
}

//! Limits of ratelimit filters: each path that a rule's descriptor can take through the tree of its domain.

use super::paths::{self, Path};
use super::tree::{Domain, Node, NodeLimit};
use crate::import::condition::Condition;
use crate::import::envoy::{Envoy, Filter, Rule};
use crate::import::finding::{self, Findings, Place};
use crate::import::plan::{Configuration, Limit, Names, Settings};
use crate::import::source::Entry;

/// Limit of the result, with what `replaces` needs to know.
struct Item<'a> {
    limit: &'a NodeLimit,
    identity: String,
    wanted: String,
    when: Condition,
    descriptor: Vec<Entry>,
    hits_addend: u64,
    comments: Vec<String>,
    rules: Vec<&'a Rule>,
}

/// Configurations of all filters but those of `others`, domains whose limits are Limitador's.
pub(crate) fn join(
    domains: &[Domain],
    others: &[&str],
    envoy: &Envoy,
    names: &mut Names,
    findings: &mut Findings,
) -> Vec<Configuration> {
    let mut filters = filters(domains, envoy);
    filters.retain(|filter| !others.contains(&filter.domain.as_str()));
    let mut reached: Vec<&Place> = Vec::new();
    let mut configurations = Vec::new();
    for filter in &filters {
        let items = items(filter, domains, envoy, &mut reached, findings);
        let limits = limits(&items, names, findings);
        if limits.is_empty() {
            continue;
        }
        if limits.len() > 1 || limits.iter().any(|limit| limit.hits_addend != 1) {
            let help = "Weir spends nothing for a denied request, ratelimit counts it in each of its limits: Weir \
                        admits a request that ratelimit denies because of denied ones";
            findings.add_at(finding::DENIED_COUNT, filter.place.clone(), "denied requests do not count", help);
        }
        let title = vec![
            format!("From {}: ratelimit filter of the domain {}.", filter.place, filter.domain),
            "Put the cluster of Redis behind `redis.cluster`, and Weir in the place of the ratelimit filter."
                .to_owned(),
        ];
        configurations.push(Configuration { title, settings: filter.settings.clone(), limits });
    }
    domains.iter().for_each(|domain| unreached(domain, &filters, envoy, &reached, findings));
    configurations
}

/// The filters; without any, one for the only domain.
fn filters(domains: &[Domain], envoy: &Envoy) -> Vec<Filter> {
    match domains {
        [domain] if envoy.filters.is_empty() && !envoy.rules.is_empty() => vec![Filter {
            place: domain.place.clone(),
            domain: domain.name.clone(),
            stage: 0,
            settings: Settings::default(),
            scope: None,
            requests: Condition::Always,
            has_own_rules: false,
        }],
        _ => envoy.filters.clone(),
    }
}

fn items<'a>(
    filter: &Filter,
    domains: &'a [Domain],
    envoy: &'a Envoy,
    reached: &mut Vec<&'a Place>,
    findings: &mut Findings,
) -> Vec<Item<'a>> {
    let mut items: Vec<Item<'a>> = Vec::new();
    for rule in envoy.rules_of(filter) {
        let name = rule.domain.as_ref().unwrap_or(&filter.domain);
        let Some(domain) = domains.iter().find(|domain| domain.name == *name) else {
            let help = "give the file of ratelimit with this domain as well";
            findings.add_at(finding::NO_SOURCE, rule.place.clone(), format!("no file has the domain {name}"), help);
            continue;
        };
        for variant in &rule.variants {
            let (found, incomparable) = paths::paths(&domain.nodes, &variant.actions);
            for node in incomparable {
                let what = format!("a value of {}, which no predicate compares", node.source);
                let help = "the limits of this value, of later patterns and of the default are left out";
                findings.add_at(finding::VALUE, node.place, what, help);
            }
            for path in found {
                reached.push(&path.limit.place);
                notes(&path, findings);
                let parts = [filter.requests.clone(), rule.condition.clone(), variant.condition.clone()];
                let when = Condition::all(parts.into_iter().chain([path.condition.clone()]));
                add(&mut items, item(domain, path, when, rule), rule, findings);
            }
        }
    }
    items
}

fn item<'a>(domain: &Domain, path: Path<'a>, when: Condition, rule: &'a Rule) -> Item<'a> {
    let text = text_of(&path.nodes);
    let comments = vec![
        format!("{}: {text} of the domain {}", path.limit.place, domain.name),
        format!("descriptor of {}", rule.place),
    ];
    let wanted = if path.limit.name.is_empty() { text.clone() } else { path.limit.name.clone() };
    Item {
        identity: format!("{}|{text}|{:?}|{}", domain.name, path.descriptor, rule.hits_addend),
        limit: path.limit,
        wanted,
        when,
        descriptor: path.descriptor,
        hits_addend: rule.hits_addend,
        comments,
        rules: vec![rule],
    }
}

/// Adds a limit, or widens the one that has the same counters.
fn add<'a>(items: &mut Vec<Item<'a>>, item: Item<'a>, rule: &Rule, findings: &mut Findings) {
    let same_node = items.iter().any(|known| known.limit.place == item.limit.place);
    match items.iter_mut().find(|known| known.identity == item.identity) {
        Some(known) => {
            if known.rules.iter().any(|other| other.list == rule.list) {
                let help = "ratelimit counts a request of both rules twice, Weir once";
                findings.add_at(finding::SHARED_COUNTER, rule.place.clone(), "two rules with one counter", help);
            }
            known.when = Condition::any([known.when.clone(), item.when]);
            known.comments.extend(item.comments.into_iter().skip(1));
            known.comments.dedup();
            known.rules.extend(item.rules);
        }
        None => {
            if same_node {
                let help = "the rules take the value from different places, or cost differently: in ratelimit, they \
                            share counters; in Weir, each is a limit of its own";
                let place = item.limit.place.clone();
                findings.add_at(finding::SHARED_COUNTER, place, "a limit of several descriptors", help);
            }
            items.push(item);
        }
    }
}

fn notes(path: &Path<'_>, findings: &mut Findings) {
    if path.has_siblings && path.limit.rate.is_some() {
        let help = "the limit does not apply where a more specific sibling does: predicates with `not` say so";
        findings.add_at(finding::SPECIFIC, path.limit.place.clone(), "siblings take requests away", help);
    }
    if !path.limit.replaces.is_empty() {
        let help = "each replaced limit has the conditions of the replacing one as an exemption";
        findings.add_at(finding::REPLACES, path.limit.place.clone(), "replaces is an exemption", help);
    }
    if path.limit.rate.is_some_and(|rate| rate.max_requests == 0) {
        let help = "both deny every request of the limit";
        findings.add_at(finding::ZERO, path.limit.place.clone(), "a limit of 0", help);
    }
}

/// The limits of a filter: items with a rate, without the requests that others replace.
fn limits(items: &[Item<'_>], names: &mut Names, findings: &mut Findings) -> Vec<Limit> {
    let mut limits = Vec::new();
    for item in items {
        let Some(rate) = item.limit.rate else { continue };
        let replacing =
            items.iter().filter(|other| !item.limit.name.is_empty() && other.limit.replaces.contains(&item.limit.name));
        let own = item.when.parts();
        let exempt: Vec<Condition> = replacing.map(|other| applies(other).without(&own)).collect();
        if exempt.contains(&Condition::Always) {
            let help = "another limit replaces it for all requests";
            findings.add_at(finding::REPLACES, item.limit.place.clone(), "a limit that never applies", help);
            continue;
        }
        limits.push(Limit {
            name: names.of(&item.identity, &item.wanted),
            place: item.limit.place.clone(),
            comments: item.comments.clone(),
            when: item.when.clone(),
            exempt,
            descriptor: item.descriptor.clone(),
            rates: vec![rate],
            hits_addend: item.hits_addend,
            shadow_mode: item.limit.shadow_mode,
        });
    }
    limits
}

/// The condition that a limit applies: its own, and a value for each entry.
fn applies(item: &Item<'_>) -> Condition {
    Condition::all([item.when.clone()].into_iter().chain(item.descriptor.iter().map(Entry::is_present)))
}

fn text_of(nodes: &[&Node]) -> String {
    let step = |node: &&Node| match &node.value {
        Some(value) => format!("{}_{value}", node.key),
        None => node.key.clone(),
    };
    nodes.iter().map(step).collect::<Vec<_>>().join(".")
}

/// Reports limits that no rule leads to; one finding for a domain that no filter or rule has.
fn unreached(domain: &Domain, filters: &[Filter], envoy: &Envoy, reached: &[&Place], findings: &mut Findings) {
    let has_rules = filters.iter().any(|filter| {
        envoy.rules_of(filter).any(|rule| *rule.domain.as_ref().unwrap_or(&filter.domain) == domain.name)
    });
    if !has_rules {
        let help = "the file says how descriptors are called, not where they come from: give the Envoy file with the \
                    ratelimit filter and the `rate_limits` of its routes as well";
        let what = format!("no rate_limits of Envoy for the domain {}", domain.name);
        return findings.add_at(finding::NO_SOURCE, domain.place.clone(), what, help);
    }
    let mut rest: Vec<&Node> = domain.nodes.iter().collect();
    while let Some(node) = rest.pop() {
        rest.extend(&node.nodes);
        if let Some(limit) =
            node.limit.as_ref().filter(|limit| limit.rate.is_some() && !reached.contains(&&limit.place))
        {
            let help = "no translated rule of Envoy makes this descriptor, with this number of entries";
            findings.add_at(finding::UNREACHED, limit.place.clone(), "a limit that no request has", help);
        }
    }
}

//! Virtual hosts and routes: the requests of each `rate_limits` as a condition.

use super::actions::{self, Site};
use super::matcher::{self, Matched};
use super::{Envoy, domains};
use crate::documents::{At, Message};
use crate::import::condition::{Condition, Test};
use crate::import::finding::{self, Findings};
use crate::import::source::Source;

/// Fields of a route's match without a counterpart.
const UNTRANSLATED: [&str; 7] = [
    "connect_matcher",
    "path_match_policy",
    "runtime_fraction",
    "grpc",
    "tls_context",
    "dynamic_metadata",
    "filter_state",
];

/// Instruction about `rate_limits` at a place that is not read.
const BY_HAND: &str = "it holds for all requests of this place without a RateLimitPerRoute of their own: copy it to \
                       their routes or virtual hosts, or add these limits by hand";

/// `rate_limits` of a virtual host or route, and how those of the virtual host take part.
struct Own<'a> {
    items: Vec<At<'a>>,
    domain: Option<String>,
    virtual_hosts: Inherited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inherited {
    /// Only if the route has none.
    Override,
    Include,
    Ignore,
}

/// Route with its match; the error says what in it has no counterpart.
struct Route<'a> {
    at: At<'a>,
    matched: Matched,
    own: Own<'a>,
}

/// Reads a `RouteConfiguration`.
pub(super) fn read(at: &At<'_>, scope: Option<usize>, envoy: &mut Envoy, findings: &mut Findings) {
    if let Some(at) = per_route(at) {
        findings.add(finding::ROUTE, &at, "RateLimitPerRoute of a whole route configuration", BY_HAND);
    }
    let hosts = at.each("virtual_hosts");
    let texts = |host: &At<'_>| -> Vec<String> {
        host.each("domains").iter().filter_map(|at| at.text()).map(str::to_owned).collect()
    };
    let all: Vec<String> = hosts.iter().flat_map(texts).collect();
    for host in &hosts {
        let condition = domains::of_host(&texts(host), &all);
        virtual_host(host, &condition, scope, envoy, findings);
    }
}

fn virtual_host(host: &At<'_>, domains: &Condition, scope: Option<usize>, envoy: &mut Envoy, findings: &mut Findings) {
    let routes: Vec<Route<'_>> = host
        .each("routes")
        .into_iter()
        .map(|at| Route {
            matched: at.field("match").map_or(Ok(Condition::Always), |at| route_match(&at)),
            own: own(&at, at.field("route").as_ref()),
            at,
        })
        .collect();
    for cluster in routes.iter().filter_map(|route| route.at.fields(["route", "weighted_clusters"])) {
        for at in cluster.each("clusters").iter().filter_map(per_route) {
            findings.add(finding::ROUTE, &at, "RateLimitPerRoute of a weighted cluster", BY_HAND);
        }
    }
    let matches: Vec<Matched> = routes.iter().map(|route| route.matched.clone()).collect();
    let of_host = own(host, Some(host));
    let (mut inherited, mut excluded) = (Vec::new(), Vec::new());
    for (index, route) in routes.iter().enumerate() {
        let has_own = !route.own.items.is_empty();
        let inherits = match route.own.virtual_hosts {
            Inherited::Override => !has_own,
            Inherited::Include => true,
            Inherited::Ignore => false,
        };
        if !has_own && of_host.items.is_empty() {
            continue;
        }
        let condition = effective(&matches, index);
        let condition = match condition {
            Ok(condition) => condition,
            Err(what) => {
                let help = "add a limit for this route by hand, with predicates of `when` that select its requests";
                findings.add(finding::ROUTE, &route.at, format!("a route with {what}"), help);
                continue;
            }
        };
        if has_own {
            let condition = Condition::all([domains.clone(), condition.clone()]);
            let domain = route.own.domain.clone();
            let site = Site { scope, is_of_filter: false, domain, condition };
            actions::rules(&route.own.items, &site, envoy, findings);
        }
        if inherits { inherited.push(condition) } else { excluded.push(condition) }
    }
    if of_host.items.is_empty() {
        return;
    }
    let any = inherited_requests(&routes, &excluded, inherited);
    let condition = Condition::all([domains.clone(), any]);
    let site = Site { scope, is_of_filter: false, domain: of_host.domain, condition };
    actions::rules(&of_host.items, &site, envoy, findings);
}

/// The requests of the routes that have the rules of the virtual host. The routes that have not are `excluded`.
fn inherited_requests(routes: &[Route<'_>], excluded: &[Condition], inherited: Vec<Condition>) -> Condition {
    let takes_all = routes.iter().any(|route| route.matched == Ok(Condition::Always));
    let is_known = excluded.len().saturating_add(inherited.len()) == routes.len();
    match (takes_all && is_known, routes.is_empty()) {
        (true, _) => Condition::not(Condition::any(excluded.iter().cloned())),
        (false, true) => Condition::Always,
        (false, false) if excluded.is_empty() && is_known => {
            // Which of the matching routes is the first does not matter.
            Condition::any(routes.iter().filter_map(|route| route.matched.clone().ok()))
        }
        (false, false) => Condition::any(inherited),
    }
}

/// The requests of a route, by the matches of all: those of its match that no earlier route has.
pub(super) fn effective(matches: &[Matched], index: usize) -> Matched {
    let Some(own) = matches.get(index).cloned().transpose()? else { return Ok(Condition::Never) };
    let mut parts = vec![own.clone()];
    for earlier in matches.iter().take(index) {
        match earlier {
            Ok(earlier) if are_disjoint(earlier, &own) => {}
            Ok(earlier) => parts.push(Condition::not(earlier.clone())),
            Err(what) => return Err(format!("an earlier route with {what}")),
        }
    }
    Ok(Condition::all(parts))
}

/// Whether no path satisfies both conditions, as far as one sees by prefixes.
fn are_disjoint(one: &Condition, other: &Condition) -> bool {
    let path = |condition: &Condition| {
        condition.parts().into_iter().find_map(|part| match part {
            Condition::Value(Source::Path, Test::Exact(text)) => Some((text, true)),
            Condition::Value(Source::Path, Test::Prefix(text)) => Some((text, false)),
            _ => None,
        })
    };
    let (Some((one, is_one)), Some((other, is_other))) = (path(one), path(other)) else { return false };
    match (is_one, is_other) {
        (true, true) => one != other,
        (true, false) => !one.starts_with(&other),
        (false, true) => !other.starts_with(&one),
        (false, false) => !one.starts_with(&other) && !other.starts_with(&one),
    }
}

/// A `RouteMatch` as a condition.
pub(super) fn route_match(at: &At<'_>) -> Matched {
    if let Some(name) = UNTRANSLATED.into_iter().find(|name| at.field(name).is_some()) {
        return Err(format!("{name} in its match"));
    }
    let is_insensitive = at.field("case_sensitive").is_some_and(|at| at.flag() == Some(false));
    let text = |name: &str| at.field(name).and_then(|at| at.text());
    let path = |test: Test| Condition::Value(Source::Path, test);
    let mut parts = Vec::new();
    if let Some(prefix) = text("prefix").filter(|prefix| !prefix.is_empty() && *prefix != "/") {
        parts.push(path(Test::Prefix(prefix.to_owned())));
    }
    if let Some(exact) = text("path") {
        parts.push(path(Test::Exact(exact.to_owned())));
    }
    if let Some(prefix) = text("path_separated_prefix") {
        let below = path(Test::Prefix(format!("{prefix}/")));
        parts.push(Condition::any([path(Test::Exact(prefix.to_owned())), below]));
    }
    if let Some(regex) = at.fields(["safe_regex", "regex"]).and_then(|at| at.text()) {
        parts.push(path(Test::Regex(regex.to_owned())));
    }
    if is_insensitive && !parts.is_empty() {
        return Err("case_sensitive: false in its match".to_owned());
    }
    parts.push(matcher::all(&at.each("headers"), matcher::header)?);
    parts.push(matcher::all(&at.each("query_parameters"), matcher::query_parameter)?);
    Ok(Condition::all(parts))
}

/// The `rate_limits` of an object: in `RateLimitPerRoute`, or in its action.
pub(super) fn own_items<'a>(at: &At<'a>, action: Option<&At<'a>>) -> (Vec<At<'a>>, Option<String>) {
    let own = own(at, action);
    (own.items, own.domain)
}

/// The `RateLimitPerRoute` of an object, alone or in a `FilterConfig`.
fn per_route<'a>(at: &At<'a>) -> Option<At<'a>> {
    at.field("typed_per_filter_config")?.entries().find_map(|(_, at)| {
        let message = Message::of(&at)?;
        let message = match message.short_name() {
            "FilterConfig" => Message::of(&message.body.field("config")?)?,
            _ => message,
        };
        (message.short_name() == "RateLimitPerRoute").then_some(message.body)
    })
}

fn own<'a>(at: &At<'a>, action: Option<&At<'a>>) -> Own<'a> {
    let per_route = per_route(at);
    let of_action = action.map(|at| at.each("rate_limits")).unwrap_or_default();
    let includes = action.is_some_and(|at| at.is_set("include_vh_rate_limits"));
    let Some(per_route) = per_route else {
        let virtual_hosts = if includes { Inherited::Include } else { Inherited::Override };
        return Own { items: of_action, domain: None, virtual_hosts };
    };
    let of_route = per_route.each("rate_limits");
    let inherited = per_route.field("vh_rate_limits").and_then(|at| at.one_of(&["OVERRIDE", "INCLUDE", "IGNORE"]));
    Own {
        items: if of_route.is_empty() { of_action } else { of_route },
        domain: Some(per_route.text_of("domain")).filter(|domain| !domain.is_empty()).map(str::to_owned),
        virtual_hosts: match inherited {
            Some(1) => Inherited::Include,
            Some(2) => Inherited::Ignore,
            _ if includes => Inherited::Include,
            _ => Inherited::Override,
        },
    }
}

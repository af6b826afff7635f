//! Connection managers, route configurations, ratelimit filters and EnvoyFilters in documents.

use super::actions::{self, Site};
use super::{Envoy, domains, filter, routes};
use crate::documents::{At, Message};
use crate::import::condition::Condition;
use crate::import::finding::{self, Findings};

/// Reads a document, whatever it is.
pub(in crate::import) fn read(root: &At<'_>, envoy: &mut Envoy, findings: &mut Findings) {
    if root.text_of("kind") == "EnvoyFilter" {
        for patch in root.field("spec").iter().flat_map(|spec| spec.each("configPatches")) {
            envoy_filter(&patch, envoy, findings);
        }
        return;
    }
    if let Some(items) = root.field("rate_limits") {
        let site = Site { scope: None, is_of_filter: false, domain: None, condition: Condition::Always };
        actions::rules(&items.items(), &site, envoy, findings);
        return;
    }
    walk(root, None, envoy, findings);
}

fn walk(at: &At<'_>, scope: Option<usize>, envoy: &mut Envoy, findings: &mut Findings) {
    match Message::of(at) {
        Some(message) if message.short_name() == "HttpConnectionManager" => {
            let scope = Some(envoy.next_scope());
            return message.body.children().iter().for_each(|at| walk(at, scope, envoy, findings));
        }
        Some(message) if is_ratelimit_filter(&message) => return filter_at(&message.body, scope, envoy, findings),
        // The limits of one proxy alone stay with Envoy.
        Some(message) if message.short_name() == "LocalRateLimit" => return,
        _ => {}
    }
    if at.is_object() && at.field("virtual_hosts").is_some() {
        return routes::read(at, scope, envoy, findings);
    }
    at.children().iter().for_each(|at| walk(at, scope, envoy, findings));
}

fn is_ratelimit_filter(message: &Message<'_>) -> bool {
    message.short_name() == "RateLimit" && message.name.contains("filters.http.ratelimit")
}

fn filter_at(at: &At<'_>, scope: Option<usize>, envoy: &mut Envoy, findings: &mut Findings) {
    // Rules of a filter are found by its scope.
    let own = at.each("rate_limits");
    let scope = if own.is_empty() { scope } else { scope.or_else(|| Some(envoy.next_scope())) };
    let filter = filter::read(at, scope, findings);
    if filter.domain.is_empty() {
        return findings.add(finding::INVALID, at, "a ratelimit filter without `domain`", "Envoy refuses it");
    }
    if !own.is_empty() {
        let site = Site { scope, is_of_filter: true, domain: None, condition: Condition::Always };
        actions::rules(&own, &site, envoy, findings);
    }
    let is_known = envoy
        .filters
        .iter()
        .any(|known| known.domain == filter.domain && known.stage == filter.stage && known.scope == filter.scope);
    if !is_known {
        envoy.filters.push(filter);
    }
}

/// A patch of Istio's EnvoyFilter.
fn envoy_filter(patch: &At<'_>, envoy: &mut Envoy, findings: &mut Findings) {
    let Some(value) = patch.fields(["patch", "value"]) else { return };
    match patch.text_of("applyTo") {
        "VIRTUAL_HOST" => {
            let (items, domain) = routes::own_items(&value, Some(&value));
            let condition = virtual_host(patch);
            let site = Site { scope: None, is_of_filter: false, domain, condition };
            if patched(&items, &site, envoy, findings) {
                envoy.patched_hosts.push((host_name(patch).to_owned(), envoy.lists));
            }
        }
        "HTTP_ROUTE" => {
            let (items, domain) = routes::own_items(&value, value.field("route").as_ref());
            if items.is_empty() {
                return;
            }
            if let Some(named) = named_route(patch, envoy, findings) {
                let condition = Condition::all([virtual_host(patch), named.clone()]);
                if !value.field("route").is_some_and(|route| route.is_set("include_vh_rate_limits")) {
                    envoy.patched_routes.push((host_name(patch).to_owned(), named));
                }
                let site = Site { scope: None, is_of_filter: false, domain, condition };
                patched(&items, &site, envoy, findings);
            }
        }
        "ROUTE_CONFIGURATION" => routes::read(&value, None, envoy, findings),
        _ => walk(&value, None, envoy, findings),
    }
}

/// Adds a list, if there is one.
fn patched(items: &[At<'_>], site: &Site, envoy: &mut Envoy, findings: &mut Findings) -> bool {
    if !items.is_empty() {
        actions::rules(items, site, envoy, findings);
    }
    !items.is_empty()
}

/// Name of the virtual host that a patch matches; empty for all.
fn host_name<'a>(patch: &At<'a>) -> &'a str {
    let name = patch.fields(["match", "routeConfiguration", "vhost", "name"]);
    name.and_then(|at| at.text()).unwrap_or_default()
}

/// Requests of the route that a patch names; all requests if it names none.
fn named_route(patch: &At<'_>, envoy: &Envoy, findings: &mut Findings) -> Option<Condition> {
    let Some(at) = patch.fields(["match", "routeConfiguration", "vhost", "route", "name"]) else {
        return Some(Condition::Always);
    };
    let name = at.text().unwrap_or_default();
    match envoy.named_routes.iter().find(|(known, _)| known == name) {
        Some((_, Ok(condition))) => return Some(condition.clone()),
        Some((_, Err(what))) => {
            let help = "add a limit for this route by hand, with predicates of `when` that select its requests";
            findings.add(finding::ROUTE, &at, format!("a route with {what}"), help);
        }
        None => {
            let help = "give the VirtualService with this route as well, or select its requests in `when` by hand";
            findings.add(finding::ROUTE, &at, "rate_limits of a route by its name", help);
        }
    }
    None
}

/// Requests of the virtual host that a patch matches: Istio names them `HOST:PORT`, or `inbound|http|PORT`.
fn virtual_host(patch: &At<'_>) -> Condition {
    let name = Some(host_name(patch)).filter(|name| !name.is_empty() && !name.contains('|'));
    let host = name.map(|name| name.rsplit_once(':').map_or(name, |(host, _)| host));
    host.map_or(Condition::Always, domains::alone)
}

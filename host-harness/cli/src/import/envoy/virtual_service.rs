//! Routes of Istio's VirtualServices by their names, which EnvoyFilters refer to.

use super::matcher::Matched;
use super::{Envoy, domains, routes};
use crate::documents::At;
use crate::import::condition::{Condition, Test};
use crate::import::scalar;
use crate::import::source::Source;

/// Fields of a match without a counterpart.
const UNTRANSLATED: [&str; 5] = ["ignoreUriCase", "sourceLabels", "sourceNamespace", "port", "scheme"];

/// Adds the named routes of a VirtualService.
pub(in crate::import) fn read(root: &At<'_>, envoy: &mut Envoy) {
    let Some(spec) = root.field("spec") else { return };
    let hosts: Vec<String> = spec.each("hosts").iter().filter_map(scalar).collect();
    let hosts = Condition::any(hosts.iter().map(|host| domains::alone(host)));
    let all = spec.each("http");
    let matches: Vec<Matched> = all.iter().map(route).collect();
    for (index, at) in all.iter().enumerate() {
        if let Some(name) = at.field("name").and_then(|at| scalar(&at)) {
            let requests = routes::effective(&matches, index);
            let requests = requests.map(|requests| Condition::all([hosts.clone(), requests]));
            envoy.named_routes.push((name, requests));
        }
    }
}

/// The matches of a route, of which one must hold.
fn route(at: &At<'_>) -> Matched {
    let items = at.each("match");
    if items.is_empty() {
        return Ok(Condition::Always);
    }
    Ok(Condition::any(items.iter().map(item).collect::<Result<Vec<_>, _>>()?))
}

fn item(at: &At<'_>) -> Matched {
    if let Some(name) = UNTRANSLATED.into_iter().find(|name| at.field(name).is_some()) {
        return Err(format!("{name} in its match"));
    }
    let mut parts = Vec::new();
    for (field, source) in
        [("uri", Source::Path), ("method", Source::Method), ("authority", Source::Header(":authority".to_owned()))]
    {
        if let Some(at) = at.field(field) {
            parts.push(value(&at, source)?);
        }
    }
    for (field, source) in [("headers", Source::header as fn(&str) -> Source), ("queryParams", query)] {
        for (name, at) in at.field(field).iter().flat_map(At::entries) {
            parts.push(value(&at, source(name))?);
        }
    }
    for (name, at) in at.field("withoutHeaders").iter().flat_map(At::entries) {
        parts.push(Condition::not(value(&at, Source::header(name))?));
    }
    Ok(Condition::all(parts))
}

fn query(name: &str) -> Source {
    Source::Query(name.to_owned())
}

/// A `StringMatch`; an empty one is for any value.
fn value(at: &At<'_>, source: Source) -> Matched {
    let text = |name: &str| at.field(name).and_then(|at| scalar(&at));
    let test = match (text("exact"), text("prefix"), text("regex")) {
        (Some(exact), ..) => Test::Exact(exact),
        (_, Some(prefix), _) if source == Source::Path && prefix == "/" => return Ok(Condition::Always),
        (_, Some(prefix), _) => Test::Prefix(prefix),
        (.., Some(regex)) => Test::Regex(regex),
        _ if at.entries().next().is_none() => return Ok(source.is_present()),
        _ => return Err("a match of another kind".to_owned()),
    };
    Ok(Condition::Value(source, test))
}

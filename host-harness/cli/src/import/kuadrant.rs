//! Kuadrant's RateLimitPolicy.

use super::cel::{self, Operand};
use super::condition::Condition;
use super::finding::{self, Findings, Place};
use super::limitador::window_start;
use super::plan::{Configuration, Limit, Names, Rate, Settings};
use super::source::{Entry, Source};
use super::target;
use crate::documents::At;

/// Configuration of a policy.
pub(super) fn read(root: &At<'_>, names: &mut Names, findings: &mut Findings) -> Option<Configuration> {
    let spec = root.field("spec")?;
    let policy = target::name(root);
    let proper = ["defaults", "overrides"].into_iter().find_map(|field| spec.field(field)).unwrap_or(spec.clone());
    if proper.text_of("strategy") == "merge" {
        let help = "the result has the limits of this policy alone; limits of other policies for the same routes are \
                    not merged";
        findings.add(finding::MERGED_POLICY, &proper, "a policy that is merged with others", help);
    }
    let (_, has_gateway) = target::targets(&spec);
    let help = match has_gateway {
        true => {
            "Kuadrant counts each HTTPRoute of a gateway apart: give each its own Weir filter with names or a \
                 `key_prefix` of its own, or let all share the limits"
        }
        false => "Weir limits all requests of its filter: attach it to this route alone, or add predicates to `when`",
    };
    let targets = target::by_hand(&spec, help, findings);
    let above = condition(&proper.each("when"), findings)?;
    let mut limits = Vec::new();
    for (name, at) in proper.field("limits").iter().flat_map(At::entries) {
        limits.extend(limit(&policy, name, &at, &above, names, findings));
    }
    let first = limits.first()?;
    window_start(&first.place, findings);
    let title = vec![
        format!("From {}: RateLimitPolicy {policy}, for {targets}.", Place::of(root)),
        "Put the cluster of Redis behind `redis.cluster`.".to_owned(),
    ];
    let settings = Settings { headers: Some(Vec::new()), ..Settings::default() };
    Some(Configuration { title, settings, limits })
}

fn limit(
    policy: &str,
    name: &str,
    at: &At<'_>,
    above: &Condition,
    names: &mut Names,
    findings: &mut Findings,
) -> Option<Limit> {
    let place = Place::of(at);
    if let Some(selectors) = at.field("routeSelectors") {
        let help = "write the limit by hand, with predicates for the selected routes";
        findings.add(finding::ROUTE, &selectors, "routeSelectors of an older RateLimitPolicy", help);
        return None;
    }
    let own = condition(&at.each("when"), findings)?;
    let when = Condition::all([above.clone(), own]);
    if when == Condition::Never {
        findings.add(finding::UNREACHED, at, "a limit whose conditions never hold", "it is left out");
        return None;
    }
    let mut descriptor = Vec::new();
    for counter in at.each("counters") {
        descriptor.push(Entry::of(entry(&counter, findings)?));
    }
    let rates: Vec<Rate> = at.each("rates").iter().map(|at| rate(at, findings)).collect::<Option<_>>()?;
    if rates.is_empty() {
        findings.add(finding::INVALID, at, "a limit without rates", "Kuadrant limits nothing by it");
        return None;
    }
    Some(Limit {
        name: names.of(&format!("kuadrant|{policy}|{name}"), name),
        comments: vec![format!("{place}: limit {name} of the RateLimitPolicy {policy}")],
        place,
        when,
        exempt: Vec::new(),
        descriptor,
        rates: Rate::strictest(rates),
        hits_addend: 1,
        shadow_mode: false,
    })
}

fn rate(at: &At<'_>, findings: &mut Findings) -> Option<Rate> {
    let max_requests = at.field("limit").and_then(|at| at.integer());
    // Kuadrant counts in whole seconds.
    let window = at.text_of("window").parse::<Window>().ok().map(|window| window.0 / 1_000);
    let units = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400)];
    let unit = units.into_iter().find(|(name, _)| *name == at.text_of("unit")).map(|(_, seconds)| seconds);
    let older = at.field("duration").and_then(|at| at.integer()).zip(unit);
    let seconds = window.or_else(|| older.and_then(|(duration, unit)| duration.checked_mul(unit)));
    match (max_requests, seconds.filter(|seconds| *seconds > 0)) {
        (Some(max_requests), Some(seconds)) => Some(Rate { max_requests, seconds }),
        _ => {
            let help = "expected `limit` and a `window` such as 10s or 1h30m, of a second or more";
            findings.add(finding::INVALID, at, "a rate without a limit or a window", help);
            None
        }
    }
}

/// Milliseconds of a duration of the Gateway API, such as `1h30m`.
struct Window(u64);

impl std::str::FromStr for Window {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (mut rest, mut sum) = (text, 0_u64);
        while !rest.is_empty() {
            let (digits, after) = rest.split_at(rest.find(|it: char| !it.is_ascii_digit()).ok_or(())?);
            let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
            let (unit, length) = units.into_iter().find(|(name, _)| after.starts_with(name)).ok_or(())?;
            let part = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(length)).ok_or(())?;
            sum = sum.checked_add(part).ok_or(())?;
            rest = after.get(unit.len()..).unwrap_or_default();
        }
        if text.is_empty() { Err(()) } else { Ok(Self(sum)) }
    }
}

/// All items of a `when` list.
fn condition(items: &[At<'_>], findings: &mut Findings) -> Option<Condition> {
    items.iter().map(|at| predicate(at, findings)).collect::<Option<Vec<_>>>().map(Condition::all)
}

/// A predicate, or the older form of selector, operator and value.
fn predicate(at: &At<'_>, findings: &mut Findings) -> Option<Condition> {
    let text = match at.text_of("selector") {
        "" => at.field("predicate").and_then(|at| at.text()).or(at.text()).unwrap_or_default().to_owned(),
        selector => {
            let value = format!("'{}'", at.text_of("value").replace('\\', "\\\\").replace('\'', "\\'"));
            match at.text_of("operator") {
                "eq" => format!("{selector} == {value}"),
                "neq" => format!("{selector} != {value}"),
                "startswith" => format!("{selector}.startsWith({value})"),
                "endswith" => format!("{selector}.endsWith({value})"),
                "matches" => format!("{selector}.matches({value})"),
                _ => String::new(),
            }
        }
    };
    let is_spelled = text.contains("request.host");
    let converted = cel::parse(&text).ok_or_else(|| "an expression beyond the subset".to_owned());
    match converted.and_then(|expression| cel::condition(&expression, &operand)) {
        Ok(condition) => {
            if is_spelled {
                let help = "Weir compares hosts in lower case and without a port, Kuadrant as the client writes them";
                findings.add(finding::SPELLING, at, "a host in one spelling", help);
            }
            Some(condition)
        }
        Err(what) => {
            let help = "the limit is left out: write it by hand";
            findings.add(finding::EXPRESSION, at, format!("a condition with {what}"), help);
            None
        }
    }
}

fn entry(at: &At<'_>, findings: &mut Findings) -> Option<Source> {
    let text = at.field("expression").and_then(|at| at.text()).or(at.text()).unwrap_or_default();
    let found = match cel::parse(text) {
        Some(cel::Expression::Path(path)) => operand(&path),
        _ => Err("an expression that is no attribute".to_owned()),
    };
    match found {
        Ok(Operand::Value(source)) => Some(source),
        Ok(_) => None,
        Err(what) => {
            let help = "the limit is left out: write it by hand, for example with a claim (`dynamic_metadata`)";
            findings.add(finding::EXPRESSION, at, format!("a counter by {what}"), help);
            None
        }
    }
}

/// The value of a well-known attribute.
fn operand(path: &[String]) -> Result<Operand, String> {
    let header = |name: &str| Ok(Operand::Value(Source::header(name)));
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    Ok(Operand::Value(match steps.as_slice() {
        ["request", "method"] => Source::Method,
        ["request", "url_path"] => Source::Path,
        ["request", "path"] => return header(":path"),
        ["request", "host"] => Source::Host,
        ["request", "scheme"] => Source::Scheme,
        ["request", "useragent"] => return header("user-agent"),
        ["request", "referer"] => return header("referer"),
        ["request", "id"] => return header("x-request-id"),
        ["request", "headers"] => return Ok(Operand::Headers),
        ["request", "headers", name] => return header(name),
        ["source", "remote_address"] => Source::RemoteAddress,
        ["metadata", "filter_metadata", key, rest @ ..] if !rest.is_empty() => {
            Source::Metadata { key: (*key).to_owned(), path: rest.iter().map(|step| (*step).to_owned()).collect() }
        }
        ["auth", ..] => return Err("auth, which Authorino sets".to_owned()),
        ["source", "address"] => return Err("source.address, which has the port as well".to_owned()),
        steps => return Err(format!("the attribute {}", steps.join("."))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_units() {
        let of = |text: &str| text.parse::<Window>().ok().map(|window| window.0);
        assert_eq!(of("1h30m"), Some(5_400_000));
        assert_eq!([of("10s"), of("500ms"), of("1m1ms")], [Some(10_000), Some(500), Some(60_001)]);
        assert_eq!([of(""), of("10"), of("1d"), of("s"), of("99999999999999999999s")], [None; 5]);
    }
}

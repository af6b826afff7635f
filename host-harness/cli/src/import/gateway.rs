//! Envoy Gateway's BackendTrafficPolicy: global rate limits.

use super::condition::{Condition, Test};
use super::finding::{self, Findings, Place};
use super::plan::{Configuration, Limit, Names, Rate, Settings};
use super::scalar;
use super::source::{Entry, Source};
use super::target;
use crate::documents::At;

const UNITS: [(&str, u64); 7] = [
    ("Second", 1),
    ("Minute", 60),
    ("Hour", 3_600),
    ("Day", 86_400),
    ("Week", 604_800),
    ("Month", 2_592_000),
    ("Year", 31_536_000),
];
/// Names of the option for response headers of a rule.
const HEADER_OPTIONS: [&str; 3] = ["xRateLimit", "xRateLimitHeaders", "xRateLimitOption"];

/// Selectors of a rule: its condition, and the entries of `Distinct` ones.
#[derive(Default)]
struct Selected {
    conditions: Vec<Condition>,
    entries: Vec<Entry>,
}

/// Part of a rule without a counterpart, with its finding.
type Refusal<'a> = (finding::Rule, At<'a>, String, &'static str);

/// Configuration of a policy.
pub(super) fn read(root: &At<'_>, names: &mut Names, findings: &mut Findings) -> Option<Configuration> {
    let spec = root.field("spec")?;
    let policy = target::name(root);
    if let Some(local) = spec.fields(["rateLimit", "local"]) {
        let help = "leave it to Envoy: a limit of one proxy alone needs no Redis";
        findings.add(finding::KIND, &local, "a local rate limit", help);
    }
    let global = spec.fields(["rateLimit", "global"])?;
    if let Some(merge) = spec.field("mergeType") {
        let help = "the result has the limits of this policy alone";
        findings.add(finding::MERGED_POLICY, &merge, "a policy that is merged with that of its gateway", help);
    }
    let help = "attach Weir to the same target by an EnvoyExtensionPolicy";
    let targets = target::by_hand(&spec, help, findings);
    let rules = global.each("rules");
    let limits: Vec<Limit> = rules
        .iter()
        .enumerate()
        .filter_map(|(index, at)| {
            let is_shared = at.is_set("shared") || global.is_set("shared");
            match rule(&policy, index, at, is_shared, names, findings) {
                Ok(limit) => Some(limit),
                Err((rule, at, what, help)) => {
                    findings.add(rule, &at, what, help);
                    None
                }
            }
        })
        .collect();
    let first = limits.first()?;
    if limits.len() > 1 || first.hits_addend != 1 {
        let help = "Weir spends nothing for a denied request, Envoy Gateway counts it in each rule: Weir admits a \
                    request that Envoy Gateway denies because of denied ones";
        findings.add(finding::DENIED_COUNT, &global, "denied requests do not count", help);
    }
    let title = vec![
        format!("From {}: BackendTrafficPolicy {policy}, for {targets}.", Place::of(root)),
        "Put the cluster of Redis behind `redis.cluster`.".to_owned(),
    ];
    let settings = Settings { headers: Some(vec!["x-ratelimit"]), is_body_empty: true, ..Settings::default() };
    Some(Configuration { title, settings, limits })
}

fn rule<'a>(
    policy: &str,
    index: usize,
    at: &At<'a>,
    is_shared: bool,
    names: &mut Names,
    findings: &mut Findings,
) -> Result<Limit, Refusal<'a>> {
    let rate = rate(at, findings)?;
    let hits_addend = cost(at)?;
    if let Some(option) = HEADER_OPTIONS.into_iter().find_map(|name| at.field(name)) {
        let help = "set `response.headers` of this limit, as text of the policy says";
        findings.add(finding::HEADERS, &option, "response headers of one rule", help);
    }
    let mut selected = Selected::default();
    for selector in at.each("clientSelectors") {
        select(&selector, &mut selected)?;
    }
    let mut descriptor = Vec::new();
    if !is_shared {
        descriptor.push(Entry::of(Source::RouteName));
    }
    descriptor.extend(selected.entries);
    let name = at.field("name").and_then(|at| scalar(&at)).unwrap_or_else(|| {
        let policy = policy.rsplit('/').next().unwrap_or(policy);
        format!("{policy}.{index}")
    });
    let place = Place::of(at);
    Ok(Limit {
        name: names.of(&format!("gateway|{policy}|{index}"), &name),
        comments: vec![format!("{place}: rule {index} of the BackendTrafficPolicy {policy}")],
        place,
        when: Condition::all(selected.conditions),
        exempt: Vec::new(),
        descriptor,
        rates: vec![rate],
        hits_addend,
        shadow_mode: at.is_set("shadowMode"),
    })
}

fn rate<'a>(at: &At<'a>, findings: &mut Findings) -> Result<Rate, Refusal<'a>> {
    let Some(limit) = at.field("limit") else {
        return Err((finding::INVALID, at.clone(), "a rule without a limit".to_owned(), "Envoy Gateway refuses it"));
    };
    if let Some(from) = ["fromMetadata", "from"].into_iter().find_map(|name| limit.field(name)) {
        let help = "a number that the request carries can be `max_requests: {dynamic_metadata: …}`; write it by hand";
        return Err((finding::OVERRIDE, from, "a limit from metadata".to_owned(), help));
    }
    let unit = UNITS.into_iter().find(|(name, _)| *name == limit.text_of("unit"));
    let max_requests = limit.field("requests").and_then(|at| at.integer());
    let (Some((unit, seconds)), Some(max_requests)) = (unit, max_requests) else {
        let help = "expected `requests`, and Second, Minute, Hour, Day, Week, Month or Year as `unit`";
        return Err((finding::INVALID, limit, "a limit without requests or unit".to_owned(), help));
    };
    if matches!(unit, "Month" | "Year") {
        let help = "the result is equal: 30 or 365 days since 1970; for calendar months use `quota`";
        findings.add(finding::CALENDAR, &limit, format!("a {unit} is not the calendar's"), help);
    }
    if max_requests == 0 {
        let help = "Weir denies every request of it; before 2026-07, Envoy Gateway refused such a rule";
        findings.add(finding::ZERO, &limit, "a limit of 0", help);
    }
    Ok(Rate { max_requests, seconds })
}

fn cost<'a>(at: &At<'a>) -> Result<u64, Refusal<'a>> {
    let Some(cost) = at.field("cost") else { return Ok(1) };
    if let Some(response) = cost.field("response") {
        let help = "Weir counts when a request arrives; write a limit with `hits_addend` of the request by hand";
        return Err((finding::COST, response, "a cost of the response".to_owned(), help));
    }
    let Some(request) = cost.field("request") else { return Ok(1) };
    match request.field("number").and_then(|at| at.integer()) {
        Some(0) => {
            let help = "a request that spends nothing is never denied by Weir; leave the limit out";
            Err((finding::COST, request, "a cost of 0".to_owned(), help))
        }
        Some(number) => Ok(number),
        None => {
            let help = "Weir reads costs from a header, a query parameter or the body (`hits_addend`)";
            Err((finding::COST, request, "a cost from metadata".to_owned(), help))
        }
    }
}

fn select<'a>(at: &At<'a>, selected: &mut Selected) -> Result<(), Refusal<'a>> {
    for header in at.each("headers") {
        let name = header.text_of("name").to_owned();
        value(&header, Source::header(&name), Source::first_header(&name), selected)?;
    }
    for parameter in at.each("queryParams") {
        let source = Source::Query(parameter.text_of("name").to_owned());
        value(&parameter, source.clone(), source, selected)?;
    }
    let methods = at.each("methods");
    if !methods.is_empty() {
        let method =
            |at: &At<'_>| inverted(at, Condition::Value(Source::Method, Test::Exact(at.text_of("value").to_owned())));
        selected.conditions.push(Condition::any(methods.iter().map(method)));
    }
    if let Some(at) = at.field("path") {
        selected.conditions.push(inverted(&at, path(at.text_of("type"), at.text_of("value"))));
    }
    if let Some(source) = at.field("sourceCIDR") {
        // An older policy has the range alone.
        let range = source.text().unwrap_or_else(|| source.text_of("value"));
        let within = Source::RemoteAddress.within(range);
        selected.conditions.push(inverted(&source, within));
        if source.text_of("type") == "Distinct" {
            selected.entries.push(Entry::of(Source::RemoteAddress));
        }
    }
    Ok(())
}

/// A match of the path: a prefix of whole steps, or of the path with its query string.
fn path(kind: &str, text: &str) -> Condition {
    let with_query = || Source::Header(":path".to_owned());
    match kind {
        "Exact" => Condition::Value(with_query(), Test::Exact(text.to_owned())),
        "RegularExpression" => Condition::Value(with_query(), Test::Regex(text.to_owned())),
        _ => match text.trim_end_matches('/') {
            "" => Condition::Always,
            text => Condition::any([
                Condition::Value(Source::Path, Test::Exact(text.to_owned())),
                Condition::Value(Source::Path, Test::Prefix(format!("{text}/"))),
            ]),
        },
    }
}

/// A match of a header or query parameter: `joined` is what matchers read, `first` what counters read.
fn value<'a>(at: &At<'a>, joined: Source, first: Source, selected: &mut Selected) -> Result<(), Refusal<'a>> {
    let text = at.field("value").and_then(|at| scalar(&at)).unwrap_or_default();
    let test = match at.text_of("type") {
        "" | "Exact" => Test::Exact(text),
        "RegularExpression" => Test::Regex(text),
        "Distinct" => {
            selected.entries.push(Entry::of(first));
            return Ok(());
        }
        _ => {
            let help = "expected Exact, RegularExpression or Distinct";
            return Err((finding::INVALID, at.clone(), "a match of another type".to_owned(), help));
        }
    };
    selected.conditions.push(inverted(at, Condition::Value(joined, test)));
    Ok(())
}

fn inverted(at: &At<'_>, condition: Condition) -> Condition {
    if at.is_set("invert") { Condition::not(condition) } else { condition }
}

//! Equality with the originals: 100,000 random requests over virtual time, through the imported configuration on the
//! filter's own workers, and through a model of the original.
//!
//! Each difference must be of a named class. A second model differs from the original's in this class alone: Weir agrees
//! with it in every request.

use serde_json::Value;

use crate::model::{Hit, Limiter, Windows};
use crate::ratelimit_model::Ratelimit;
use crate::support::{files, import_in};
use crate::traffic::{Request, Traffic, Weir};

const REQUESTS: usize = 100_000;
const SEED: u64 = 17;
const PATHS: [&str; 8] = ["/", "/search", "/search/deep", "/static/a", "/orders", "/orders/7", "/orderly", "/cart"];
const TOYS: [&str; 5] = ["/toys", "/toys/1", "/toys/1/draft", "/health", "/other"];

/// Numbers of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Run {
    equal: usize,
    denied_by_both: usize,
    /// Denied by the original, which counts denied requests in their other limits, and admitted by Weir.
    denied_count: usize,
    /// Denied by one and admitted by the other, since windows begin at other times.
    window_start: usize,
}

/// The only configuration of an import.
fn imported(folder: &str, given: &[&str]) -> Value {
    let imported = import_in(&files().join(folder), given);
    assert!([0, 2].contains(&imported.code), "{folder}: {:?}", imported.findings);
    let [configuration] = imported.configurations().try_into().expect("one configuration");
    configuration
}

/// Sends the requests of a seed to Weir and to an original, which counts as `original` does.
fn run(
    name: &str,
    configuration: &Value,
    paths: &'static [&'static str],
    original: (Windows, bool),
    hits: impl Fn(&Request) -> Vec<Hit>,
) -> Run {
    let mut weir = Weir::new(configuration);
    let mut original = Limiter::new(original.0, original.1);
    let mut weirs_rules = Limiter::new(Windows::Aligned, false);
    let mut traffic = Traffic::new(SEED, paths);
    let mut run = Run::default();
    for number in 0..REQUESTS {
        let request = traffic.next();
        let hits = hits(&request);
        let (now, is_admitted) = weir.decide(&request);
        let expected = weirs_rules.decide(&hits, now).is_admitted;
        assert_eq!(is_admitted, expected, "{name}: request {number}: {request:?} hits {hits:?}");
        let decision = original.decide(&hits, now);
        if decision.is_admitted == is_admitted {
            run.equal += 1;
            run.denied_by_both += usize::from(!is_admitted);
        } else if original.windows == Windows::FirstHit {
            run.window_start += 1;
        } else {
            assert!(is_admitted && decision.is_by_denied, "{name}: request {number} differs without a reason");
            run.denied_count += 1;
        }
    }
    assert_eq!(weir.unknown(), [""; 0]);
    println!(
        "{name}: {REQUESTS} requests: {} decided equally ({} of them denied); differences: denied-count {}, \
         window-start {}, unexplained 0",
        run.equal, run.denied_by_both, run.denied_count, run.window_start
    );
    let row = format!(
        "| {name} | {} | {} | {} |",
        thousands(run.equal),
        thousands(run.denied_count),
        thousands(run.window_start)
    );
    let page = include_str!("../../../../docs/src/import.md");
    assert!(page.lines().any(|line| line == row), "docs/src/import.md has not the row {row}");
    assert!(run.denied_by_both > REQUESTS / 20 && run.equal > REQUESTS / 2, "the limits are at work: {run:?}");
    run
}

/// A number with commas between thousands.
fn thousands(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

#[test]
fn ratelimit_and_weir_differ_in_what_denied_requests_count_alone() {
    let read = |name: &str| std::fs::read_to_string(files().join("ratelimit").join(name)).unwrap();
    let model = Ratelimit::new(&read("ratelimit.yaml"), &read("envoy.yaml"));
    let configuration = imported("ratelimit", &["ratelimit.yaml", "envoy.yaml"]);
    let run =
        run("ratelimit, seven limits", &configuration, &PATHS, (Windows::Aligned, true), |request| model.hits(request));
    assert!(run.denied_count > 0 && run.window_start == 0);
}

/// Denied requests count in no other limit where each request has one limit alone.
#[test]
fn one_limit_of_ratelimit_is_decided_equally_in_every_request() {
    let ratelimit = "domain: one\ndescriptors:\n- key: user\n  rate_limit: {unit: minute, requests_per_unit: 9}\n";
    let read = std::fs::read_to_string(files().join("ratelimit/envoy.yaml")).unwrap();
    let rules = "              rate_limits:\n              - actions:\n                - request_headers: \
                 {header_name: x-user, descriptor_key: user}\n              routes:\n              - match: \
                 {prefix: \"/\"}\n                route: {cluster: shop}\n          http_filters:\n";
    let (before, rest) = read.split_once("              rate_limits:\n").unwrap();
    let (_, after) = rest.split_once("          http_filters:\n").unwrap();
    let envoy = format!("{before}{rules}{after}").replace("domain: shop", "domain: one");
    let imported = crate::support::import([("ratelimit.yaml", ratelimit), ("envoy.yaml", &envoy)]);
    assert_eq!((imported.code, imported.findings.len()), (0, 0), "{:?}", imported.findings);
    let model = Ratelimit::new(ratelimit, &envoy);
    let configuration = imported.configurations().remove(0);
    let run = run("ratelimit, one limit per request", &configuration, &PATHS, (Windows::Aligned, true), |request| {
        model.hits(request)
    });
    assert_eq!(run.equal, REQUESTS);
}

/// The rules of files/gateway/policy.yaml, as the documentation of Envoy Gateway describes them.
fn gateway_hits(request: &Request) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut hit = |key: String, max, seconds, cost, is_shadow| hits.push(Hit { key, max, seconds, cost, is_shadow });
    let route = request.route;
    if let Some(user) = request.header("x-user").filter(|_| request.header("x-plan").as_deref() != Some("admin")) {
        hit(format!("0/{route}/{user}"), 6, 60, 1, false);
    }
    if ["POST", "PUT"].contains(&request.method) && (request.path == "/orders" || request.path.starts_with("/orders/"))
    {
        hit("1".to_owned(), 15, 60, 2, false);
    }
    if request.address.starts_with("10.") {
        hit(format!("2/{route}/{}", request.address), 90, 3_600, 1, false);
    }
    if request.header("user-agent").as_deref() == Some("bot-1") {
        hit(format!("3/{route}"), 1, 2_592_000, 1, true);
    }
    hits
}

#[test]
fn envoy_gateway_and_weir_differ_in_what_denied_requests_count_alone() {
    let configuration = imported("gateway", &["policy.yaml"]);
    let run = run("Envoy Gateway, four rules", &configuration, &PATHS, (Windows::Aligned, true), gateway_hits);
    assert!(run.denied_count > 0 && run.window_start == 0);
}

/// The limits of files/kuadrant/policy.yaml but the one that is not translated.
fn kuadrant_hits(request: &Request) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut hit = |key: String, max, seconds| hits.push(Hit { key, max, seconds, cost: 1, is_shadow: false });
    if request.path == "/health" {
        return hits;
    }
    if let Some(user) = request.header("x-user") {
        hit(format!("per_user/{user}"), 5, 10);
        hit(format!("per_user/{user}"), 30, 120);
    }
    if ["POST", "DELETE"].contains(&request.method)
        && request.path.starts_with("/toys")
        && !request.path.ends_with("/draft")
    {
        hit("writes".to_owned(), 20, 30);
    }
    hits
}

#[test]
fn kuadrant_and_weir_differ_in_when_windows_begin_alone() {
    let configuration = imported("kuadrant", &["policy.yaml"]);
    let run =
        run("Kuadrant, two limits with three rates", &configuration, &TOYS, (Windows::FirstHit, false), kuadrant_hits);
    assert!(run.window_start > 0 && run.denied_count == 0);
}

/// The limits of files/limitador/limits.yaml for the descriptor of envoy.yaml.
fn limitador_hits(request: &Request) -> Vec<Hit> {
    let Some(user) = request.header("x-user").filter(|_| request.path.starts_with("/toys")) else { return Vec::new() };
    let hit = |key: String, max, seconds| vec![Hit { key, max, seconds, cost: 1, is_shadow: false }];
    match request.method {
        "GET" => hit(format!("reads/{user}"), 8, 10),
        _ => hit("writes".to_owned(), 25, 60),
    }
}

#[test]
fn limitador_and_weir_differ_in_when_windows_begin_alone() {
    let configuration = imported("limitador", &["limits.yaml", "envoy.yaml"]);
    let run = run("Limitador, two limits", &configuration, &TOYS, (Windows::FirstHit, false), limitador_hits);
    assert!(run.window_start > 0 && run.denied_count == 0);
}

//! Settings of the ratelimit filter.

use super::Filter;
use crate::documents::At;
use crate::import::condition::{Condition, Test};
use crate::import::finding::{self, Findings, Place};
use crate::import::plan::Settings;
use crate::import::source::Source;

/// Envoy's default of `timeout`.
const DEFAULT_TIMEOUT: &str = "0.02s";
/// Fields without a counterpart, and the reason.
const UNTRANSLATED: [(&str, &str); 4] = [
    ("failure_mode_deny_percent", "`failure_mode` is `allow` or `deny`, for all requests"),
    ("response_headers_to_add", "Weir adds only rate-limit headers; let a header_mutation filter add others"),
    ("stat_prefix", "Weir's counters have a `stat_prefix` of their own"),
    ("status_on_error", "its code is none from 400 to 599"),
];

/// Reads a filter. `at` is the message `envoy.extensions.filters.http.ratelimit.v3.RateLimit`.
pub(super) fn read(at: &At<'_>, scope: Option<usize>, findings: &mut Findings) -> Filter {
    let mut settings = Settings {
        timeout: Some(at.field("timeout").and_then(|at| at.text()).unwrap_or(DEFAULT_TIMEOUT).to_owned()),
        denies_on_failure: at.is_set("failure_mode_deny"),
        status: code(at, "rate_limited_status"),
        status_on_error: code(at, "status_on_error"),
        headers: Some(Vec::new()),
        is_body_empty: true,
        ..Settings::default()
    };
    if at.field("enable_x_ratelimit_headers").is_some_and(|at| at.one_of(&["OFF", "DRAFT_VERSION_03"]) == Some(1)) {
        settings.headers = Some(vec!["x-ratelimit"]);
    }
    if !at.is_set("rate_limited_as_resource_exhausted") {
        settings.grpc_status = Some("UNAVAILABLE");
    }
    for name in ["filter_enabled", "filter_enforced"] {
        settings.shadow_mode |= is_off(at, name, findings);
    }
    for (name, help) in UNTRANSLATED {
        let is_read = name == "status_on_error" && settings.status_on_error.is_some();
        if let Some(at) = at.field(name).filter(|_| !is_read) {
            findings.add(finding::FIELD, &at, format!("{name} has no counterpart"), help);
        }
    }
    let stage = at.field("stage").and_then(|at| at.integer()).unwrap_or_default();
    Filter {
        place: Place::of(at),
        domain: at.text_of("domain").to_owned(),
        stage,
        settings,
        scope,
        requests: requests(at),
        has_own_rules: !at.each("rate_limits").is_empty(),
    }
}

/// Requests of `request_type`, by the header that Envoy sets for internal ones.
fn requests(at: &At<'_>) -> Condition {
    let internal = Condition::Value(Source::Header("x-envoy-internal".to_owned()), Test::Exact("true".to_owned()));
    match at.text_of("request_type") {
        "internal" => internal,
        "external" => Condition::not(internal),
        _ => Condition::Always,
    }
}

/// A status from 400 to 599, as number or name.
fn code(at: &At<'_>, name: &str) -> Option<u64> {
    let code = at.fields([name, "code"])?;
    let named = match code.text().unwrap_or_default() {
        "TooManyRequests" => Some(429),
        "ServiceUnavailable" => Some(503),
        "Forbidden" => Some(403),
        "InternalServerError" => Some(500),
        _ => None,
    };
    named.or_else(|| code.integer()).filter(|code| (400..=599).contains(code))
}

/// Whether a fraction is 0 %; another one than 0 and 100 % has no counterpart.
fn is_off(at: &At<'_>, name: &str, findings: &mut Findings) -> bool {
    let Some(value) = at.fields([name, "default_value"]) else { return false };
    let numerator = value.field("numerator").and_then(|at| at.integer()).unwrap_or_default();
    let names = ["HUNDRED", "TEN_THOUSAND", "MILLION"];
    let denominator = value.field("denominator").and_then(|at| at.one_of(&names)).unwrap_or_default();
    let all = [100, 10_000, 1_000_000].get(denominator).copied().unwrap_or(100);
    if numerator == 0 {
        let help = "`shadow_mode: true` decides and counts all limits and enforces none; remove it to enforce them";
        findings.add(finding::RUNTIME, &value, format!("{name} is 0 %, as shadow_mode"), help);
        return true;
    }
    if numerator < all {
        let help = "Weir enforces all limits, or none with `shadow_mode`; the result enforces them";
        findings.add(finding::FIELD, &value, format!("{name} of a part of the requests"), help);
    }
    false
}

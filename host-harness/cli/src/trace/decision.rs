//! Decision on a request and its reason, from the response and the timeline.

use hyper::header::HeaderMap;
use weir_filter::config::Config;
use weir_filter::redis::Failure;
use weir_filter::units::Tokens;

use super::timeline::{Kind, Step};
use super::wire::UNKNOWN;

/// Commands of Weir's scripts that check no request.
const OTHERS: [&str; 3] = ["overrides", "events", "set_override"];

/// Decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// `admitted`, `denied`, `failed_open`, `failed_closed`, `rejected`; of a file without a limiter `passed` or
    /// `answered`.
    pub(super) outcome: &'static str,
    /// Name of the limit that denied; of a failed request, of the limits that apply; otherwise of those that Redis
    /// decided, in the order of the configuration.
    pub(super) limits: Vec<String>,
    pub(super) remaining: Option<u64>,
    pub(super) retry_after: Option<u64>,
    /// Sentence with the reason.
    pub(super) why: String,
}

/// Facts of a timeline.
struct Facts<'a> {
    steps: &'a [Step],
    limiters: &'a [Config],
}

/// Statuses of requests that no filter gets: those that Envoy's parser refuses.
const PARSER: [u16; 4] = [400, 426, 431, 501];
/// Name of the callback by which a filter gets a request.
const REQUEST: &str = "proxy_on_request_headers";

impl Decision {
    /// `is_limited`: whether a limiter is among the filters of the listener.
    pub(super) fn of(status: u16, headers: &HeaderMap, steps: &[Step], limiters: &[Config], is_limited: bool) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.split([',', ';']).next()?.trim().parse().ok();
        let facts = Facts { steps, limiters };
        let mut decision = Self {
            outcome: "passed",
            limits: Vec::new(),
            remaining: number("x-ratelimit-remaining"),
            retry_after: number("retry-after"),
            why: format!("the response has status {status}, and no filter has answered the request"),
        };
        let details = facts.details();
        let reason = |kind: &str| Some(details.as_deref()?.strip_prefix(kind)?.strip_suffix('}')?.to_owned());
        if let Some(limit) = reason("weir_denied{") {
            decision.outcome = "denied";
            decision.why = facts.denied(&limit, decision.retry_after);
            decision.limits = vec![limit];
        } else if let Some(cause) = reason("weir_failed{") {
            decision.outcome = "failed_closed";
            decision.limits = facts.failed();
            decision.why = explained(&cause);
        } else if let Some(reason) = reason("weir_rejected{") {
            decision.outcome = "rejected";
            decision.why = format!("the request itself is refused: {reason}");
        } else if let Some(details) = details {
            decision.outcome = "answered";
            decision.why = format!("a filter has answered with status {status}, details {details:?}");
        } else if is_limited && PARSER.contains(&status) && !facts.has_callback() {
            decision.outcome = "rejected";
            decision.why = format!(
                "the host itself refuses the request with status {status}, before any filter: its method, its path or a \
                 header is none that Envoy takes"
            );
        } else if is_limited && !facts.is_seen() {
            decision.outcome = "answered";
            decision.why =
                format!("another filter has answered with status {status}, and the limiter has not seen the request");
        } else if let Some(why) = facts.failed_open() {
            decision.outcome = "failed_open";
            decision.limits = facts.failed();
            decision.why = why;
        } else if facts.is_seen() && !limiters.is_empty() {
            decision.outcome = "admitted";
            decision.limits = facts.checked();
            decision.why = facts.admitted(&decision, number("x-ratelimit-limit"));
        }
        decision
    }
}

/// Returns the name of a cause of failure with its description.
fn explained(cause: &str) -> String {
    match Failure::ALL.iter().find(|failure| failure.name() == cause) {
        Some(failure) => format!("{cause} ({})", failure.description()),
        None => cause.to_owned(),
    }
}

impl Facts<'_> {
    /// Whether a limiter has got the request.
    fn is_seen(&self) -> bool {
        let is_limiters = |plugin: &str| plugin.rsplit('/').next() == Some("limiter");
        self.steps.iter().any(|step| match &step.kind {
            Kind::Callback { plugin, name, .. } => *name == REQUEST && is_limiters(plugin),
            _ => false,
        })
    }

    /// Whether any module of wasm has got the request.
    fn has_callback(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.kind, Kind::Callback { name: REQUEST, .. }))
    }

    fn denied(&self, limit: &str, retry_after: Option<u64>) -> String {
        if !self.asked() && self.is_zero(limit) {
            return format!("limit `{limit}` is zero, and denies every request without a command to Redis");
        }
        let by = if self.asked() {
            format!("Redis{}", self.by_unknown())
        } else {
            let memory = match (self.counted("crowd.denied"), self.counted("deny_cache.hits")) {
                (true, _) => "the worker in a flood of checks of this key",
                (_, true) => "the deny cache",
                _ => "the worker's memory (deny cache or override)",
            };
            format!("{memory}, without a command to Redis")
        };
        match retry_after {
            Some(seconds) => format!("limit `{limit}` has no tokens left, says {by}; retry after {seconds} s"),
            None => format!("limit `{limit}` has no tokens left, says {by}"),
        }
    }

    fn admitted(&self, decision: &Decision, of: Option<u64>) -> String {
        let names = decision.limits.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let noun = if decision.limits.len() == 1 { "limit" } else { "limits" };
        let left = match (decision.remaining, of) {
            (Some(remaining), Some(of)) => Some(format!("{remaining} of {of} remain")),
            (remaining, _) => remaining.map(|remaining| format!("{remaining} remain")),
        };
        let unknown = self.by_unknown();
        match (decision.limits.len(), left) {
            (0, left) if self.asked() => {
                let left = left.map(|left| format!(": {left}")).unwrap_or_default();
                format!("Redis was asked{unknown}, and the request passed{left}")
            }
            (0, Some(left)) => format!("the worker decided from memory: {left}"),
            (1, Some(left)) => format!("limit {names} has tokens{unknown}: {left}"),
            (_, Some(left)) => format!("limits {names} have tokens{unknown}; of the limit with the least, {left}"),
            (1.., None) if self.answered() => {
                format!("Redis admits by {noun} {names}{unknown}; the response has no x-ratelimit headers")
            }
            (1.., None) => format!("Redis did not decide {noun} {names}, and the failure mode allows"),
            (0, None) => "no limit applies to the request".to_owned(),
        }
    }

    /// Returns the cause of a failure that the failure mode admitted. `None` if the request did not fail.
    fn failed_open(&self) -> Option<String> {
        if self.counted("requests.failed_open") {
            let causes = Failure::ALL.iter().filter(|cause| self.counted(&format!("redis.{}", cause.name())));
            let causes: Vec<String> = causes.map(|cause| explained(cause.name())).collect();
            return Some(if causes.is_empty() { "Redis did not decide".to_owned() } else { causes.join("; ") });
        }
        // The module's counters did not come in time.
        let unreachable = self.steps.iter().any(|step| matches!(step.kind, Kind::Unreachable { .. }));
        let is_undecided = unreachable && !self.answered() && !self.counted("requests.admitted");
        is_undecided.then(|| explained(Failure::Unavailable.name()))
    }

    /// Returns the names of the limits that a failed request counted at.
    fn failed(&self) -> Vec<String> {
        let limits = self.limiters.iter().flat_map(|config| &config.limits);
        let failed = limits.filter(|limit| self.counted(&format!("limit.{}.failed", limit.name)));
        failed.map(|limit| limit.name.clone()).collect()
    }

    /// Whether the counter of a limiter, named without its `stat_prefix`, was incremented.
    fn counted(&self, name: &str) -> bool {
        let names: Vec<String> = self.limiters.iter().map(|config| format!("{}.{name}", config.stat_prefix)).collect();
        self.steps.iter().any(|step| match &step.kind {
            Kind::Call { name: "proxy_increment_metric", arguments, .. } => {
                arguments.iter().any(|(argument, value)| *argument == "metric" && names.contains(value))
            }
            _ => false,
        })
    }

    /// Whether a limit of this name has a window that admits nothing.
    fn is_zero(&self, name: &str) -> bool {
        let mut limits = self.limiters.iter().flat_map(|config| &config.limits).filter(|limit| limit.name == name);
        limits.any(|limit| limit.windows.algorithms().any(|algorithm| algorithm.limit() == Tokens(0)))
    }

    /// Returns the details of a module's local reply.
    fn details(&self) -> Option<String> {
        self.steps.iter().rev().find_map(|step| match &step.kind {
            Kind::Call { name: "proxy_send_local_response", arguments, .. } => {
                let details = arguments.iter().find(|(name, _)| *name == "details")?;
                Some(details.1.trim_matches('"').to_owned())
            }
            _ => None,
        })
    }

    /// Returns the commands that check requests: calls of scripts, those with unknown names included.
    fn commands(&self) -> impl Iterator<Item = &str> {
        let texts = self.steps.iter().filter_map(|step| match &step.kind {
            Kind::Sent { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.filter(|text| {
            let script = text.strip_prefix("EVALSHA ").or_else(|| text.strip_prefix("EVAL "));
            script.is_some_and(|script| !OTHERS.contains(&script.split(' ').next().unwrap_or_default()))
        })
    }

    /// Whether a check was sent to Redis.
    fn asked(&self) -> bool {
        self.commands().next().is_some()
    }

    /// Returns a remark if this program does not know the scripts of the checks.
    fn by_unknown(&self) -> &'static str {
        let is_unknown = |command: &str| command.split(' ').nth(1) == Some(UNKNOWN);
        if self.asked() && self.commands().all(is_unknown) { " (script unknown to this weir)" } else { "" }
    }

    /// Whether Redis has replied to a check with an array.
    fn answered(&self) -> bool {
        let is_array = |step: &Step| matches!(&step.kind, Kind::Received { text, .. } if text.starts_with('['));
        self.asked() && self.steps.iter().any(is_array)
    }

    /// Returns the names of the limits whose keys were sent to Redis, in the order of the configuration.
    fn checked(&self) -> Vec<String> {
        let commands: Vec<&str> = self.commands().collect();
        let mut names = Vec::new();
        for config in self.limiters {
            for limit in &config.limits {
                let key = format!("{}{}:", config.redis.key_prefix, limit.name);
                if commands.iter().any(|command| command.split([' ', '"']).any(|word| word.starts_with(&key))) {
                    names.push(limit.name.clone());
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &[u8] = br#"{"redis": {"cluster": "redis"}, "limits": [{"name": "per_user", "descriptor": [],
        "token_bucket": {"max_tokens": 5, "tokens_per_fill": 5, "fill_interval": "60s"}}]}"#;

    fn step(kind: Kind) -> Step {
        Step { at: 0, depth: 0, kind }
    }

    /// Start of the limiter's callback for a request.
    fn seen() -> Step {
        step(Kind::Callback { plugin: "weir/limiter".to_owned(), name: REQUEST, arguments: Vec::new() })
    }

    fn answer(details: &str) -> Step {
        let arguments = vec![("status", "429".to_owned()), ("details", format!("\"{details}\""))];
        step(Kind::Call { name: "proxy_send_local_response", arguments, results: Vec::new(), status: "Ok", took: 0 })
    }

    fn sent() -> Step {
        let text = "EVALSHA token_buckets 1 weir:per_user: 5 1 1 7".to_owned();
        step(Kind::Sent { cluster: "redis".to_owned(), text })
    }

    fn decision(status: u16, headers: &[(&'static str, &str)], steps: &[Step]) -> (&'static str, String) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let config = weir_filter::config::parse(CONFIG, &|_| None).unwrap();
        let steps = [&[seen()], steps].concat();
        let decision = Decision::of(status, &headers, &steps, &[config], true);
        (decision.outcome, decision.why)
    }

    #[test]
    fn details_of_a_local_reply_are_the_reason() {
        let (outcome, why) = decision(429, &[("retry-after", "7")], &[sent(), answer("weir_denied{per_user}")]);
        assert_eq!((outcome, &*why), ("denied", "limit `per_user` has no tokens left, says Redis; retry after 7 s"));
        let (outcome, why) = decision(503, &[], &[answer("weir_failed{timeout}")]);
        assert_eq!((outcome, &*why), ("failed_closed", "timeout (no reply within redis.timeout)"));
        let (outcome, why) = decision(400, &[], &[answer("weir_rejected{hits_addend}")]);
        assert_eq!((outcome, &*why), ("rejected", "the request itself is refused: hits_addend"));
        let (outcome, why) = decision(403, &[], &[answer("no_entry")]);
        assert_eq!((outcome, &*why), ("answered", "a filter has answered with status 403, details \"no_entry\""));
    }

    #[test]
    fn an_admission_names_its_limit_or_why_no_limit_decided() {
        let unreachable = step(Kind::Unreachable { cluster: "redis".to_owned(), error: "refused".to_owned() });
        let allowed = |steps: &[Step]| decision(200, &[], steps).1;
        let headers = [("x-ratelimit-limit", "5"), ("x-ratelimit-remaining", "4")];
        assert_eq!(decision(200, &headers, &[sent()]).1, "limit `per_user` has tokens: 4 of 5 remain");
        assert_eq!(allowed(&[unreachable]), "unavailable (no connection to Redis)");
        assert_eq!(allowed(&[sent()]), "Redis did not decide limit `per_user`, and the failure mode allows");
        assert_eq!(allowed(&[]), "no limit applies to the request");
    }

    #[test]
    fn a_request_that_the_limiter_has_not_seen_is_not_admitted() {
        let config = weir_filter::config::parse(CONFIG, &|_| None).unwrap();
        let decision =
            |is_limited| Decision::of(401, &HeaderMap::new(), &[], std::slice::from_ref(&config), is_limited);
        let why = "another filter has answered with status 401, and the limiter has not seen the request";
        assert_eq!((decision(true).outcome, &*decision(true).why), ("answered", why));
        // The listener of the request has no limiter.
        assert_eq!(decision(false).outcome, "passed");
    }

    #[test]
    fn a_request_that_no_filter_gets_is_refused_by_the_host() {
        for status in PARSER {
            let decision = Decision::of(status, &HeaderMap::new(), &[], &[], true);
            let why = format!("the host itself refuses the request with status {status}, before any filter");
            assert!(decision.outcome == "rejected" && decision.why.starts_with(&why), "{}", decision.why);
        }
    }

    fn counter(name: &str) -> Step {
        let arguments = vec![("metric", name.to_owned()), ("offset", "1".to_owned())];
        step(Kind::Call { name: "proxy_increment_metric", arguments, results: Vec::new(), status: "Ok", took: 0 })
    }

    #[test]
    fn a_request_that_failed_open_has_the_cause_of_its_counter() {
        for cause in Failure::ALL {
            let counters = ["requests.failed", "requests.failed_open", "limit.per_user.failed"];
            let mut steps: Vec<Step> = counters.iter().map(|name| counter(&format!("weir.{name}"))).collect();
            steps.push(counter(&format!("weir.redis.{}", cause.name())));
            let expected = format!("{} ({})", cause.name(), cause.description());
            assert_eq!(decision(200, &[], &steps), ("failed_open", expected.clone()));
            steps.push(sent());
            assert_eq!(decision(200, &[], &steps), ("failed_open", expected));
        }
    }

    #[test]
    fn a_check_by_an_unknown_script_is_a_check() {
        let text = |keys: &str| format!("EVALSHA {UNKNOWN} abababab 1 {keys}");
        let sent = |keys: &str| step(Kind::Sent { cluster: "redis".to_owned(), text: text(keys) });
        let reply = step(Kind::Received { cluster: "redis".to_owned(), text: "[1]".to_owned(), took: None });
        let why = |status, headers: &[(&'static str, &str)], steps: &[Step]| decision(status, headers, steps).1;
        let headers = [("x-ratelimit-remaining", "4")];
        assert_eq!(
            why(200, &headers, &[sent("weir:per_user:"), reply.clone()]),
            "limit `per_user` has tokens (script unknown to this weir): 4 remain"
        );
        assert_eq!(
            why(200, &headers, &[sent("other"), reply]),
            "Redis was asked (script unknown to this weir), and the request passed: 4 remain"
        );
        assert_eq!(
            why(429, &[], &[sent("other"), answer("weir_denied{per_user}")]),
            "limit `per_user` has no tokens left, says Redis (script unknown to this weir)"
        );
    }

    #[test]
    fn a_denial_without_a_command_has_the_cause_of_its_counter() {
        let denied = answer("weir_denied{per_user}");
        let why = |steps: &[Step]| decision(429, &[], steps).1;
        let by = |name: &str| why(&[counter(&format!("weir.{name}")), denied.clone()]);
        assert!(by("deny_cache.hits").ends_with("says the deny cache, without a command to Redis"));
        assert!(by("crowd.denied").contains("says the worker in a flood of checks of this key"));
        assert!(why(std::slice::from_ref(&denied)).contains("memory (deny cache or override)"));
        let zero = String::from_utf8_lossy(CONFIG).replace("\"max_tokens\": 5", "\"max_tokens\": 0");
        let config = weir_filter::config::parse(zero.as_bytes(), &|_| None).unwrap();
        let decision = Decision::of(429, &HeaderMap::new(), &[denied], &[config], true);
        assert_eq!(decision.why, "limit `per_user` is zero, and denies every request without a command to Redis");
    }
}

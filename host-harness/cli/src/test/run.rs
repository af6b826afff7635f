//! Run of a test: its steps, and what differs from what is expected.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_filter::units::Micros;

use super::backend::{Backend, Budget, Denied, Observed, first};
use super::file::{Action, Amount, BudgetExpectation, Expect, Matcher, RedisState, Requests, Step, Test, shown_amount};
use crate::documents::Position;

/// Most texts of a body or a header that a difference shows, in characters.
const MAX_SHOWN: usize = 300;

/// Result of a test.
#[derive(Debug, Clone)]
pub(super) struct TestResult {
    pub(super) name: String,
    pub(super) place: Position,
    pub(super) outcome: Outcome,
    /// Number of requests that were sent.
    pub(super) requests: u64,
    /// Time that the test took.
    pub(super) took: Duration,
}

/// Outcome of a test.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Passed,
    Failed(Vec<StepFailure>),
    /// Reason for which the test was not run.
    Skipped(String),
}

/// Step that did not do what is expected.
#[derive(Debug, Clone)]
pub(super) struct StepFailure {
    pub(super) place: Position,
    pub(super) step: String,
    pub(super) problem: Problem,
}

/// Problem of a step.
#[derive(Debug, Clone)]
pub(super) enum Problem {
    /// The step could not be carried out: the test ends.
    Error(String),
    /// Responses differ from what is expected.
    Differences(Vec<Difference>),
}

/// Difference between what is expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) place: Position,
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) actual: String,
}

/// Runs the steps of a test. `held_slack` is added to the time for which a request may be held: a real host is slower.
pub(super) fn run(test: &Test, backend: Result<&mut dyn Backend, String>, held_slack: Micros) -> TestResult {
    let began = Instant::now();
    let (outcome, requests) = match backend {
        Ok(backend) => steps(&test.steps, backend, held_slack),
        Err(why) => {
            let problem = Problem::Error(why);
            (Outcome::Failed(vec![StepFailure { place: test.place, step: "start".to_owned(), problem }]), 0)
        }
    };
    TestResult { name: test.name.clone(), place: test.place, outcome, requests, took: began.elapsed() }
}

fn steps(steps: &[Step], backend: &mut dyn Backend, held_slack: Micros) -> (Outcome, u64) {
    let (mut failures, mut requests, mut denied) = (Vec::new(), 0_u64, 0_u64);
    for step in steps {
        let problem = match perform(&step.action, backend, &mut denied, held_slack) {
            Ok(differences) if differences.is_empty() => None,
            Ok(differences) => Some(Problem::Differences(differences)),
            Err(why) => Some(Problem::Error(why)),
        };
        let unknown = backend.unknown();
        let problem = if unknown.is_empty() {
            problem
        } else {
            Some(Problem::Error(format!("virtual time has no {}: run this test with --on redis", unknown.join(", "))))
        };
        if let Action::Request(sent, _) = &step.action {
            requests = requests.saturating_add(sent.count);
        }
        if let Some(problem) = problem {
            let is_end = matches!(problem, Problem::Error(_));
            failures.push(StepFailure { place: step.place, step: described(&step.action), problem });
            if is_end {
                break;
            }
        }
    }
    (if failures.is_empty() { Outcome::Passed } else { Outcome::Failed(failures) }, requests)
}

/// Carries out a step. `all_denied` is the number of requests denied so far, for which the backend's counters wait.
fn perform(
    action: &Action,
    backend: &mut dyn Backend,
    all_denied: &mut u64,
    held_slack: Micros,
) -> Result<Vec<Difference>, String> {
    match action {
        Action::Advance(span) => backend.advance(*span),
        Action::Redis(state) => backend.redis(*state)?,
        Action::Limits(words) => backend.limits(words)?,
        Action::Request(requests, expect) => {
            let before = expect.limit.as_ref().map(|_| backend.denied(*all_denied));
            let observed = backend.send(requests)?;
            *all_denied = all_denied.saturating_add(observed.denied);
            let denied = before.map(|before| backend.denied(*all_denied).since(&before));
            let mut found = differences(expect, &observed, denied.as_ref(), held_slack);
            for budget in &expect.budgets {
                found.extend(budget_differences(budget, backend)?);
            }
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// Compares the responses of a step with what is expected.
fn differences(expect: &Expect, observed: &Observed, denied: Option<&Denied>, held_slack: Micros) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differs = |place: Position, what: &str, expected: String, actual: String| {
        found.push(Difference { place, what: what.to_owned(), expected, actual });
    };
    let last = observed.last();
    if let Some((statuses, place)) = &expect.status {
        let all: Vec<(u16, u64)> = observed.statuses.iter().map(|(status, n)| (*status, *n)).collect();
        if !statuses.accept(&all) {
            let counts: Vec<String> = all.iter().map(|(status, n)| format!("{status} × {n}")).collect();
            let body = last.filter(|last| last.status >= 400).map(|last| format!(" ({})", shown(&last.body)));
            let counts = if counts.is_empty() { "no response".to_owned() } else { counts.join(", ") };
            differs(*place, "status", statuses.to_string(), counts + &body.unwrap_or_default());
        }
    }
    if let (Some((limit, place)), Some(denied)) = (&expect.limit, denied) {
        let own = denied.by_limit.get(limit).copied().unwrap_or_default();
        if own == 0 || own < denied.all {
            let all: Vec<String> = denied.by_limit.iter().map(|(name, n)| format!("{name} × {n}")).collect();
            let actual = if all.is_empty() { "no request was denied by a limit".to_owned() } else { all.join(", ") };
            differs(*place, "limit that denied", format!("{limit} × {}", denied.all.max(1)), actual);
        }
    }
    for (name, matcher, place) in &expect.headers {
        compare(matcher, last.and_then(|last| last.header(name)), *place, &format!("header {name}"), &mut differs);
    }
    for (name, matcher, place) in &expect.upstream_headers {
        let upstream = last.and_then(|last| last.upstream.as_ref());
        match upstream {
            Some(headers) => {
                compare(matcher, first(headers, name), *place, &format!("header {name} at the upstream"), &mut differs);
            }
            None => differs(*place, "request at the upstream", "a request".to_owned(), "none arrived".to_owned()),
        }
    }
    if let Some((matcher, place)) = &expect.body {
        compare(matcher, last.map(|last| last.body.as_str()), *place, "body", &mut differs);
    }
    let document = last.and_then(|last| serde_json::from_str::<Value>(&last.body).ok());
    for (pointer, matcher, place) in &expect.json {
        let value = document.as_ref().and_then(|document| document.pointer(pointer)).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        compare(matcher, value.as_deref(), *place, &format!("{pointer} in the body"), &mut differs);
    }
    if let Some((expected, place)) = &expect.retry_after {
        let header = observed.last_denied().and_then(|seen| seen.header("retry-after"));
        let seconds = header.and_then(|value| value.parse().ok()).map(Micros::from_secs);
        if !seconds.is_some_and(|seconds| expected.accepts(seconds)) {
            let wanted = format!("{} ± {}", seconds_of(expected.is), seconds_of(expected.within));
            differs(*place, "retry-after", wanted, header.map_or("absent".to_owned(), |value| format!("{value}s")));
        }
    }
    if let Some((range, place)) = &expect.remaining {
        let remaining = last
            .and_then(|last| last.header("x-ratelimit-remaining").or_else(|| in_ratelimit(last.header("ratelimit")?)));
        if !remaining.and_then(|n| n.parse().ok()).is_some_and(|n| range.contains(n)) {
            let actual = remaining.unwrap_or("absent: the response has neither x-ratelimit-remaining nor ratelimit");
            differs(*place, "remaining", range.to_string(), actual.to_owned());
        }
    }
    if let Some((expected, place)) = &expect.held {
        let latest = expected.is.plus(expected.within).plus(held_slack);
        if observed.held > latest || observed.held.plus(expected.within) < expected.is {
            let wanted = format!("{} ± {}", seconds_of(expected.is), seconds_of(expected.within));
            differs(*place, "held for", wanted, seconds_of(observed.held));
        }
    }
    found
}

/// Compares a budget with what is expected of it.
fn budget_differences(expected: &BudgetExpectation, backend: &mut dyn Backend) -> Result<Vec<Difference>, String> {
    let BudgetExpectation { limit, key, spent, held, .. } = expected;
    let differences = |budget: Budget| {
        let of_part = |(what, part, amount): (&str, &Option<(Amount, Position)>, u64)| {
            let (expected, place) = part.filter(|(expected, _)| !expected.accepts(amount, budget.is_money))?;
            let what = format!("{what} of {limit} {}", key.join(" ")).trim_end().to_owned();
            let actual = shown_amount(amount, budget.is_money);
            Some(Difference { place, what, expected: expected.to_string(), actual })
        };
        [("spent", spent, budget.spent), ("held", held, budget.held)]
            .into_iter()
            .filter_map(of_part)
            .collect::<Vec<_>>()
    };
    let budget = backend.budget(limit, key, &|budget| differences(budget).is_empty())?;
    Ok(differences(budget))
}

fn compare(
    matcher: &Matcher,
    value: Option<&str>,
    place: Position,
    what: &str,
    differs: &mut impl FnMut(Position, &str, String, String),
) {
    if !matcher.accepts(value) {
        differs(place, what, matcher.to_string(), value.map_or("absent".to_owned(), shown));
    }
}

/// The least number of remaining requests in a `ratelimit` header: `"per_user";r=3;t=30, …`.
fn in_ratelimit(header: &str) -> Option<&str> {
    let numbers = header.split([';', ',']).filter_map(|part| part.trim().strip_prefix("r="));
    numbers.min_by_key(|number| number.parse().unwrap_or(u64::MAX))
}

fn shown(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    format!("{short:?}")
}

fn seconds_of(Micros(micros): Micros) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A step in a few words.
fn described(action: &Action) -> String {
    match action {
        Action::Request(requests, _) => {
            let Requests { request, count, .. } = requests.as_ref();
            let times = if *count == 1 { String::new() } else { format!(" × {count}") };
            format!("{} {}{times}", request.method, request.path)
        }
        Action::Advance(span) => format!("advance by {}", seconds_of(*span)),
        Action::Redis(RedisState::Down) => "redis down".to_owned(),
        Action::Redis(RedisState::Up) => "redis up".to_owned(),
        Action::Redis(RedisState::Flushed) => "redis flushed".to_owned(),
        Action::Limits(words) => format!("limits {}", words.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_remaining_of_a_ratelimit_header_counts() {
        assert_eq!(in_ratelimit(r#""plan";r=3;t=30, "plan:1";r=0;t=1"#), Some("0"));
        assert_eq!(in_ratelimit(r#""plan";t=30"#), None);
    }

    #[test]
    fn durations_are_seconds_without_needless_zeros() {
        assert_eq!((seconds_of(Micros(1_500_000)), seconds_of(Micros(0))), ("1.5s".to_owned(), "0s".to_owned()));
        assert_eq!(seconds_of(Micros::from_secs(600)), "600s");
    }
}

//! Backends: what serves the requests of a test.

mod adapted;
mod real;
mod upstream;
mod virtual_time;

use std::collections::BTreeMap;

use serde_json::Value;
use weir_filter::limit::Charged;
use weir_filter::units::{Micros, Tokens};

use super::file::{RedisState, Requests, Test};
use super::jwt;
use super::setup::Setup;
use crate::limits::{Change, Limits};

pub(super) use self::real::{Real, Stage};
pub(super) use self::virtual_time::VirtualTime;

/// Longest time within which a step sends its requests on a real host. A test that takes longer is skipped there.
pub(super) const MAX_SPREAD: Micros = Micros::from_secs(30);
/// Longest `advance` for which a real host waits. A test that advances further is skipped there.
pub(super) const MAX_WAIT: Micros = Micros::from_secs(5);

/// Backend with the state of one test.
pub(super) trait Backend {
    /// Sends the requests of a step.
    ///
    /// # Errors
    /// If requests are not answered.
    fn send(&mut self, requests: &Requests) -> Result<Observed, String>;

    /// Lets time pass.
    fn advance(&mut self, span: Micros);

    /// Changes Redis.
    ///
    /// # Errors
    /// If Redis does not start.
    fn redis(&mut self, state: RedisState) -> Result<(), String>;

    /// Runs a command of `weir limits`, and waits until the workers heed it.
    ///
    /// # Errors
    /// The error of the command.
    fn limits(&mut self, words: &[String]) -> Result<(), String>;

    /// Requests denied so far: by each limit, and altogether. `at_least` is the least sum to wait for.
    fn denied(&mut self, at_least: u64) -> Denied;

    /// Budget of a limit's key. Where settlements take time, it is waited for until it `is_expected`.
    ///
    /// # Errors
    /// If there is no such budget, or Redis does not tell it.
    fn budget(&mut self, limit: &str, key: &[String], is_expected: &dyn Fn(Budget) -> bool) -> Result<Budget, String>;

    /// Commands that the backend's Redis does not know, if it has met any: decisions may depend on them.
    fn unknown(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Amounts of one window of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Budget {
    /// Amount that settled requests have spent.
    pub(super) spent: u64,
    /// Amount that open requests hold.
    pub(super) held: u64,
    /// Whether the amounts are nano-USD, and not tokens.
    pub(super) is_money: bool,
}

/// Counters of denied requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) all: u64,
    pub(super) by_limit: BTreeMap<String, u64>,
}

/// Responses of a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    /// Number of responses by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Number of responses that deny: with status 429, or with a `retry-after`.
    pub(super) denied: u64,
    /// Longest time for which a request was held.
    pub(super) held: Micros,
    /// Response to the last request, with the request's turn.
    last: Option<(u64, Seen)>,
    /// Last response with a `retry-after`, likewise.
    last_denied: Option<(u64, Seen)>,
}

/// Response to a request.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// HTTP status; 0 where the client left before the response.
    pub(super) status: u16,
    /// Headers; names are in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// Time from the request to the decision; on a real host, to the response.
    pub(super) held: Micros,
    /// Headers with which the request reached the upstream. `None` where that is not known, or did not happen.
    pub(super) upstream: Option<Vec<(String, String)>>,
}

impl Observed {
    /// Adds the response to the request of this turn, in any order.
    pub(super) fn add(&mut self, turn: u64, seen: Seen) {
        if seen.status > 0 {
            let count = self.statuses.entry(seen.status).or_default();
            *count = count.saturating_add(1);
        }
        self.held = self.held.max(seen.held);
        let tells_when = seen.header("retry-after").is_some();
        self.denied = self.denied.saturating_add((tells_when || seen.status == 429).into());
        let is_later = |than: &Option<(u64, Seen)>| than.as_ref().is_none_or(|(last, _)| turn >= *last);
        if tells_when && is_later(&self.last_denied) {
            self.last_denied = Some((turn, seen.clone()));
        }
        if is_later(&self.last) {
            self.last = Some((turn, seen));
        }
    }

    /// Response to the last request.
    pub(super) fn last(&self) -> Option<&Seen> {
        self.last.as_ref().map(|(_, seen)| seen)
    }

    /// Last response with a `retry-after`.
    pub(super) fn last_denied(&self) -> Option<&Seen> {
        self.last_denied.as_ref().map(|(_, seen)| seen)
    }
}

impl Seen {
    /// First value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

/// First value of a header.
pub(super) fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

impl Denied {
    /// Requests denied since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let of = |name: &str| before.by_limit.get(name).copied().unwrap_or_default();
        let by_limit = self.by_limit.iter().map(|(name, n)| (name.clone(), n.saturating_sub(of(name))));
        Self { all: self.all.saturating_sub(before.all), by_limit: by_limit.filter(|(_, n)| *n > 0).collect() }
    }
}

/// Headers of a request with the token that the test asks for.
///
/// # Errors
/// If the test asks for a token, and the configuration has no provider.
pub(super) fn headers(setup: &Setup, requests: &Requests) -> Result<Vec<(String, String)>, String> {
    let mut headers = requests.request.headers.clone();
    if let Some(claims) = &requests.request.jwt {
        let token = jwt::token(claims, &setup.providers).ok_or_else(|| {
            format!("`jwt`: {} has no provider of a jwt_authn filter: give the claims as `metadata`", setup.origin)
        })?;
        headers.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    Ok(headers)
}

/// Key in Redis of the first window of a limit's budget. `written` is the configuration.
///
/// # Errors
/// If the limit has no such key.
pub(super) fn budget_key(setup: &Setup, written: &Value, limit: &str, key: &[String]) -> Result<Vec<u8>, String> {
    let words: Vec<&str> = ["reset", limit].into_iter().chain(key.iter().map(String::as_str)).collect();
    let command = Limits::parse(&words).map_err(|why| why.to_string())?;
    let change = command.change(&setup.origin, written, Micros::ZERO).map_err(|why| why.to_string())?;
    let Some(Change::Reset { bucket }) = change else { return Err(format!("expected a key of {limit}")) };
    let limit = setup.config.limits.iter().find(|own| own.name == limit);
    let first = limit.and_then(|limit| limit.windows.checks(0, bucket, Tokens(0), true).next());
    first.map(|check| check.key).ok_or_else(|| "no such limit".to_owned())
}

/// Whether a limit counts money; `None` where it has no charge.
pub(super) fn counts_money(setup: &Setup, limit: &str) -> Option<bool> {
    let charge = setup.config.limits.iter().find(|own| own.name == limit)?.charge.as_ref()?;
    Some(charge.of == Charged::Cost)
}

/// Name of a counter, with the prefix of the configuration.
fn counter(setup: &Setup, name: &str) -> String {
    format!("{}.{name}", setup.config.stat_prefix)
}

/// Names of the limits, with the names of their counters of denials.
fn denials(setup: &Setup) -> impl Iterator<Item = (String, String)> {
    let named = |limit: &weir_filter::limit::Limit| {
        (limit.name.clone(), counter(setup, &format!("limit.{}.denied", limit.name)))
    };
    setup.config.limits.iter().map(named)
}

/// Whether a test has a step for which this holds.
fn has(test: &Test, holds: impl Fn(&super::file::Action) -> bool) -> bool {
    test.steps.iter().any(|step| holds(&step.action))
}

//! The demo's users.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::header::{HeaderName, HeaderValue};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    task::JoinHandle,
    time::{Instant, interval},
};

use super::{DemoError, promise::Promise};
use crate::traffic::{self, Counters, Pace, Plan, User};

/// Header that only the limiter sets, and only after Redis has answered.
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// A user, with a description for the table.
pub(super) struct Person {
    pub(super) user: User,
    pub(super) habit: String,
    /// Whether the user stays within the limit.
    pub(super) is_modest: bool,
}

/// Five users below, at and above the limit's rate.
pub(super) fn people(promise: &Promise, duration: Duration) -> Vec<Person> {
    let rate = promise.rate();
    let burst = Pace::Bursts { size: promise.capacity.saturating_mul(3) / 2, every: duration * 2 / 5 };
    let person = |name: &str, habit: &str, pace, connections| Person {
        user: user(name, pace, promise).connections(connections),
        habit: habit.into(),
        is_modest: matches!(pace, Pace::PerSecond(per_second) if per_second <= rate),
    };
    vec![
        person("alice", "half the limit's rate", Pace::PerSecond(rate / 2.0), 1),
        person("bob", "just the limit's rate", Pace::PerSecond(rate), 1),
        person("carol", "5 times the rate", Pace::PerSecond(rate * 5.0), 2),
        person("dave", "3 bursts", burst, 8),
        person("erin", "100 times the rate", Pace::PerSecond(rate * 100.0), 4),
    ]
}

fn user(name: &str, pace: Pace, promise: &Promise) -> User {
    let header = HeaderName::try_from(promise.header.as_str());
    match (header, HeaderValue::try_from(name)) {
        (Ok(header), Ok(value)) => User::new(name, pace).header(header, value),
        _ => User::new(name, pace),
    }
}

/// Waits until every worker is connected to Redis: sends requests of a user `warm-up` until all responses have
/// rate-limit headers. A worker connects with its first request, which the failure mode may answer.
pub(super) async fn wait_until_limiting(target: SocketAddr, promise: &Promise, workers: u32) -> Result<(), DemoError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let connections = usize::try_from(workers).unwrap_or(1).saturating_mul(4);
    loop {
        let mut plan = Plan::new(target);
        plan.users = vec![user("warm-up", Pace::Closed, promise).connections(connections)];
        plan.headers_of_interest = vec![REMAINING];
        let outcomes = traffic::at_once(plan).await.together().outcomes;
        if outcomes.iter().all(|outcome| matches!(outcome.headers.as_slice(), [Some(_)])) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(DemoError::NotLimiting(target));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Task that draws a progress bar if standard error is a terminal. Aborting the task removes the bar.
pub(super) fn progress(duration: Duration, counters: Arc<Counters>) -> JoinHandle<()> {
    let bar = Bar(ProgressBar::new(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)));
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.0.set_style(style);
    }
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(100));
        let start = ticks.tick().await;
        loop {
            let now = ticks.tick().await;
            bar.0.set_position(u64::try_from((now - start).as_millis()).unwrap_or(u64::MAX));
            let (sent, admitted, denied) = (counters.sent(), counters.admitted(), counters.denied());
            bar.0.set_message(format!("{sent} sent, {admitted} admitted, {denied} denied"));
        }
    })
}

struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

//! Real time: the embedded host or an Envoy, with a real Redis.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use weir_demo::serving::{HostKind, Serving};
use weir_filter::units::Micros;
use weir_provision::client::{self, Client, Response};
use weir_provision::redis::{Redis, RedisOptions};
use weir_provision::webdis::WebdisOptions;
use weir_provision::{checkout, filter_wasm};

use super::adapted::adapted;
use super::upstream::TestUpstream;
use super::{
    Backend, Budget, Denied, MAX_SPREAD, MAX_WAIT, Observed, Seen, budget_key, counter, counts_money, denials, has,
    headers,
};
use crate::front_end::FrontEnd;
use crate::limits::Limits;
use crate::starting::with_notice;
use crate::test::file::{Action, End, Pace, RedisState, Requests, Test, Upstream};
use crate::test::setup::Setup;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Time within which a host's counters show what it has done, and within which it connects to Redis.
const REPORTED_WITHIN: Duration = Duration::from_secs(3);
const CONNECTED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(25);
/// Time by which the refresh of overrides may be late.
const REFRESH_SLACK: Duration = Duration::from_millis(600);
/// Most requests at once: each has a connection of its own.
const MAX_AT_ONCE: u64 = 1_000;

/// Components of a run on real hosts: Redis, and the filter's module.
pub(in crate::test) struct Stage {
    host: HostKind,
    redis: Redis,
    wasm: PathBuf,
    runtime: Runtime,
    dir: TempDir,
}

/// A host that serves one test.
pub(in crate::test) struct Real<'a> {
    stage: &'a Stage,
    setup: &'a Setup,
    _front_end: Option<FrontEnd>,
    upstream: Option<TestUpstream>,
    /// The limiter's configuration.
    written: serde_json::Value,
    serving: Option<Serving>,
    target: SocketAddr,
    admin: Option<SocketAddr>,
    key_prefix: String,
    /// File with the limiter's configuration, for `weir limits`.
    config: tempfile::NamedTempFile,
}

impl Stage {
    /// Finds or starts the components.
    ///
    /// # Errors
    /// The component that is missing.
    pub(in crate::test) fn set(host: HostKind) -> anyhow::Result<Self> {
        let wasm = filter_wasm::find_or_build()?;
        let dir = checkout::scratch_dir("test")?;
        let args = ["--appendfsync", "always"].map(str::to_owned).to_vec();
        let folder = Some(dir.path().join("redis"));
        let redis = Redis::provide(RedisOptions { appendonly: true, dir: folder, args, ..RedisOptions::default() })?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { host, redis, wasm, runtime, dir })
    }

    /// Why a test needs virtual time, if it does.
    pub(in crate::test) fn cannot(&self, test: &Test) -> Option<String> {
        let advances = |action: &Action| matches!(action, Action::Advance(span) if *span > MAX_WAIT);
        let of_requests = |holds: fn(&Requests) -> bool| {
            has(test, |action| matches!(action, Action::Request(requests, _) if holds(requests)))
        };
        let is_external = !matches!(self.redis, Redis::Server(_));
        let reasons = [
            (has(test, advances), "it advances the clock by more than 5s"),
            (
                of_requests(|it| matches!(it.pace, Pace::Within(span) if span > MAX_SPREAD)),
                "it sends requests for more than 30s",
            ),
            (of_requests(|it| it.takes > Micros::ZERO && it.upstream.is_none()), "its upstream takes time"),
            (of_requests(|it| lasts(it) > MAX_WAIT), "its upstream takes more than 5s"),
            (
                of_requests(|it| {
                    it.pace != Pace::InTurn && it.upstream.as_ref().is_some_and(|it| it.end != End::Whole)
                }),
                "its responses are cut off at the same time",
            ),
            (of_requests(|it| it.request.client.is_some_and(|it| !it.is_loopback())), "its client has another address"),
            (of_requests(|it| !it.request.metadata.is_empty()), "it sets dynamic metadata"),
            (of_requests(|it| !it.request.filter_state.is_empty()), "it sets filter state"),
            (
                of_requests(|it| it.pace == Pace::AtOnce && it.count > MAX_AT_ONCE),
                "it sends more than 1000 requests at once",
            ),
            (
                has(test, |action| matches!(action, Action::Request(_, expect) if !expect.upstream_headers.is_empty())),
                "it expects headers at the upstream",
            ),
            (
                is_external && has(test, |action| matches!(action, Action::Redis(_))),
                "it stops or empties Redis, and this Redis is not the test's own",
            ),
        ];
        reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason.to_owned())
    }
}

impl<'a> Real<'a> {
    /// Starts a host for a test, with buckets of its own.
    ///
    /// # Errors
    /// If the host does not serve the configuration.
    pub(in crate::test) fn start(stage: &'a Stage, setup: &'a Setup, test: &Test) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let key_prefix = format!("weir-test-{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let options = WebdisOptions { redis_password: stage.redis.login().password, ..WebdisOptions::default() };
        let proxy = setup.proxy(stage.host);
        let front_end = FrontEnd::provide(&proxy.scenario, stage.redis.addr(), options);
        let front_end = stage.runtime.block_on(front_end).map_err(|why| why.to_string())?;
        let upstream = match test.has_upstream() {
            true => Some(stage.runtime.block_on(TestUpstream::start()).map_err(|why| why.to_string())?),
            false => None,
        };
        let scenario = adapted(proxy, &stage.redis, front_end.as_ref(), &stage.wasm, &key_prefix, upstream.as_ref());
        let scenario = scenario.map_err(|why| why.to_string())?;
        let workers = u32::try_from(test.workers).unwrap_or(1);
        let start = Serving::start(stage.host, &scenario, workers);
        let serving = match stage.host {
            HostKind::Embedded => stage.runtime.block_on(with_notice("test", start)),
            HostKind::Envoy => stage.runtime.block_on(start),
        };
        let serving = serving.map_err(|why| why.to_string())?;
        let target = serving.listener(&proxy.listener).map_err(|why| why.to_string())?;
        let written = scenario.limiter().map_err(|why| why.to_string())?;
        let config = tempfile::NamedTempFile::with_suffix_in(".yaml", stage.dir.path());
        let config = config.map_err(|why| why.to_string())?;
        std::fs::write(config.path(), written.to_string()).map_err(|why| why.to_string())?;
        Ok(Self {
            stage,
            setup,
            _front_end: front_end,
            upstream,
            written,
            admin: serving.admin(),
            serving: Some(serving),
            target,
            key_prefix,
            config,
        })
    }

    /// A counter or gauge of the host.
    async fn metric(&self, name: &str) -> u64 {
        let Some(admin) = self.admin else { return 0 };
        let Ok(stats) = client::get(admin, "/stats/prometheus", ANSWER_WITHIN).await else { return 0 };
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let text = String::from_utf8_lossy(&stats.body).into_owned();
        let value = |line: &str| {
            let rest = line.strip_prefix(&name)?;
            let value = if rest.starts_with('{') { rest.split_once('}')?.1 } else { rest };
            value.strip_prefix(' ')?.trim().parse::<f64>().ok()
        };
        text.lines().filter_map(value).map(|value| value as u64).sum()
    }

    async fn all_denied(&self) -> Denied {
        let mut denied =
            Denied { all: self.metric(&counter(self.setup, "requests.denied")).await, ..Denied::default() };
        for (limit, name) in denials(self.setup) {
            denied.by_limit.insert(limit, self.metric(&name).await);
        }
        denied
    }
}

impl Backend for Real<'_> {
    fn send(&mut self, requests: &Requests) -> Result<Observed, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers(self.setup, requests)? {
            let name = HeaderName::try_from(&name).map_err(|why| format!("{name}: {why}"))?;
            map.append(name, HeaderValue::try_from(&value).map_err(|why| why.to_string())?);
        }
        let host = HeaderValue::try_from(&requests.request.host).map_err(|why| why.to_string())?;
        map.insert(HOST, host);
        let method = Method::from_bytes(requests.request.method.as_bytes()).map_err(|why| why.to_string())?;
        let body = requests.request.body.clone().unwrap_or_default();
        let call = Call { target: self.target, method, path: requests.request.path.clone(), headers: map, body };
        let cut_off = self.upstream.as_ref().zip(requests.upstream.as_ref().filter(|it| it.end != End::Whole));
        if let Some(upstream) = &self.upstream {
            upstream.answer(requests);
        }
        self.stage.runtime.block_on(async {
            let mut observed = Observed::default();
            let spread = match requests.pace {
                Pace::InTurn => {
                    let mut client = Client::new(call.target, ANSWER_WITHIN);
                    for turn in 0..requests.count {
                        let seen = match cut_off {
                            Some((server, upstream)) => within(server.cut_off(&call, upstream)).await,
                            None => call.send(&mut client).await,
                        };
                        observed.add(turn, seen?);
                    }
                    return Ok(observed);
                }
                Pace::AtOnce => Micros::ZERO,
                Pace::Within(span) => span,
            };
            let (began, mut all) = (Instant::now(), JoinSet::new());
            let spread = Duration::from(spread);
            for turn in 0..requests.count {
                let offset = spread.mul_f64(turn as f64 / requests.count.max(1) as f64);
                tokio::time::sleep_until((began + offset).into()).await;
                let call = call.clone();
                all.spawn(async move { (turn, call.send(&mut Client::new(call.target, ANSWER_WITHIN)).await) });
            }
            for (turn, answer) in all.join_all().await {
                observed.add(turn, answer?);
            }
            Ok(observed)
        })
    }

    fn advance(&mut self, span: Micros) {
        std::thread::sleep(span.into());
    }

    fn redis(&mut self, state: RedisState) -> Result<(), String> {
        let Redis::Server(server) = &self.stage.redis else {
            return Err("this Redis is not the test's own".to_owned());
        };
        match state {
            RedisState::Down => server.kill(),
            RedisState::Up => {
                server.restart().map_err(|why| why.to_string())?;
                let connected = counter(self.setup, "redis.connected");
                self.stage.runtime.block_on(async {
                    let deadline = Instant::now() + CONNECTED_WITHIN;
                    while self.metric(&connected).await == 0 && Instant::now() < deadline {
                        tokio::time::sleep(POLL).await;
                    }
                });
            }
            RedisState::Flushed => {
                let flush = || {
                    let mut redis = redis::Client::open(server.url())?.get_connection()?;
                    redis::cmd("FLUSHALL").query::<()>(&mut redis)
                };
                flush().map_err(|why| format!("Redis: {why}"))?;
            }
        }
        Ok(())
    }

    fn limits(&mut self, words: &[String]) -> Result<(), String> {
        let (config, url) = (self.config.path().display().to_string(), self.stage.redis.url());
        let options = ["--config", &config, "--key-prefix", &self.key_prefix, "--redis", &url];
        let arguments: Vec<&str> = words.iter().map(String::as_str).chain(options).collect();
        let command = Limits::parse(&arguments).map_err(|why| why.to_string())?;
        command.perform(&mut std::io::sink(), &mut std::io::sink()).map_err(|why| why.to_string())?;
        let change = command.change(&self.setup.origin, &self.setup.written, Micros::ZERO);
        if let Ok(Some(crate::limits::Change::Field { .. })) = change
            && let Some(overrides) = &self.setup.config.overrides
        {
            std::thread::sleep(Duration::from(overrides.refresh_interval) + REFRESH_SLACK);
        }
        Ok(())
    }

    fn budget(&mut self, limit: &str, key: &[String], is_expected: &dyn Fn(Budget) -> bool) -> Result<Budget, String> {
        let key = budget_key(self.setup, &self.written, limit, key)?;
        let read = || {
            let mut redis = redis::Client::open(self.stage.redis.url())?.get_connection()?;
            let window: Option<String> = redis::cmd("HGET").arg(&key).arg("w").query(&mut redis)?;
            let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut redis)?;
            Ok((window, Micros::from_secs(seconds).plus(Micros(micros))))
        };
        let is_money = counts_money(self.setup, limit) == Some(true);
        let deadline = Instant::now() + REPORTED_WITHIN;
        loop {
            let (window, now) = read().map_err(|why: redis::RedisError| format!("Redis: {why}"))?;
            let budget = Budget { is_money, ..amounts(&window.unwrap_or_default(), now) };
            if is_expected(budget) || Instant::now() >= deadline {
                return Ok(budget);
            }
            std::thread::sleep(POLL);
        }
    }

    fn denied(&mut self, at_least: u64) -> Denied {
        self.stage.runtime.block_on(async {
            let deadline = Instant::now() + REPORTED_WITHIN;
            loop {
                let denied = self.all_denied().await;
                if denied.all >= at_least || Instant::now() >= deadline {
                    return denied;
                }
                tokio::time::sleep(POLL).await;
            }
        })
    }
}

impl Drop for Real<'_> {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            self.stage.runtime.block_on(serving.stop());
        }
        // The next test needs a Redis that runs.
        if let Redis::Server(server) = &self.stage.redis
            && server.id().is_none()
        {
            let _ = server.restart();
        }
    }
}

/// Time from a request to the end of its upstream's response.
fn lasts(requests: &Requests) -> Micros {
    requests.takes.plus(requests.upstream.as_ref().map_or(Micros::ZERO, Upstream::lasts))
}

/// Amounts in a budget's window as Redis has it: the start, what is spent and what is held; of a token bucket also the
/// units of a token, and those that flow in per µs.
fn amounts(window: &str, now: Micros) -> Budget {
    let numbers: Vec<u64> = window.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    match *numbers.as_slice() {
        [_, spent, held, _] => Budget { spent, held, ..Budget::default() },
        [start, units, held, _, unit, per_micro] => {
            let drained = now.minus(Micros(start)).0.saturating_mul(per_micro);
            Budget { spent: units.saturating_sub(drained).div_ceil(unit.max(1)), held, ..Budget::default() }
        }
        _ => Budget::default(),
    }
}

async fn within(sent: impl Future<Output = Result<Seen, String>>) -> Result<Seen, String> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, sent).await;
    answered.unwrap_or_else(|_| Err(format!("no response within {} ms", ANSWER_WITHIN.as_millis())))
}

/// Request of a client.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) target: SocketAddr,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// Value of a header, with U+FFFD for what is no UTF-8.
pub(super) fn text_of(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

impl Call {
    async fn send(&self, client: &mut Client) -> Result<Seen, String> {
        let began = Instant::now();
        let body = self.body.clone().into_bytes().into();
        let response = client.send(&self.method, &self.path, &self.headers, body).await;
        let Response { status, headers, body } = response.map_err(|why| why.to_string())?;
        Ok(Seen {
            status,
            headers: headers.iter().map(|(name, value)| (name.to_string(), text_of(value))).collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
            held: Micros(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)),
            upstream: None,
        })
    }
}

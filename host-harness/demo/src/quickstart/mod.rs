//! `weir demo`: runs the quickstart and checks that its limit holds.
//!
//! Builds the filter, starts a Redis, serves `envoy/quickstart.yaml` on free ports, sends the traffic of several users
//! and prints a table of the results. Stops every process that it started.

mod people;
mod promise;
mod table;

use std::{io, net::TcpListener, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use thiserror::Error;
use weir_host::scenario::{Scenario, ScenarioError};
use weir_provision::{
    ProvisionError, checkout, filter_wasm,
    port::free_port,
    redis::{Redis, RedisOptions},
};

use crate::{
    interrupt::Interrupt,
    output::{OutputError, note, print_result},
    serving::{HostKind, Serving, ServingError},
    traffic,
};

use promise::Promise;

const SCENARIO: &str = "envoy/quickstart.yaml";
const LISTENER: &str = "ingress";
const REDIS_CLUSTER: &str = "redis";
/// Exit code of a program that ctrl-c ended, as shells define it.
const INTERRUPTED: u8 = 130;

/// Runs the quickstart with a real Redis, and shows that its limit holds.
#[derive(Debug, Parser)]
#[command(name = "weir demo", version, about)]
pub struct Demo {
    /// Host that runs the filter
    #[arg(long, value_enum, default_value_t = HostKind::Embedded)]
    host: HostKind,
    /// Keep serving until ctrl-c, on the scenario's own ports if they are free
    #[arg(long)]
    keep: bool,
    /// Duration of the traffic, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Worker threads of the host
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
}

/// Reasons why the demo could not run.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    /// A component is missing or did not start.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The scenario is not as expected.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The scenario's first limit is not of the kind that the demo can check.
    #[error("{SCENARIO}: {0}")]
    Limit(#[from] promise::LimitError),
    /// The host did not start.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// No response has rate-limit headers: the filter does not reach Redis.
    #[error("no response with rate-limit headers from {0} within ten seconds: does the filter reach Redis?")]
    NotLimiting(std::net::SocketAddr),
    /// The result cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the demo. The exit code is 1 if the limit did not hold or requests failed.
///
/// # Errors
/// If a component is missing or does not start.
pub fn run(demo: Demo) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(perform(demo))?)
}

async fn perform(demo: Demo) -> Result<ExitCode, DemoError> {
    let mut interrupt = Interrupt::new()?;
    let shown = tokio::select! {
        _ = interrupt.wait() => return Ok(ExitCode::from(INTERRUPTED)),
        shown = show(&demo) => shown?,
    };
    if demo.keep {
        print_result(format_args!("\nserving until ctrl-c; try:\n  {}\n", shown.curl))?;
        interrupt.wait().await;
    }
    shown.serving.stop().await;
    let stage = shown.stage;
    blocking(move || {
        drop(stage);
        Ok(())
    })
    .await?;
    Ok(if shown.kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The demo after its table was printed: the servers still run.
struct Shown {
    serving: Serving,
    stage: Stage,
    kept: bool,
    curl: String,
}

async fn show(demo: &Demo) -> Result<Shown, DemoError> {
    let stage = blocking(Stage::set).await?;
    let (scenario, promise) = stage.scenario(demo.keep)?;
    note(format_args!("weir: starting the host with {SCENARIO}"));
    let serving = Serving::start(demo.host, &scenario, demo.workers).await?;
    let target = serving.listener(LISTENER)?;
    note(format_args!("weir: {SCENARIO} on {target} ({:?} host), Redis on {}", demo.host, stage.redis.addr()));

    people::wait_until_limiting(target, &promise, demo.workers).await?;
    let duration = Duration::from_secs(demo.seconds);
    let people = people::people(&promise, duration);
    note(format_args!("weir: sending the requests of {} users for {} s", people.len(), demo.seconds));
    let mut plan = traffic::Plan::new(target);
    plan.duration = duration;
    plan.users = people.iter().map(|person| person.user.clone()).collect();
    let counters = Arc::new(traffic::Counters::default());
    let bar = people::progress(duration, counters.clone());
    let report = traffic::run(plan, counters).await;
    bar.abort();
    let _ = bar.await;

    let kept = table::print(&promise, &people, &report)?;
    Ok(Shown { serving, stage, kept, curl: format!("curl -i -H '{}: me' http://{target}/", promise.header) })
}

/// Components around the host: Redis, the filter's module and a scratch folder.
struct Stage {
    redis: Redis,
    wasm: PathBuf,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn set() -> Result<Self, DemoError> {
        note(format_args!("weir: looking for the filter, and building it if it is not up to date"));
        let wasm = filter_wasm::find_or_build()?;
        note(format_args!("weir: starting a Redis"));
        let dir = checkout::scratch_dir("demo")?;
        let options = RedisOptions { appendonly: true, dir: Some(dir.path().join("redis")), ..RedisOptions::default() };
        Ok(Self { redis: Redis::provide(options)?, wasm, _dir: dir })
    }

    /// The scenario with this stage's addresses and module, and the promise of its first limit.
    fn scenario(&self, own_ports: bool) -> Result<(Scenario, Promise), DemoError> {
        let mut scenario = Scenario::load(checkout::root()?.join(SCENARIO))?;
        let promise = Promise::of(&scenario.limiter()?)?;
        let place = |wanted: Option<std::net::SocketAddr>| match wanted.filter(|addr| own_ports && is_free(*addr)) {
            Some(own) => Ok(own),
            None => free_port().map(|port| port.release()),
        };
        let (listener, admin) = (place(scenario.listener_addr(LISTENER))?, place(scenario.admin_addr())?);
        scenario.listener(LISTENER, listener)?.admin(admin)?.endpoint(REDIS_CLUSTER, self.redis.addr())?;
        scenario.wasm(&self.wasm)?;
        let (login, external) = (self.redis.login(), matches!(self.redis, Redis::External(_)));
        scenario.filter_configuration(|filter| {
            let redis = &mut filter["redis"];
            if external {
                redis["key_prefix"] = format!("weir-demo-{}:", std::process::id()).into();
            }
            if let Some(username) = &login.username {
                redis["username"] = username.clone().into();
            }
            if let Some(password) = &login.password {
                redis["password"] = serde_json::json!({ "inline": password });
            }
            if login.database != 0 {
                redis["database"] = login.database.into();
            }
        })?;
        Ok((scenario, promise))
    }
}

fn is_free(addr: std::net::SocketAddr) -> bool {
    TcpListener::bind(addr).is_ok()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DemoError> + Send + 'static,
) -> Result<T, DemoError> {
    tokio::task::spawn_blocking(work).await.map_err(|why| DemoError::Io(io::Error::other(why)))?
}

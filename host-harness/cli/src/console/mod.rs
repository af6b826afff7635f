//! `weir console`: serves one local page about limits, limited clients and overrides.
//!
//! | module | contents |
//! |---|---|
//! | `access` | checks of requests: token, session cookie, `Host` and `Origin` |
//! | `server` | listener and connections |
//! | `routes` | requests of the page, and their answers as JSON |
//! | `changes` | changes of overrides, as arguments of `weir limits` |
//! | `page` | the page: `page.html` with `page.css` and scripts, all in one response |
//! | `board` | last findings, for all requests; buckets that pages have opened |
//! | `watcher` | thread that reads Redis while a page is open, in steps of bounded work |
//! | `scanning` | scan of all keys for limited clients and overrides, a few steps each second |
//! | `spendings` | budgets of keys that have spent most |
//! | `decisions` | decisions of the stream of events: rates, denials of a key |
//! | `episodes` | times in which keys are limited |
//! | `samples` | levels of a bucket over the last minutes |
//! | `metrics` | counters of proxies, from their endpoints for Prometheus |
//! | `exposition` | names of these counters, in all forms that Envoy gives them |
//! | `rates` | rates of counters over the last minutes |

mod access;
mod board;
mod changes;
mod decisions;
mod episodes;
mod exposition;
mod metrics;
mod page;
mod rates;
mod routes;
mod samples;
mod scanning;
mod server;
mod spendings;
mod watcher;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::access::Access;
use self::board::Board;
use self::metrics::Endpoint;
use self::routes::Routes;
use self::watcher::Watcher;
use crate::interrupt::Interrupt;
use crate::limits::RedisOptions;
use crate::limits::live::LimitSet;
use crate::output;

/// Arguments of `weir console`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    redis: RedisOptions,
    /// The limits' configuration: an Envoy bootstrap, a limiter's configuration alone, or Kubernetes manifests.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Key prefix that replaces the configuration's redis.key_prefix.
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
    /// Counters of a proxy: Envoy's admin interface, such as http://127.0.0.1:9901, or the URL of any endpoint for
    /// Prometheus; repeatable.
    #[arg(long, value_name = "URL", value_parser = Endpoint::parse)]
    metrics: Vec<Endpoint>,
    /// Address and port of the page; port 0 is any free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Let --listen be an address that other machines reach. The connection has no TLS.
    #[arg(long)]
    allow_remote: bool,
    /// Host name by which browsers may reach the page, beside localhost and IP addresses; repeatable.
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// Let the page set and remove overrides.
    #[arg(long)]
    allow_changes: bool,
}

/// Running console. Dropping it closes the page and its connections.
#[derive(Debug)]
pub struct Console {
    addr: SocketAddr,
    token: String,
    board: Arc<Board>,
    tasks: Vec<JoinHandle<()>>,
}

impl Arguments {
    /// Parses the arguments after `weir console`.
    ///
    /// # Errors
    /// The error in the arguments, or the help text if they ask for it.
    pub fn parse(arguments: &[&str]) -> Result<Self, clap::Error> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("console").no_binary_name(true));
        <Self as clap::FromArgMatches>::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

impl Console {
    /// Reads the configuration and listens. Redis need not answer yet.
    ///
    /// # Errors
    /// If the configuration cannot be used, or the address cannot be listened on, or is not to be.
    pub async fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let Arguments { redis, config, key_prefix, metrics, listen, allow_remote, host_name, allow_changes } =
            arguments;
        anyhow::ensure!(
            *allow_remote || listen.ip().is_loopback(),
            "--listen {listen}: other machines reach this address; expected a loopback address such as 127.0.0.1:0, or \
             --allow-remote"
        );
        // The texts of these errors contain their causes.
        let limits = LimitSet::load(redis, config, key_prefix.as_deref()).map_err(|it| anyhow::anyhow!("{it}"))?;
        let limits = Arc::new(limits);
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let addr = listener.local_addr()?;
        let access = Access::new(addr.port(), host_name).context("no random numbers for a token")?;
        let token = access.token().to_owned();
        let board = Arc::new(Board::new(limits.metrics()));
        Watcher::start(Arc::clone(&limits), Arc::clone(&board)).context("cannot start a thread")?;
        let polling = tokio::spawn(metrics::poll(metrics.clone(), Arc::clone(&board)));
        let routes = Routes::new(limits, Arc::clone(&board), *allow_changes);
        let serving = tokio::spawn(server::serve(listener, Arc::new(routes), Arc::new(access)));
        Ok(Self { addr, token, board, tasks: vec![polling, serving] })
    }

    /// The address of the page.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The token that opens the page.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The URL of the page, with the token in its fragment, which browsers do not send.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/#token={}", self.addr, self.token)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.board.end();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Serves the page until interrupted.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let code = runtime.block_on(async {
        let mut interrupt = Interrupt::new().context("cannot wait for an interrupt")?;
        let console = Console::start(arguments).await?;
        output::print(format_args!("console on {}\n", console.url()))?;
        let changes = match arguments.allow_changes {
            true => "the page can set and remove overrides",
            false => "the page is read-only; --allow-changes lets it set and remove overrides",
        };
        output::note(format_args!("weir: {changes}"));
        if !console.addr.ip().is_loopback() {
            output::note(
                "weir: other machines reach the page, and the connection has no TLS: whoever reads it has the token",
            );
        }
        interrupt.wait().await;
        Ok(ExitCode::SUCCESS)
    });
    // A thread may wait for a Redis that does not answer.
    runtime.shutdown_background();
    code
}

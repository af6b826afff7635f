//! `weir trace FILE --request 'GET /'`: timeline of a request on the embedded host.
//!
//! | module | contents |
//! |---|---|
//! | `redis` | which Redis the request meets |
//! | `recorder` | events of the host |
//! | `hidden` | credentials and hashed values, which no output has |
//! | `wire` | commands and replies of Redis as text |
//! | `timeline` | events as texts |
//! | `decision` | decision on a request and its reason |
//! | `text`, `json`, `html` | outputs |

mod decision;
mod hidden;
mod html;
mod json;
mod recorder;
mod redis;
mod text;
mod timeline;
mod wire;

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use weir_demo::logging;
use weir_demo::serving::compiled_modules;
use weir_filter::config::Config;
use weir_host::bootstrap::Listener;
use weir_host::fault::Target;
use weir_host::trace::Tracing;
use weir_host::{Bootstrap, Host, HostOptions};
use weir_provision::client::{Client, Response};

use self::decision::Decision;
use self::hidden::Hidden;
use self::recorder::Recorder;
use self::timeline::{Reader, Step};
use self::wire::ScriptNames;
use crate::fault::{ClusterFault, inject_all};
use crate::interrupt;
use crate::output;
use crate::starting::with_notice;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Largest number of requests: each is kept whole.
const MOST_TIMES: i64 = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy bootstrap file, such as envoy/quickstart.yaml.
    file: PathBuf,
    /// Method and path of the request, such as `GET /search?q=x`.
    #[arg(long, default_value = "GET /", value_name = "REQUEST", value_parser = request_line)]
    request: (Method, String),
    /// Header of the request, such as `x-user-id: alice`; repeatable.
    #[arg(short = 'H', long, value_name = "HEADER", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Body of the request.
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Number of times that the request is sent, one after the other.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=MOST_TIMES))]
    times: i64,
    /// Listener of the request; otherwise the first of the file without TLS.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Form of the timeline on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,
    /// Fault between the host and a cluster, such as `redis: delay=20ms p=0.1`; repeatable.
    #[arg(long, value_name = "FAULT", value_parser = ClusterFault::parse)]
    fault: Vec<ClusterFault>,
    /// Seed of the choices of `--fault`: the same seed repeats them for the same commands and connections.
    #[arg(long, default_value_t = 1, value_name = "N", requires = "fault")]
    seed: u64,
    /// File for a page with the timeline as a picture; replaced if it exists.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines for people.
    Text,
    /// JSON object.
    Json,
}

/// Everything that the outputs show.
struct Trace {
    /// Origin of the bootstrap.
    file: String,
    /// Sentence that says which Redis the requests met.
    redis: String,
    exchanges: Vec<Exchange>,
}

/// A request, its response and the events in between.
struct Exchange {
    /// Method and path.
    request: String,
    /// Headers of the request as given, without hidden values.
    headers: Vec<(String, String)>,
    status: u16,
    response_headers: Vec<(String, String)>,
    /// Time until the response was complete, in microseconds.
    took: u128,
    decision: Decision,
    steps: Vec<Step>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    interrupt::end_cleanly().context("cannot wait for an interrupt")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let trace = runtime.block_on(trace(arguments))?;
    // Before the text, whose reader may not want all of it.
    if let Some(file) = &arguments.html {
        std::fs::write(file, html::render(&trace)).with_context(|| format!("cannot write {}", file.display()))?;
        output::note(format_args!("weir: wrote {}", file.display()));
    }
    match arguments.format {
        Format::Text => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
            output::print(text::render(&trace, colour))?;
        }
        Format::Json => output::print(format_args!("{:#}\n", json::render(&trace)))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn trace(arguments: &Arguments) -> anyhow::Result<Trace> {
    // The text of the error contains its cause.
    let mut bootstrap = Bootstrap::load(&arguments.file).map_err(|error| anyhow::Error::msg(error.to_string()))?;
    let limiters = hidden::limiters(&bootstrap);
    let redis = redis::provide(&mut bootstrap, &limiters).await?;
    // The proxies with the faults live as long as the requests.
    let faults = inject_all(&mut Target::Bootstrap(&mut bootstrap), &arguments.fault, arguments.seed).await?;
    let headers: HeaderMap = arguments.header.iter().cloned().collect();
    let hidden = Hidden::of(&bootstrap, &limiters, &arguments.request.1, &headers);
    // Modules log what they like.
    let of_log = hidden.clone();
    logging::rewrite(move |line| String::from_utf8_lossy(&of_log.without(line.as_bytes())).into_owned());
    let wanted = listener(&bootstrap, arguments.listener.as_deref())?;
    let is_limited = is_limited(&bootstrap, &wanted);
    bootstrap.admin = None;
    for listener in &mut bootstrap.listeners {
        listener.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    }
    let file = bootstrap.origin.clone();
    let recorder = Arc::new(Recorder::default());
    let tracing = Tracing::to(recorder.clone());
    let options = HostOptions { compiled_modules: compiled_modules(), tracing, ..HostOptions::default() };
    let running = with_notice("trace", tokio::task::spawn_blocking(|| Host::start(bootstrap, options))).await??;
    let address = running.listener(&wanted).with_context(|| format!("{file}: the listener `{wanted}` does not run"))?;
    let exchanges = exchanges(arguments, address, headers, &recorder, &hidden, &limiters, is_limited).await;
    // Waits for the host's threads.
    tokio::task::spawn_blocking(move || drop(running)).await?;
    drop(faults);
    Ok(Trace { file, redis: redis.shown, exchanges: exchanges? })
}

/// The name of the listener for the request: the one that is asked for, otherwise the first without TLS.
fn listener(bootstrap: &Bootstrap, wanted: Option<&str>) -> anyhow::Result<String> {
    let (file, all) = (&bootstrap.origin, &bootstrap.listeners);
    let names = all.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>().join(", ");
    let takes_plain = |listener: &&Listener| listener.all_chains().any(|chain| chain.tls.is_none());
    let found = match wanted {
        Some(wanted) => match all.iter().find(|listener| listener.name == wanted) {
            Some(listener) => Some(listener).filter(takes_plain),
            None => bail!("{file}: no listener `{wanted}`; found {names}"),
        },
        None if all.is_empty() => bail!("{file}: expected a listener for the request, found none"),
        None => all.iter().find(takes_plain),
    };
    found.map(|listener| listener.name.clone()).with_context(|| {
        let of = match wanted {
            Some(wanted) => format!("every filter chain of the listener `{wanted}` has transport_socket"),
            None => format!("every filter chain of the file has transport_socket (listeners: {names})"),
        };
        let way_on = match all.iter().find(takes_plain) {
            Some(other) => format!("name another listener: --listener {}", other.name),
            None => "trace a copy of the file without transport_socket".to_owned(),
        };
        format!(
            "{file}: expected a listener without TLS, since `weir trace` sends its request without TLS; {of}: {way_on}"
        )
    })
}

/// Whether a listener has a limiter among its filters.
fn is_limited(bootstrap: &Bootstrap, listener: &str) -> bool {
    let listeners = bootstrap.listeners.iter().filter(|it| it.name == listener);
    listeners.flat_map(Listener::plugins).any(|plugin| plugin.root_id == "limiter")
}

async fn exchanges(
    arguments: &Arguments,
    address: SocketAddr,
    headers: HeaderMap,
    recorder: &Recorder,
    hidden: &Hidden,
    limiters: &[Config],
    is_limited: bool,
) -> anyhow::Result<Vec<Exchange>> {
    let scripts = ScriptNames::of_weir();
    let mut reader = Reader::new(&scripts, hidden);
    let (method, path) = &arguments.request;
    let mut client = Client::new(address, ANSWER_WITHIN);
    client.connect().await?;
    recorder.quiet().await;
    // Events of the start name the metrics; they are not shown.
    reader.steps(&recorder.since(0), Instant::now());
    let mut exchanges = Vec::new();
    for _ in 0..arguments.times {
        let before = recorder.len();
        let start = Instant::now();
        let body = Bytes::from(arguments.body.clone().unwrap_or_default());
        let response: Response = client.send(method, path, &headers, body).await.context("no response")?;
        let took = start.elapsed().as_micros();
        let answered = recorder.len();
        recorder.quiet().await;
        if !limiters.is_empty() {
            recorder.ticked(answered).await;
        }
        let steps = reader.steps(&recorder.since(before), start);
        exchanges.push(Exchange {
            request: format!("{method} {}", shown_path(path, hidden)),
            headers: shown(&headers, hidden),
            status: response.status,
            response_headers: shown(&response.headers, hidden),
            took,
            decision: Decision::of(response.status, &response.headers, &steps, limiters, is_limited),
            steps,
        });
    }
    Ok(exchanges)
}

fn shown(headers: &HeaderMap, hidden: &Hidden) -> Vec<(String, String)> {
    let shown = headers.iter().map(|(name, value)| {
        let value = hidden.header_value(name.as_str().as_bytes(), value.as_bytes());
        (name.to_string(), String::from_utf8_lossy(&value).into_owned())
    });
    shown.collect()
}

fn shown_path(path: &str, hidden: &Hidden) -> String {
    String::from_utf8_lossy(&hidden.path_without(path.as_bytes())).into_owned()
}

fn request_line(text: &str) -> Result<(Method, String), String> {
    let expected = || format!("expected a method and a path such as `GET /search?q=x`, found `{text}`");
    let (method, path) = text.trim().split_once(' ').ok_or_else(expected)?;
    let path = path.trim();
    let is_path = path.starts_with('/') && path.parse::<hyper::Uri>().is_ok();
    match Method::from_bytes(method.as_bytes()) {
        Ok(method) if is_path => Ok((method, path.to_owned())),
        _ => Err(expected()),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    // The text may hold a secret: it is not repeated.
    let (name, value) = text.split_once(':').ok_or("expected `NAME: VALUE`, found no `:`")?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| "expected the name of a header before `:`")?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| format!("the value of `{name}` is not a header's"))?;
    Ok((name, value))
}

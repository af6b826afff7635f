//! `weir serve --host envoy`: an Envoy process in the foreground, with the log lines of the embedded host.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use weir_demo::interrupt::Interrupt;
use weir_host::documents::{At, Message, Source, SourceError, read_given};
use weir_host::fault::Target;
use weir_host::scenario::Scenario;
use weir_provision::{Reaper, raise_open_files_limit};

use super::start_log::StartLog;
use super::{Arguments, ports};
use crate::fault::{Injected, inject_all};
use crate::output;
use crate::printable;

/// Envoy's form of `[seconds][level][component] message`.
const LOG_FORMAT: &str = "[%E.%e][%l][%n] %v";
/// Message of Envoy's main thread once all listeners are bound.
const READY: &str = "[info][main] starting main dispatch loop";
/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Serves a file. `shows_all`: show all of Envoy's log as it comes.
pub(super) fn run(arguments: &Arguments, shows_all: bool) -> anyhow::Result<ExitCode> {
    let workers = arguments.workers;
    let found = weir_provision::envoy::binary();
    let binary = found.context("no Envoy; WEIR_ENVOY can be the path of one")?;
    raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before a folder is made: a signal would leave it behind.
        let mut interrupt = Interrupt::new().context("cannot wait for an interrupt")?;
        let Configuration { path, source, folder, faults } = configuration(arguments).await?;
        ports::are_free(&source)?;
        let version = version(&binary).await;
        let mut command = Command::new(binary);
        command.arg("-c").arg(&path).args(["--concurrency", &workers.to_string()]);
        // With hot restart, Envoys on one machine share memory, and each needs a base id of its own.
        command.args(["--disable-hot-restart", "--log-format", LOG_FORMAT, "--log-level", level()]);
        // The main component says when Envoy is ready.
        command.args(["--component-log-level", "main:info"]);
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut envoy = command.spawn().context("cannot start Envoy")?;
        let _reaper = envoy.id().and_then(|id| match &folder {
            Some(folder) => Reaper::with_folder(id, folder.path()),
            None => Reaper::of(id),
        });
        let log = envoy.stderr.take().context("Envoy's log cannot be read")?;
        let start = if shows_all { StartLog::whole() } else { StartLog::short() };
        let done = tokio::try_join!(show(log, &source, &version, start), until_ended(&mut envoy, &mut interrupt));
        if done.is_err() {
            terminate(&mut envoy).await?;
        }
        let ((), ended) = done?;
        let failed = ended.filter(|status| !status.success());
        faults.summary(None).iter().try_for_each(|line| output::print(format_args!("{line}\n")))?;
        anyhow::ensure!(failed.is_none(), "Envoy ended: {}; its log above says why", failed.unwrap_or_default());
        Ok(ExitCode::SUCCESS)
    })
}

/// Configuration of an Envoy.
struct Configuration {
    path: PathBuf,
    /// The documents of the file.
    source: Source,
    /// Folder of a copy, which is removed with this value.
    folder: Option<TempDir>,
    faults: Injected,
}

/// The file for Envoy: the file itself, or a copy of standard input or of a pipe; or a copy in which `WEIR_WASM` stands
/// for every `weir_filter.wasm`, as on the embedded host, and proxies that inject faults for clusters.
async fn configuration(arguments: &Arguments) -> anyhow::Result<Configuration> {
    let file = arguments.file.as_path();
    let bytes = read_given(file);
    // Envoy has a standard input of its own.
    let is_regular = file.is_file() && !file.starts_with("/dev") && !file.starts_with("/proc");
    let copied = bytes.as_ref().ok().filter(|_| !is_regular).cloned();
    let source = Source::of_given(file, bytes);
    if let Some(SourceError::Unreadable(error)) = &source.error {
        anyhow::bail!("{}: cannot be read: {error}", source.origin);
    }
    let mut changed = std::env::var_os("WEIR_WASM").and_then(|filter| {
        let mut scenario = Scenario::of(&source).ok()?;
        scenario.wasm(Path::new(&filter)).ok()?;
        Some(scenario)
    });
    let mut faults = Injected::default();
    if !arguments.fault.is_empty() {
        let mut scenario = match changed {
            Some(scenario) => scenario,
            None => Scenario::of(&source)?,
        };
        faults = inject_all(&mut Target::Scenario(&mut scenario), &arguments.fault, arguments.seed).await?;
        changed = Some(scenario);
    }
    let Some(bytes) = changed.map(|scenario| scenario.to_yaml().into_bytes()).or(copied) else {
        return Ok(Configuration { path: file.to_owned(), source, folder: None, faults });
    };
    let folder = tempfile::tempdir().context("cannot create a folder for Envoy's configuration")?;
    // JSON of a pipe may have what YAML does not, and YAML is no JSON.
    let path = folder.path().join(if source.is_json() { "envoy.json" } else { "envoy.yaml" });
    std::fs::write(&path, bytes).with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(Configuration { path, source, folder: Some(folder), faults })
}

/// The version that an executable names: `1.40.0`, or `of an unknown version`.
async fn version(binary: &Path) -> String {
    let asked = Command::new(binary).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output().await;
    let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // COMMIT/VERSION/…
    let version = text.rsplit("version: ").next().and_then(|version| version.split('/').nth(1));
    version.unwrap_or("of an unknown version").to_owned()
}

/// Envoy's name of the log level.
fn level() -> &'static str {
    match log::max_level() {
        log::LevelFilter::Off => "off",
        log::LevelFilter::Error => "error",
        log::LevelFilter::Warn => "warning",
        log::LevelFilter::Info => "info",
        log::LevelFilter::Debug => "debug",
        log::LevelFilter::Trace => "trace",
    }
}

/// Passes Envoy's log on, and names the listeners once Envoy serves.
async fn show(log: impl AsyncRead + Unpin, source: &Source, version: &str, mut start: StartLog) -> anyhow::Result<()> {
    let mut lines = BufReader::new(log).split(b'\n');
    let mut is_serving = false;
    while let Some(line) = lines.next_segment().await.context("Envoy's log cannot be read")? {
        let line = String::from_utf8_lossy(&line);
        if line.contains(READY) && !std::mem::replace(&mut is_serving, true) {
            start.succeeded();
            log::info!(target: "serve", "{} is served by Envoy {}", source.origin, printable::line(version));
            addresses(source).iter().try_for_each(|line| output::print(format_args!("{}\n", printable::line(line))))?;
        }
        let is_asked_for = log::max_level() >= log::LevelFilter::Info || !line.contains("[info][main]");
        if is_asked_for {
            start.take(&line);
        }
    }
    start.ended(source);
    Ok(())
}

/// Waits for Envoy's end, which an interrupt asks for: then there is no status.
async fn until_ended(envoy: &mut Child, interrupt: &mut Interrupt) -> anyhow::Result<Option<ExitStatus>> {
    tokio::select! {
        ended = envoy.wait() => return Ok(Some(ended.context("cannot wait for Envoy")?)),
        _ = interrupt.wait() => {}
    }
    terminate(envoy).await?;
    Ok(None)
}

/// Ends Envoy with SIGTERM, and with SIGKILL if that does not end it.
async fn terminate(envoy: &mut Child) -> anyhow::Result<()> {
    if let Some(id) = envoy.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        // Envoy may have ended meanwhile.
        let _ = kill_process(id, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, envoy.wait()).await.is_err() {
        envoy.kill().await.context("cannot end Envoy")?;
    }
    Ok(())
}

/// The lines about listeners and admin, with the addresses of the file.
fn addresses(source: &Source) -> Vec<String> {
    let Some(document) = source.documents.first() else { return Vec::new() };
    let root = At::root(document);
    let listeners = root.field("static_resources").map(|resources| resources.each("listeners")).unwrap_or_default();
    let listeners = listeners.iter().filter_map(|listener| {
        let address = socket_address(listener)?;
        let name = Some(listener.text_of("name")).filter(|name| !name.is_empty());
        Some(format!("listener `{}` on {}://{address}", name.unwrap_or(&address), scheme(listener)))
    });
    let admin = root.field("admin").and_then(|admin| socket_address(&admin));
    listeners.chain(admin.map(|address| format!("admin on http://{address}"))).collect()
}

/// Scheme of a listener's URL, by its address and its first chain: `http`, `https`, `tcp` or `udp`.
fn scheme(listener: &At<'_>) -> &'static str {
    let protocol = listener.fields(["address", "socket_address", "protocol"]);
    if protocol.is_some_and(|protocol| protocol.one_of(&["TCP", "UDP"]) == Some(1)) {
        return "udp";
    }
    let chain = listener.each("filter_chains").into_iter().next().or_else(|| listener.field("default_filter_chain"));
    let Some(chain) = chain else { return "tcp" };
    let last = chain.each("filters").pop().and_then(|filter| filter.field("typed_config"));
    let is_http =
        last.is_some_and(|last| Message::of(&last).is_some_and(|it| it.short_name() == "HttpConnectionManager"));
    match (is_http, chain.field("transport_socket")) {
        (false, _) => "tcp",
        (true, None) => "http",
        (true, Some(_)) => "https",
    }
}

fn socket_address(at: &At<'_>) -> Option<String> {
    let socket = at.fields(["address", "socket_address"])?;
    let (address, port) = (socket.text_of("address"), socket.field("port_value")?.integer()?);
    Some(if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") })
}

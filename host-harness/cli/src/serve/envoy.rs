//! `weir serve --host envoy`: an Envoy process in the foreground, with the log lines of the embedded host.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use weir_demo::interrupt::Interrupt;
use weir_host::documents::{At, Source};
use weir_host::scenario::Scenario;
use weir_provision::raise_open_files_limit;

/// Envoy's form of `[seconds][level][component] message`.
const LOG_FORMAT: &str = "[%E.%e][%l][%n] %v";
/// Message of Envoy's main thread once all listeners are bound.
const READY: &str = "[info][main] starting main dispatch loop";

pub(super) fn run(file: &Path, workers: usize) -> anyhow::Result<ExitCode> {
    let binary = weir_provision::envoy::binary()?;
    raise_open_files_limit();
    let scratch = tempfile::tempdir().context("cannot create a folder for Envoy's configuration")?;
    let config = with_override(file, scratch.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = Interrupt::new().context("cannot wait for an interrupt")?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config).args(["--concurrency", &workers.max(1).to_string()]);
        // With hot restart, Envoys on one machine share memory, and each needs a base id of its own.
        command.args(["--disable-hot-restart", "--log-format", LOG_FORMAT, "--log-level", level()]);
        // The main component says when Envoy is ready.
        command.args(["--component-log-level", "main:info"]);
        let mut envoy = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().context("cannot start Envoy")?;
        let log = envoy.stderr.take().context("Envoy's log cannot be read")?;
        let (shown, ended) = tokio::join!(show(log, file), until_ended(&mut envoy, &mut interrupt));
        shown.context("Envoy's log cannot be read")?;
        ended
    })
}

/// The file, or a copy in which `WEIR_WASM` stands for every `weir_filter.wasm`, as on the embedded host.
fn with_override(file: &Path, scratch: &Path) -> anyhow::Result<PathBuf> {
    let Some(filter) = std::env::var_os("WEIR_WASM") else { return Ok(file.to_owned()) };
    let mut scenario = Scenario::load(file)?;
    if scenario.wasm(Path::new(&filter)).is_err() {
        return Ok(file.to_owned());
    }
    let copy = scratch.join("envoy.yaml");
    std::fs::write(&copy, scenario.to_yaml()).with_context(|| format!("{}: cannot be written", copy.display()))?;
    Ok(copy)
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
async fn show(log: impl tokio::io::AsyncRead + Unpin, file: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(log).split(b'\n');
    let mut is_serving = false;
    while let Some(line) = lines.next_segment().await? {
        let line = String::from_utf8_lossy(&line);
        if line.contains(READY) && !std::mem::replace(&mut is_serving, true) {
            addresses(file).iter().for_each(|line| println!("{line}"));
        }
        let is_asked_for = log::max_level() >= log::LevelFilter::Info || !line.contains("[info][main]");
        if is_asked_for {
            eprintln!("{line}");
        }
    }
    Ok(())
}

/// Waits for Envoy's end, which an interrupt asks for.
async fn until_ended(envoy: &mut Child, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    let ended = tokio::select! {
        ended = envoy.wait() => Some(ended),
        () = interrupt.wait() => None,
    };
    match ended {
        Some(status) => {
            let status = status.context("cannot wait for Envoy")?;
            anyhow::ensure!(status.success(), "Envoy ended: {status}; its log above says why");
            Ok(ExitCode::SUCCESS)
        }
        None => {
            if let Some(id) = envoy.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
            {
                // Envoy may have ended meanwhile.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
            }
            envoy.wait().await.context("cannot wait for Envoy")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The lines about listeners and admin, with the addresses of the file.
fn addresses(file: &Path) -> Vec<String> {
    let source = Source::load(file);
    let Some(document) = source.documents.first() else { return Vec::new() };
    let root = At::root(document);
    let listeners = root.field("static_resources").map(|resources| resources.each("listeners")).unwrap_or_default();
    let listeners = listeners.iter().filter_map(|listener| {
        let address = socket_address(listener)?;
        let name = Some(listener.text_of("name")).filter(|name| !name.is_empty());
        Some(format!("listener `{}` on http://{address}", name.unwrap_or(&address)))
    });
    let admin = root.field("admin").and_then(|admin| socket_address(&admin));
    listeners.chain(admin.map(|address| format!("admin on http://{address}"))).collect()
}

fn socket_address(at: &At<'_>) -> Option<String> {
    let socket = at.fields(["address", "socket_address"])?;
    let (address, port) = (socket.text_of("address"), socket.field("port_value")?.integer()?);
    Some(if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") })
}

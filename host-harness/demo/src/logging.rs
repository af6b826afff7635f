//! Log lines on standard error, in Envoy's form: `[seconds][level][component] message`.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use weir_host::printable;

struct Stderr;

/// Change of all messages, such as one that hides credentials.
type Rewrite = Box<dyn Fn(&str) -> String + Send + Sync>;

static REWRITE: OnceLock<Rewrite> = OnceLock::new();

static STDERR: Stderr = Stderr;

/// Parses a level, by its name here or in Envoy.
///
/// # Errors
/// A text that names the levels.
pub fn level(text: &str) -> Result<log::LevelFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Ok(log::LevelFilter::Warn),
        "critical" => Ok(log::LevelFilter::Error),
        name => {
            let levels = "expected trace, debug, info, warn (or warning), error (or critical) or off";
            name.parse().map_err(|_| levels.to_owned())
        }
    }
}

/// Installs the logger, unless the process has one already.
pub fn install(level: log::LevelFilter) {
    if log::set_logger(&STDERR).is_ok() {
        log::set_max_level(level);
    }
}

/// Changes all messages from now on, unless they are changed already.
pub fn rewrite(change: impl Fn(&str) -> String + Send + Sync + 'static) {
    let _ = REWRITE.set(Box::new(change));
}

impl log::Log for Stderr {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Of libraries, only warnings and errors are shown.
        let foreign = ["hyper", "h2", "wasmtime", "cranelift", "mio", "tokio", "rustls"];
        let own = !foreign.iter().any(|name| metadata.target().starts_with(name));
        own || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warning",
            log::Level::Info => "info",
            log::Level::Debug => "debug",
            log::Level::Trace => "trace",
        };
        let (seconds, millis) = (now.as_secs(), now.subsec_millis());
        let message = record.args().to_string();
        let message = match REWRITE.get() {
            Some(rewrite) => rewrite(&message),
            None => message,
        };
        // A closed standard error is ignored: there is no other place to report to.
        let _ = writeln!(
            std::io::stderr().lock(),
            "[{seconds}.{millis:03}][{level}][{}] {}",
            record.target(),
            printable::lines(&message)
        );
    }

    fn flush(&self) {}
}

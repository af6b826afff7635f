//! End of a command that runs until somebody ends it.

use std::future::poll_fn;
use std::io;
use std::sync::OnceLock;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that a signal has ended, less the signal's number, as shells define it.
const FIRST_CODE: i32 = 128;

/// SIGINT (ctrl-c), SIGTERM, SIGQUIT, and SIGHUP unless the process was started to ignore it, from its creation on.
/// Without it, they end the process at once.
pub struct Interrupt {
    signals: Vec<(SignalKind, Signal)>,
}

impl Interrupt {
    /// Registers the signals.
    ///
    /// # Errors
    /// If the system refuses that.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit(), SignalKind::hangup()];
        let kinds = kinds.into_iter().filter(|kind| *kind != SignalKind::hangup() || !ignores_hangup());
        let signals = kinds.map(|kind| Ok((kind, signal(kind)?))).collect::<io::Result<_>>()?;
        Ok(Self { signals })
    }

    /// Waits for a signal, also one that has come since the creation, and returns its number.
    pub async fn wait(&mut self) -> i32 {
        poll_fn(|context| {
            let mut all = self.signals.iter_mut();
            let ready = all.find_map(|(kind, signal)| signal.poll_recv(context).is_ready().then_some(*kind));
            ready.map_or(Poll::Pending, |kind| Poll::Ready(kind.as_raw_value()))
        })
        .await
    }
}

/// Lets a signal end the process only after its servers and scratch folders are gone: for commands that run to their end.
/// The exit code is that of shells for the signal.
///
/// # Errors
/// If the system refuses to register the signals.
pub fn end_cleanly() -> io::Result<()> {
    static WAITS: OnceLock<()> = OnceLock::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupt = runtime.block_on(async { Interrupt::new() })?;
    if WAITS.set(()).is_ok() {
        std::thread::spawn(move || {
            let signal = runtime.block_on(interrupt.wait());
            weir_provision::abandon();
            std::process::exit(FIRST_CODE + signal);
        });
    }
    Ok(())
}

/// Whether the process was started to ignore SIGHUP, as by `nohup`. `false` where the system does not tell.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // The first bit is that of signal 1, SIGHUP.
    mask & 1 != 0
}

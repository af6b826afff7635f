//! End of a command that runs until somebody ends it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT (ctrl-c) and SIGTERM, from its creation on. Without it, they end the process at once.
pub struct Interrupt {
    int: Signal,
    term: Signal,
}

impl Interrupt {
    /// Registers the two signals.
    ///
    /// # Errors
    /// If the system refuses that.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal, also one that has come since the creation.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

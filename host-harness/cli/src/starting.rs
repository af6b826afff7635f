//! Starts of the embedded host: compiling a large module takes minutes.

use std::time::Duration;

/// Time of a start after which a line says what it waits for.
const NOTICE: Duration = Duration::from_secs(1);

/// Waits for a start, and says what it waits for if it takes long. `command` is the component of the line.
pub(crate) async fn with_notice<T>(command: &str, start: impl Future<Output = T>) -> T {
    tokio::pin!(start);
    tokio::select! {
        done = &mut start => return done,
        () = tokio::time::sleep(NOTICE) => {}
    }
    log::info!(target: command, "compiling and starting the wasm modules, which can take minutes");
    start.await
}

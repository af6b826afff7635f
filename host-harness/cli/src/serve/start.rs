//! Start of the embedded host, which a signal can end: compiling a large module takes minutes.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use weir_host::{Bootstrap, Host, HostError, HostOptions, Running};

use crate::interrupt::Interrupt;

/// Time of a start after which a line says what it waits for.
const NOTICE: Duration = Duration::from_secs(1);

/// Starts the host; `None` if a signal came first. The start then goes on in its thread until the process ends.
///
/// # Errors
/// If the host does not start.
pub(super) fn unless_interrupted(
    runtime: &Runtime,
    interrupt: &mut Interrupt,
    bootstrap: Bootstrap,
    options: HostOptions,
) -> Result<Option<Running>, HostError> {
    let (sender, started) = oneshot::channel();
    let starting = std::thread::Builder::new().name("start".to_owned());
    // The receiver is gone after a signal.
    let start = move || drop(sender.send(Host::start(bootstrap, options)));
    drop(starting.spawn(start).map_err(HostError::Thread)?);
    runtime.block_on(async {
        let started = async { started.await.unwrap_or(Err(HostError::WorkerGone)).map(Some) };
        tokio::pin!(started);
        tokio::select! {
            running = &mut started => return running,
            _ = interrupt.wait() => return Ok(None),
            () = tokio::time::sleep(NOTICE) => {}
        }
        log::info!(target: "serve", "compiling and starting the wasm modules, which can take minutes");
        tokio::select! {
            running = started => running,
            _ = interrupt.wait() => Ok(None),
        }
    })
}

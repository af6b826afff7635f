//! Start of the embedded host, which a signal can end: compiling a large module takes minutes.

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use weir_host::{Bootstrap, Host, HostError, HostOptions, Running};

use crate::interrupt::Interrupt;
use crate::starting::with_notice;

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
        tokio::select! {
            running = with_notice("serve", started) => running,
            _ = interrupt.wait() => Ok(None),
        }
    })
}

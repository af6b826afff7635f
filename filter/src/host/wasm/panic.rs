//! Panic handler: logs the location, then traps.

use alloc::string::String;
use core::arch::wasm32::unreachable;
use core::panic::PanicInfo;

use super::log;
use crate::host::Level;

/// Logs the panic's location and traps: the proxy then discards the VM. The message is left out, as it may repeat bytes
/// that a client sent. Without memory for the log line, the allocator traps.
#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    let line = panic.location().map_or_else(String::new, |at| format!("weir: panicked at {at}"));
    log(Level::Critical, &line);
    unreachable()
}

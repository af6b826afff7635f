//! What becomes of a panic, should there be one after all.

use alloc::string::String;
use core::arch::wasm32::unreachable;
use core::panic::PanicInfo;

use super::log;
use crate::host::Level;

/// Logs where, and traps: the proxy then gives up the VM. Why is left out, as it may repeat what a client sent. Without
/// memory for so much as the line, it panics within itself, until the stack is at its end and traps as well.
#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    let line = panic.location().map_or_else(String::new, |at| format!("weir: panicked at {at}"));
    log(Level::Critical, &line);
    unreachable()
}

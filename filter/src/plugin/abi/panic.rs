//! What becomes of a panic, should there be one after all.

use core::arch::wasm32::unreachable;
use core::panic::PanicInfo;

use super::{Level, log};

/// Says where and why, and traps: the proxy then gives up the VM. Without memory for so much as the line, it panics
/// within itself, until the stack is at its end and traps as well.
#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    log(Level::Critical, &format!("weir: {panic}").replace('\n', " "));
    unreachable()
}

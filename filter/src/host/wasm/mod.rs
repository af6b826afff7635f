//! Host on wasm: imports, exports, and the VM's memory.

mod allocator;
mod calls;
mod exports;
mod given;
mod imports;
mod one_thread;
mod panic;

pub(crate) use self::calls::*;

//! Host on wasm: imports, and the VM's memory.

mod allocator;
mod calls;
mod given;
mod imports;
mod one_thread;
mod panic;

pub(crate) use self::calls::*;
pub(crate) use self::one_thread::OneThread;

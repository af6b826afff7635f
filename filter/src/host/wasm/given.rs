//! Memory that the host fills for the module.

#![allow(unsafe_code, reason = "memory changes hands between the host and the module, as addresses")]

use alloc::alloc::alloc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{NonNull, null_mut};

/// Gives the host memory to fill, within one of its functions or before a callback. It comes back through [`taken`].
///
/// Null where there is none left; an address that is no memory, but not null either, for no bytes.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        Ok(_) if size == 0 => NonNull::dangling().as_ptr(),
        // SAFETY: the layout is not of size zero.
        Ok(layout) => unsafe { alloc(layout) },
        Err(_) => null_mut(),
    }
}

/// What a host function hands over: `call` passes it where to write the address and the size. Empty where the host
/// refuses or has nothing.
pub(super) fn taken(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let (mut bytes, mut size) = (null_mut::<u8>(), 0);
    if call(&raw mut bytes, &raw mut size) != 0 {
        return None;
    }
    if bytes.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: by its ABI the host hands over what `proxy_on_memory_allocate` gave it for this call, once, filled, and
    // with the size that it asked for: an allocation of that many bytes, aligned to one, that nobody else owns.
    Some(unsafe { Vec::from_raw_parts(bytes, size, size) })
}

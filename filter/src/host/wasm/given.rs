//! Memory that the module allocates and the host fills.

#![allow(unsafe_code, reason = "memory changes hands between the host and the module, as addresses")]

use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{NonNull, null_mut};

use super::allocator::MEMORY;

/// Allocates memory for the host to fill, within a host call or before a callback. [`receive`] takes ownership of it.
///
/// Returns null where no memory is left, and a dangling non-null address for 0 bytes.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        Ok(_) if size == 0 => NonNull::dangling().as_ptr(),
        Ok(_) => MEMORY.try_take(size).map_or(null_mut(), NonNull::as_ptr),
        Err(_) => null_mut(),
    }
}

/// Returns the bytes of a host call. `call` passes the host the addresses to write the bytes' address and size to.
/// `None` where the host call fails; no bytes where the host writes null.
pub(super) fn receive(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let (mut bytes, mut size) = (null_mut::<u8>(), 0);
    if call(&raw mut bytes, &raw mut size) != 0 {
        return None;
    }
    if bytes.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: by the ABI the host returns the allocation that `proxy_on_memory_allocate` made for this call, once,
    // filled, and with the size that the host asked for: an allocation of `size` bytes, aligned to 1, without another
    // owner.
    Some(unsafe { Vec::from_raw_parts(bytes, size, size) })
}

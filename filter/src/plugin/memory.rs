//! The VM's memory: small blocks are kept for the next who wants one of their size.
//!
//! A request takes and gives back a dozen small blocks, and the C library's allocator looks long for each. Here a
//! block is the first of a list, and goes back to it. What was once taken for small blocks stays with them: never
//! more than was in use at once.

#![allow(unsafe_code, reason = "an allocator hands out addresses")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::null_mut;
use std::alloc::System;

/// Sizes of small blocks are multiples of it.
const STEP: usize = 16;
/// The largest blocks that are small are of so many steps.
const CLASSES: usize = 64;
/// What the C library aligns to.
const ALIGN: usize = 8;

#[global_allocator]
static MEMORY: Blocks = Blocks { free: [const { Cell::new(null_mut()) }; CLASSES] };

/// Of each size, blocks that nobody uses: each begins with the address of the next.
struct Blocks {
    free: [Cell<*mut u8>; CLASSES],
}

// SAFETY: a VM has one thread.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// The list for such blocks, and their size; `None` for those that are not small.
    fn class(&self, size: usize, align: usize) -> Option<(&Cell<*mut u8>, usize)> {
        let class = size.wrapping_sub(1) / STEP;
        let free = self.free.get(class).filter(|_| align <= ALIGN)?;
        Some((free, class.wrapping_add(1).wrapping_mul(STEP)))
    }
}

// SAFETY: a block is on a list or in use, never both: it is taken off by the call that hands it out, and is as large
// as its list says. All blocks of a list come from the C library, which keeps its own account outside of them.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((free, size)) = self.class(layout.size(), layout.align()) else {
            return unsafe { System.alloc(layout) };
        };
        let block = free.get();
        if block.is_null() {
            return unsafe { System.alloc(Layout::from_size_align_unchecked(size, ALIGN)) };
        }
        free.set(unsafe { block.cast::<*mut u8>().read() });
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.class(layout.size(), layout.align()) {
            Some((free, _)) => {
                unsafe { block.cast::<*mut u8>().write(free.get()) };
                free.set(block);
            }
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, wanted: usize) -> *mut u8 {
        let size = |size| self.class(size, layout.align()).map(|(_, size)| size);
        let (held, needed) = (size(layout.size()), size(wanted));
        match (held, needed) {
            (None, None) => return unsafe { System.realloc(block, layout, wanted) },
            (Some(held), Some(needed)) if held == needed => return block,
            _ => {}
        }
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(wanted, layout.align())) };
        if !moved.is_null() {
            unsafe { block.copy_to_nonoverlapping(moved, layout.size().min(wanted)) };
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

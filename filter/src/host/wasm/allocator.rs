//! Global allocator: size-class free lists over `memory.grow`.
//!
//! A request allocates and frees a dozen small blocks; each costs one pop and one push on a free list. Sizes of up to 1
//! KiB are rounded up to a multiple of 16 bytes, larger sizes to a power of two. A block stays in its size class, so a
//! class holds at most as many blocks as were in use at once. The VM's memory grows and never shrinks.
//!
//! An allocation never returns null: where the VM has no more memory, it logs a line and traps. The compiler then leaves
//! out what the standard library does about a failed allocation, in every place that allocates.

#![allow(unsafe_code, reason = "an allocator hands out addresses")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size, unreachable};
use core::cell::Cell;
use core::ptr::{NonNull, with_exposed_provenance_mut};

use super::log;
use crate::host::Level;

/// Granularity of small sizes and alignment of every block, in bytes. A larger alignment is refused; no type needs it.
const STEP: usize = 16;
/// Small size classes: the largest small block has this many steps, 1 KiB.
const SMALL: usize = 64;
/// Large size classes: powers of two beyond the small sizes, up to half of the VM's address space.
const LARGE: usize = 21;
/// Bytes of a wasm page, the unit of `memory.grow`.
const PAGE: usize = 65_536;
/// End of a free list. It is not null, so that no address on a list is: the compiler sees that `alloc` returns no null.
const NONE: NonNull<u8> = NonNull::dangling();

#[global_allocator]
pub(super) static MEMORY: Blocks = Blocks {
    small: [const { Cell::new(NONE) }; SMALL],
    large: [const { Cell::new(NONE) }; LARGE],
    fresh: Cell::new(0),
    end: Cell::new(0),
};

/// Free lists, one for each size class. A free block starts with the address of the next free block.
pub(super) struct Blocks {
    small: [Cell<NonNull<u8>>; SMALL],
    large: [Cell<NonNull<u8>>; LARGE],
    /// Start of the memory that was never allocated; it ends at `end`.
    fresh: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: a VM has one thread.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// Allocates a block, aligned to [`STEP`]. `None` where the VM has no more memory.
    pub(super) fn try_take(&self, size: usize) -> Option<NonNull<u8>> {
        let (free, size) = self.class(size)?;
        self.pop(free).or_else(|| self.carve(size))
    }

    /// Allocates a block, aligned to [`STEP`].
    #[inline(never)]
    fn take(&self, size: usize) -> NonNull<u8> {
        let Some((free, size)) = self.class(size) else { out_of_memory() };
        self.pop(free).unwrap_or_else(|| self.carve_or_trap(size))
    }

    /// Frees a block.
    ///
    /// # Safety
    /// The caller gives up `block`, which was allocated with this size.
    #[inline(never)]
    unsafe fn give_back(&self, block: NonNull<u8>, size: usize) {
        if let Some((free, _)) = self.class(size) {
            // SAFETY: a block has at least the size of an address, and nobody else uses this one.
            unsafe { block.cast::<NonNull<u8>>().write(free.get()) };
            free.set(block);
        }
    }

    /// Returns a block of the size `wanted` that begins with the bytes of `block`.
    ///
    /// # Safety
    /// The caller gives up `block`, which was allocated with this size.
    #[inline(never)]
    unsafe fn resize(&self, block: NonNull<u8>, size: usize, wanted: usize) -> NonNull<u8> {
        let class = |size| self.class(size).map(|(_, size)| size);
        if class(size) == class(wanted) {
            return block;
        }
        let moved = self.take(wanted);
        // SAFETY: the blocks have at least these sizes, and `moved` was in no use.
        unsafe { block.copy_to_nonoverlapping(moved, size.min(wanted)) };
        // SAFETY: the caller gives it up.
        unsafe { self.give_back(block, size) };
        moved
    }

    /// Returns the first block of a free list, without it.
    #[inline(always)]
    fn pop(&self, free: &Cell<NonNull<u8>>) -> Option<NonNull<u8>> {
        let block = free.get();
        if block == NONE {
            return None;
        }
        // SAFETY: a block on a free list starts with the address of the next one.
        free.set(unsafe { block.cast::<NonNull<u8>>().read() });
        Some(block)
    }

    /// Returns the free list of a size's class, and the size of its blocks; `None` for a size without a class.
    #[inline(always)]
    fn class(&self, size: usize) -> Option<(&Cell<NonNull<u8>>, usize)> {
        let small = size.wrapping_sub(1) / STEP;
        match self.small.get(small) {
            Some(free) => Some((free, small.wrapping_add(1).wrapping_mul(STEP))),
            None => self.large_class(size),
        }
    }

    #[inline(never)]
    fn large_class(&self, size: usize) -> Option<(&Cell<NonNull<u8>>, usize)> {
        let size = size.checked_next_power_of_two()?;
        let least = STEP.wrapping_mul(SMALL).trailing_zeros().wrapping_add(1);
        let class = usize::try_from(size.trailing_zeros().checked_sub(least)?).ok()?;
        Some((self.large.get(class)?, size))
    }

    /// Allocates a block from memory that was never allocated before. `None` where the VM has no more memory.
    #[inline(never)]
    fn carve(&self, size: usize) -> Option<NonNull<u8>> {
        let end = memory_size::<0>().wrapping_mul(PAGE);
        if self.end.replace(end) != end {
            // Memory that is present before the first call belongs to the stack and the statics.
            self.fresh.set(end);
        }
        let block = self.fresh.get();
        let missing = size.saturating_sub(end.wrapping_sub(block));
        if missing > 0 {
            let pages = missing.div_ceil(PAGE);
            if memory_grow::<0>(pages) == usize::MAX {
                return None;
            }
            self.end.set(end.wrapping_add(pages.wrapping_mul(PAGE)));
        }
        self.fresh.set(block.wrapping_add(size));
        NonNull::new(with_exposed_provenance_mut(block))
    }

    /// Like [`carve`](Self::carve), for callers that cannot go on without memory.
    #[inline(never)]
    fn carve_or_trap(&self, size: usize) -> NonNull<u8> {
        self.carve(size).unwrap_or_else(|| out_of_memory())
    }
}

/// Logs that no memory is left and traps: the proxy then discards the VM.
#[cold]
#[inline(never)]
fn out_of_memory() -> ! {
    log(Level::Critical, "weir: out of memory");
    unreachable()
}

// SAFETY: a block is on a free list or in use, never both: it is carved out of memory that was never allocated, or
// popped off its list by the call that returns it, and it has the size of its class.
unsafe impl GlobalAlloc for Blocks {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > STEP {
            out_of_memory();
        }
        self.take(layout.size()).as_ptr()
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { self.give_back(NonNull::new_unchecked(block), layout.size()) };
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, wanted: usize) -> *mut u8 {
        unsafe { self.resize(NonNull::new_unchecked(block), layout.size(), wanted) }.as_ptr()
    }
}

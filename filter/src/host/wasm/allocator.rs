//! Global allocator: size-class free lists over `memory.grow`.
//!
//! A request allocates and frees a dozen small blocks; each costs one pop and one push on a free list. Sizes of up to 1
//! KiB are rounded up to a multiple of 16 bytes, larger sizes to a power of two. A block stays in its size class, so a
//! class holds at most as many blocks as were in use at once. The VM's memory grows and never shrinks.

#![allow(unsafe_code, reason = "an allocator hands out addresses")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr::{null_mut, with_exposed_provenance_mut};

/// Granularity of small sizes and alignment of every block, in bytes. A larger alignment is refused; no type needs it.
const STEP: usize = 16;
/// Small size classes: the largest small block has this many steps, 1 KiB.
const SMALL: usize = 64;
/// Large size classes: powers of two beyond the small sizes, up to half of the VM's address space.
const LARGE: usize = 21;
/// Bytes of a wasm page, the unit of `memory.grow`.
const PAGE: usize = 65_536;

#[global_allocator]
static MEMORY: Blocks = Blocks {
    small: [const { Cell::new(null_mut()) }; SMALL],
    large: [const { Cell::new(null_mut()) }; LARGE],
    fresh: Cell::new(0),
    end: Cell::new(0),
};

/// Free lists, one for each size class. A free block starts with the address of the next free block.
struct Blocks {
    small: [Cell<*mut u8>; SMALL],
    large: [Cell<*mut u8>; LARGE],
    /// Start of the memory that was never allocated; it ends at `end`.
    fresh: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: a VM has one thread.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// Returns the free list of a layout's size class, and the size of its blocks; `None` for a layout without a class.
    #[inline(always)]
    fn class(&self, layout: Layout) -> Option<(&Cell<*mut u8>, usize)> {
        let small = layout.size().wrapping_sub(1) / STEP;
        let class = match self.small.get(small) {
            Some(free) => (free, small.wrapping_add(1).wrapping_mul(STEP)),
            None => self.large_class(layout.size())?,
        };
        (layout.align() <= STEP).then_some(class)
    }

    #[inline(never)]
    fn large_class(&self, size: usize) -> Option<(&Cell<*mut u8>, usize)> {
        let size = size.checked_next_power_of_two()?;
        let least = STEP.wrapping_mul(SMALL).trailing_zeros().wrapping_add(1);
        let class = usize::try_from(size.trailing_zeros().checked_sub(least)?).ok()?;
        Some((self.large.get(class)?, size))
    }

    /// Allocates a block from memory that was never allocated before. Null where the VM has no more memory.
    #[inline(never)]
    fn carve(&self, size: usize) -> *mut u8 {
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
                return null_mut();
            }
            self.end.set(end.wrapping_add(pages.wrapping_mul(PAGE)));
        }
        self.fresh.set(block.wrapping_add(size));
        with_exposed_provenance_mut(block)
    }
}

// SAFETY: a block is on a free list or in use, never both: it is carved out of memory that was never allocated, or
// popped off its list by the call that returns it, and it has the size of its class.
unsafe impl GlobalAlloc for Blocks {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((free, size)) = self.class(layout) else { return null_mut() };
        let block = free.get();
        if block.is_null() {
            return self.carve(size);
        }
        free.set(unsafe { block.cast::<*mut u8>().read() });
        block
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some((free, _)) = self.class(layout) {
            unsafe { block.cast::<*mut u8>().write(free.get()) };
            free.set(block);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, wanted: usize) -> *mut u8 {
        let wanted = unsafe { Layout::from_size_align_unchecked(wanted, layout.align()) };
        let size = |layout| self.class(layout).map(|(_, size)| size);
        if size(layout) == size(wanted) {
            return block;
        }
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            unsafe { block.copy_to_nonoverlapping(moved, layout.size().min(wanted.size())) };
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

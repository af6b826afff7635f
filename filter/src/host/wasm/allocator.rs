//! The VM's memory: what was given back is kept for the next who wants a block of its size.
//!
//! A request takes and gives back a dozen small blocks. Each is the first of a list, and goes back to it. Blocks of up
//! to a KiB are rounded up to 16 bytes, larger ones to a power of two. What was once taken for a size stays with it: of
//! no size is there more than was in use at once. Below it is only the VM's memory, which grows and never shrinks.

#![allow(unsafe_code, reason = "an allocator hands out addresses")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr::{null_mut, with_exposed_provenance_mut};

/// Sizes of small blocks are multiples of it, and every block is aligned to it. Nobody wants more.
const STEP: usize = 16;
/// The largest blocks that are small are of so many steps.
const SMALL: usize = 64;
/// Powers of two beyond the small sizes, up to half of all that a VM can address.
const LARGE: usize = 21;
/// What memory grows by.
const PAGE: usize = 65_536;

#[global_allocator]
static MEMORY: Blocks = Blocks {
    small: [const { Cell::new(null_mut()) }; SMALL],
    large: [const { Cell::new(null_mut()) }; LARGE],
    fresh: Cell::new(0),
    end: Cell::new(0),
};

/// Of each size, blocks that nobody uses: each begins with the address of the next.
struct Blocks {
    small: [Cell<*mut u8>; SMALL],
    large: [Cell<*mut u8>; LARGE],
    /// From here to `end`, memory was never handed out.
    fresh: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: a VM has one thread.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// The list for such blocks, and their size; `None` for those that there are not.
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

    /// A block of memory that was never handed out. Null where there is no more.
    #[inline(never)]
    fn carve(&self, size: usize) -> *mut u8 {
        let end = memory_size::<0>().wrapping_mul(PAGE);
        if self.end.replace(end) != end {
            // At first, all that there is belongs to the stack and the statics.
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

// SAFETY: a block is on a list or in use, never both: it is carved out of memory that nobody else has, or taken off its
// list by the call that hands it out, and is as large as its list says.
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

//! An allocator that counts: how often memory is asked for, how much lives, and how much has lived at most. Only for tests
//! and benchmarks; an allocator cannot be written without `unsafe`.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// Of each thread alone: the test harness runs tests side by side.
thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came; counting does not touch the memory and does not
// allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        LIVE.set(LIVE.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(LIVE.get()));
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`, and all memory comes from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How often this thread has asked for memory.
#[allow(dead_code)] // the test asks, the benchmark does not
pub(crate) fn calls() -> usize {
    CALLS.get()
}

/// Bytes that live now, of those this thread asked for.
pub(crate) fn live() -> usize {
    LIVE.get()
}

/// The most bytes that have lived since this was last asked.
#[allow(dead_code)] // the benchmark asks, the test does not
pub(crate) fn peak() -> usize {
    PEAK.replace(LIVE.get())
}

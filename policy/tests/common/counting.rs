//! An allocator that counts: how often memory is asked for, how much lives, and how much has lived at most. Only for tests
//! and benchmarks; an allocator cannot be written without `unsafe`.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Of this thread alone: the test harness has threads of its own.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came; counting does not touch the memory and does not
// allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`, and all memory comes from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How often this thread has asked for memory.
#[allow(dead_code)] // the test asks, the benchmark does not
pub(crate) fn calls() -> usize {
    CALLS.with(Cell::get)
}

/// Bytes that live now.
pub(crate) fn live() -> usize {
    LIVE.load(Relaxed)
}

/// The most bytes that have lived since this was last asked.
#[allow(dead_code)] // the benchmark asks, the test does not
pub(crate) fn peak() -> usize {
    PEAK.swap(live(), Relaxed)
}

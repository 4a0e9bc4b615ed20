//! Which edges of the program have been taken: the counters that LLVM's SanitizerCoverage puts into instrumented crates.
//!
//! In: a program whose crates were compiled with `-Cpasses=sancov-module` and inline 8-bit counters (`fuzz/instrument`).
//! Out: the counters since the last look, and the code address of each edge. Any other program has none. This crate itself
//! is never instrumented, so looking leaves no trace.

use std::{
    ptr, slice,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
};

static COUNTERS: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);
static PLACES: AtomicPtr<usize> = AtomicPtr::new(ptr::null_mut());

/// How many edges are counted; 0 in a program that is not instrumented.
pub fn edges() -> usize {
    COUNT.load(Relaxed)
}

/// Moves the counters into `into`, which becomes as long as there are edges, and sets them to zero.
///
/// A counter wraps at 256. Other threads may count meanwhile; such a count may be lost, as it may be without this.
pub fn take(into: &mut Vec<u8>) {
    into.resize(edges(), 0);
    let counters = COUNTERS.load(Relaxed);
    if counters.is_null() {
        return;
    }
    // SAFETY: the constructor of the program has told us this memory, which is writable, as long as COUNT, and there for as
    // long as the program runs; `into` is as long, and no part of it. The bytes are plain numbers, any value is valid.
    unsafe {
        ptr::copy_nonoverlapping(counters, into.as_mut_ptr(), into.len());
        ptr::write_bytes(counters, 0, into.len());
    }
}

/// The address of each edge's code in this process, in the order of the counters.
pub fn places() -> Vec<usize> {
    let places = PLACES.load(Relaxed);
    if places.is_null() {
        return Vec::new();
    }
    // SAFETY: LLVM writes two words per counter, an address and flags, into constant memory of the program.
    let words = unsafe { slice::from_raw_parts(places, edges() * 2) };
    words.iter().step_by(2).copied().collect()
}

/// Called by the program's constructors, each time with the counters of the whole program.
// SAFETY: the name belongs to SanitizerCoverage and is defined nowhere else in a program built here.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    COUNTERS.store(start, Relaxed);
    COUNT.store(stop.addr().saturating_sub(start.addr()), Relaxed);
}

/// The same for the table of addresses.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_pcs_init(start: *mut usize, _stop: *mut usize) {
    PLACES.store(start, Relaxed);
}

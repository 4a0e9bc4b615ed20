//! Large buffers of one worker, lent for the length of one read or write.
//!
//! A read or write never waits while it holds one: what is left over is moved to memory of its own size first. So a handful
//! serves any number of connections. Buffers are never zeroed; what lies beyond their length is never read.

use std::cell::RefCell;

/// Room for the plaintext one write takes in, or one read asks for, as records, and for one more record.
pub(super) const CAPACITY: usize = 96 * 1024;

/// An empty buffer of at least [`CAPACITY`].
pub(super) fn take() -> Vec<u8> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(CAPACITY))
}

/// Takes a buffer back, whatever is in it; one of another size is freed.
pub(super) fn put(mut buffer: Vec<u8>) {
    if buffer.capacity() < CAPACITY || buffer.capacity() > 2 * CAPACITY {
        return;
    }
    buffer.clear();
    // Without the store (a thread that ends) the buffer is freed.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
}

/// Only one read or write runs at a time on a worker; the others are out as unsent rests of blocked writers.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

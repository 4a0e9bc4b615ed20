//! Giving memory back that the allocator holds and nobody uses.

/// Returns what this thread's part of the allocator has free to the operating system.
///
/// Meant for a thread that has just dropped much at once, such as the connections of a burst. It walks every page of the
/// thread's heap, so it is nothing for the path of a request.
pub fn release() {
    // Needed: the allocator has no safe interface for it. Sound: it takes no pointers, works on the calling thread's heap
    // only, and may be called whether or not mimalloc is the global allocator.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn releasing_twice_is_as_good_as_once() {
        super::release();
        super::release();
    }
}

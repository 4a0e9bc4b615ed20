//! How much memory this process occupies, and giving back what the allocator holds and nobody uses.

/// Resident bytes of this process, from `/proc/self/statm` (proc_pid_statm(5)). `None` where the system does not say.
#[must_use]
pub fn resident() -> Option<u64> {
    resident_pages(&std::fs::read_to_string("/proc/self/statm").ok()?)?.checked_mul(page_size()?)
}

/// The second number of `statm`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn page_size() -> Option<u64> {
    // Needed: no safe interface. Sound: it takes a number and returns one, or -1.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
}

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
    use super::*;

    #[test]
    fn the_resident_set_is_told_in_bytes() {
        assert_eq!(resident_pages("5120 2304 1024 1 0 512 0\n"), Some(2304));
        assert_eq!(resident_pages(""), None);
        assert!(resident().is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn releasing_twice_is_as_good_as_once() {
        release();
        release();
    }
}

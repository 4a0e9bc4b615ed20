//! How many file descriptors this process may have open.

use libc::{RLIM_INFINITY, RLIMIT_NOFILE, rlimit};

/// Raises the soft limit to the hard one, which needs no right, and returns what holds then. `None`: the kernel does not say.
#[must_use]
pub fn raise() -> Option<u64> {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    // Needed: no safe interface. Sound: the pointer is to a live value of the right type for the length of the call.
    if unsafe { libc::getrlimit(RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let raised = rlimit { rlim_cur: limit.rlim_max, ..limit };
    // Needed and sound as above; the value is only read.
    if limit.rlim_cur < limit.rlim_max && unsafe { libc::setrlimit(RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    Some(if limit.rlim_cur == RLIM_INFINITY { u64::MAX } else { limit.rlim_cur })
}

#[cfg(test)]
mod tests {
    #[test]
    fn raising_twice_changes_nothing_more() {
        let first = super::raise();
        assert!(first.is_some_and(|limit| limit >= 3));
        assert_eq!(super::raise(), first);
    }
}

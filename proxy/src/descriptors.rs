//! Keeping some file descriptors free for what must always work: listeners, files, connections upstream of requests that were
//! let in, and whoever asks for health.
//!
//! The kernel gives each new descriptor the lowest number that is free (POSIX.1-2024, XSH 2.6), so a number tells how many are in
//! use at least. Whoever gets one above its bound gives it back at once.

use crate::limits;
use std::os::fd::{AsRawFd, RawFd};

/// The numbers from which a descriptor is too high for its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    downstream: RawFd,
    upstream: RawFd,
}

impl Descriptors {
    /// `limit` is how many this process may have open. `None`: not known, so nothing is refused.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let upstream = limit.saturating_sub(limits::SPARE_DESCRIPTORS);
        // As many as one busy upstream takes, or a quarter.
        let downstream = upstream.saturating_sub((limit / 4).min(limits::UPSTREAM_CONNECTIONS));
        let number = |bound| RawFd::try_from(bound).unwrap_or(RawFd::MAX);
        Self { downstream: number(downstream), upstream: number(upstream) }
    }

    /// Whether a connection from downstream may keep its descriptor.
    pub(crate) fn admit_downstream(self, socket: &impl AsRawFd) -> bool {
        socket.as_raw_fd() < self.downstream
    }

    /// Whether a connection to upstream may keep its descriptor.
    pub(crate) fn admit_upstream(self, socket: &impl AsRawFd) -> bool {
        socket.as_raw_fd() < self.upstream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_left_for_upstream_and_some_for_neither() {
        assert_eq!(Descriptors::new(Some(1024)), Descriptors { downstream: 704, upstream: 960 });
        assert_eq!(Descriptors::new(Some(20_000)), Descriptors { downstream: 18_912, upstream: 19_936 });
        assert_eq!(Descriptors::new(None).downstream, RawFd::MAX);
        assert!(!Descriptors::new(Some(1)).admit_downstream(&3) && Descriptors::new(None).admit_upstream(&3));
    }
}

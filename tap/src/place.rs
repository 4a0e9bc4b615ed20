//! Where the copy of an exchange lies: what a tap of packets found out when it built them, for the records of other taps.
//!
//! A record names the connection of the copy that holds the first byte of what it tells of. Which that is only the thread that
//! builds the packets knows, and after a rollover it is not the first. So the two taps share one of these: written once, by an
//! admission that is built, or given up. Who reads it does not wait here; see `station/records.rs`.

use std::sync::{Arc, OnceLock};

use crate::packet::Tuple;
use crate::tap::Shared;

/// Where the packets of one exchange or stream begin.
#[derive(Debug)]
pub struct Place {
    tap: Arc<Shared>,
    /// Empty until it is known; `None` inside: nothing was copied.
    at: OnceLock<Option<Tuple>>,
}

impl Place {
    pub(crate) fn new(tap: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { tap: Arc::clone(tap), at: OnceLock::new() })
    }

    /// Only the first word counts.
    pub(crate) fn tell(&self, at: Option<Tuple>) {
        let _ = self.at.set(at);
    }

    /// It is known where the copy lies, or that there is none.
    pub(crate) fn is_known(&self) -> bool {
        self.at.get().is_some()
    }

    /// Name of the tap that copied it, and the connection.
    pub(crate) fn found(&self) -> Option<(&str, Tuple)> {
        self.at.get().copied().flatten().map(|at| (self.tap.settings.name.as_str(), at))
    }
}

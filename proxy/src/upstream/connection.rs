//! An open connection to an upstream, of either version of HTTP.

use crate::http::{h1, h2};
use std::task::Context;

/// The connection.
pub(crate) enum Upstream {
    One(Box<h1::Client>),
    Two(h2::Client),
}

impl Upstream {
    /// Whether another request may be sent on it now.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::One(client) => client.is_quiet(cx),
            Self::Two(client) => client.is_ready(),
        }
    }

    /// Another handle to the same connection, if it carries several requests at once.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Two(client) => Some(Self::Two(client.clone())),
        }
    }

    /// Whether one more request may share it.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Two(client) => client.has_room(),
        }
    }

    pub(super) fn is_wide(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Two(client) => client.is_wide(),
        }
    }

    /// Handles to this connection besides the pool's own: requests in flight.
    pub(super) fn in_flight(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Two(client) => client.in_flight(),
        }
    }
}

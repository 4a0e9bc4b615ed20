//! Somebody at the other end of a connection, whose part in the rules is looked up once and not for every request.
//!
//! A party holds the identity and the address it was looked up for, so they cannot come apart from what was found; and it
//! knows by which rules, so that it is worth nothing to newer ones.

use crate::compiled::{Compiled, Known};
use crate::rule::Direction;
use identity::SpiffeId;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Who a connection is about; [`crate::RuleSet::introduce`] makes one, [`crate::RuleSet::decide_for`] takes it.
#[derive(Clone)]
pub struct Party {
    direction: Direction,
    peer: Option<SpiffeId>,
    ip: Option<IpAddr>,
    /// Invariant: found by the tables of `rules`, for this direction, identity and address.
    known: Known,
    /// Not a reference that keeps old rules alive. As long as it is here, no other tables stand at its address.
    rules: Weak<Compiled>,
}

impl Party {
    pub(crate) fn new(rules: &Arc<Compiled>, direction: Direction, peer: Option<SpiffeId>, ip: Option<IpAddr>) -> Self {
        let known = rules.index(direction).know(peer.as_ref(), ip);
        Self { direction, peer, ip, known, rules: Arc::downgrade(rules) }
    }

    /// What these rules know of the party; `None` when it was introduced to others.
    pub(crate) fn known_to(&self, rules: &Arc<Compiled>) -> Option<&Known> {
        std::ptr::eq(self.rules.as_ptr(), Arc::as_ptr(rules)).then_some(&self.known)
    }

    /// Which way its requests go.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Inbound: the verified caller. Outbound: the identity the destination must prove. `None`: no identity.
    #[must_use]
    pub fn peer(&self) -> Option<&SpiffeId> {
        self.peer.as_ref()
    }

    /// Outbound: the address that would be dialled.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, peer, ip, known: _, rules: _ } = self;
        let mut debug = f.debug_struct("Party");
        debug.field("direction", direction).field("peer", peer).field("ip", ip).finish_non_exhaustive()
    }
}

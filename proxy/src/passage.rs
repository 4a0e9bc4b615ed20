//! What a story decides about a request: that it may pass, where to, and in which reading it is written on.
//!
//! A passage holds the [`Permit`], so it exists only for what was judged; the target in it is the canonical one, so what was
//! judged is what is sent.

use crate::{
    http::{Asked, Exchange, Failure, Wants},
    inbound, outbound,
    upstream::{Lease, Route},
};
use policy::{Permit, Target};
use std::{rc::Rc, sync::Arc};

/// A permitted request's way on.
pub(crate) struct Passage {
    /// The proof; a passage without one cannot be made.
    _permit: Permit,
    pub(crate) route: Arc<Route>,
    /// The connection, where it had to be made before the judgement.
    pub(crate) lease: Option<Lease>,
    /// The canonical path and query, where it is not the one that came.
    target: Option<Box<str>>,
    /// The canonical host, where it is not the one that came.
    authority: Option<Box<str>>,
}

impl Passage {
    pub(crate) fn new(
        asked: &Asked,
        target: &Target<'_>,
        permit: Permit,
        route: Arc<Route>,
        lease: Option<Lease>,
    ) -> Self {
        let authority = target.authority();
        let same = asked.authority_bytes() == authority.as_bytes();
        Self {
            _permit: permit,
            route,
            lease,
            target: (!target.is_connect() && !target.is_verbatim()).then(|| target.path_and_query().into()),
            authority: (!same).then(|| authority.into()),
        }
    }

    /// The request target to be written: path and query.
    pub(crate) fn target<'a>(&'a self, asked: &'a Asked) -> &'a [u8] {
        self.target.as_deref().map_or_else(|| asked.path_bytes(), str::as_bytes)
    }

    /// The same as HTTP/1.1 writes it: CONNECT names the host in its place (RFC 9112 §3.2.3).
    pub(crate) fn request_target<'a>(&'a self, asked: &'a Asked) -> &'a [u8] {
        if asked.wants == Wants::Connect { self.authority(asked) } else { self.target(asked) }
    }

    /// The host to be written.
    pub(crate) fn authority<'a>(&'a self, asked: &'a Asked) -> &'a [u8] {
        self.authority.as_deref().map_or_else(|| asked.authority_bytes(), str::as_bytes)
    }
}

/// Tells the story of one request up to its decision.
pub(crate) async fn decide(exchange: &Rc<Exchange>) -> Result<Passage, Failure> {
    if exchange.connection.is_inbound() { inbound::decide(exchange) } else { outbound::decide(exchange).await }
}

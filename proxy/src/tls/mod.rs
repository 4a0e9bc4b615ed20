//! Mutual TLS in both directions, and the proof it leaves: a [`Peer`].

mod accept;
mod connect;
mod crowd;
mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod identity;
mod peer;
mod records;
#[cfg(test)]
mod testing;

pub(crate) use accept::{Refused, accept};
pub(crate) use connect::connect;
pub(crate) use crowd::Crowd;
pub(crate) use engine::{Engine, Secured};
pub(crate) use identity::{Alpn, Identity, IdentityCache, NamedByRules};
pub(crate) use peer::{Negotiated, Peer, Peers, TlsFacts};

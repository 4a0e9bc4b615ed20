//! The proof that the other end of a TLS connection is who it says.
//!
//! A [`Peer`] is made only here, from a connection whose handshake our own verifier has accepted. Its identity is the SPIFFE
//! URI SAN and nothing else (X.509-SVID §2); the other names are carried for `x-forwarded-client-cert` and for logs. The chain
//! is kept, once per peer and worker, because a later bundle may no longer trust it.

use http::HeaderValue;
use identity::{Bundle, CertificateDer, SpiffeId, Svid, SvidError, Usage};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, SystemTime},
};

/// A verified peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Rc<Known>);

#[derive(Debug)]
struct Known {
    svid: Svid,
    chain: Vec<CertificateDer<'static>>,
    /// When the first certificate of the chain expires.
    expiry: SystemTime,
    /// Its `x-forwarded-client-cert` element, for our own identity, which never changes while the process runs.
    xfcc: OnceCell<Option<HeaderValue>>,
    /// It has made a connection since the last sweep.
    seen: Cell<bool>,
}

/// The peers a worker has connections with, by the hash of their leaf: many connections of one peer share one entry.
#[derive(Default)]
pub(crate) struct Peers {
    known: RefCell<HashMap<[u8; 32], Rc<Known>>>,
}

/// What was negotiated, as records and logs name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Negotiated {
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
}

/// The same and more, of a connection that came to us.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    pub(crate) alpn: Option<Vec<u8>>,
    /// Whether an earlier session was taken up again.
    pub(crate) resumed: bool,
}

impl Peer {
    /// Reads the identity off a finished handshake. Private to the TLS room: only its callers know that the verifier was ours.
    ///
    /// A resumed handshake shows no certificate: the chain is that of an earlier one, which the same verifier accepted under the
    /// same bundle, since sessions live and die with their configuration. What may have changed since is the time, `now`. A
    /// session that rests on an expired certificate should not have been resumed; here it is refused whatever let it through.
    pub(super) fn of_finished_handshake(
        connection: &CommonState,
        peers: &Peers,
        now: SystemTime,
    ) -> Result<Self, SvidError> {
        let chain = connection.peer_certificates().ok_or(SvidError::NoCertificate)?;
        let peer = peers.known(chain)?;
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            peer.check_time(now)?;
        }
        Ok(peer)
    }

    /// Dates hold to the second: a certificate is good until the end of its last one.
    fn check_time(&self, now: SystemTime) -> Result<(), SvidError> {
        if now < self.0.svid.not_before() {
            Err(SvidError::NotYetValid)
        } else if now >= self.0.expiry + Duration::from_secs(1) {
            Err(SvidError::Expired)
        } else {
            Ok(())
        }
    }

    /// How long its certificate is still good.
    pub(crate) fn left(&self, now: SystemTime) -> Duration {
        (self.0.expiry + Duration::from_secs(1)).duration_since(now).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        self.0.svid.id()
    }

    pub(crate) fn svid(&self) -> &Svid {
        &self.0.svid
    }

    /// The `x-forwarded-client-cert` element of this peer; all its connections share one.
    pub(crate) fn xfcc(&self, own: &SpiffeId) -> Option<HeaderValue> {
        self.0.xfcc.get_or_init(|| crate::http::xfcc(own, self.svid())).clone()
    }

    /// Whether `bundle`, which may be newer than the handshake, trusts this peer as what it is to us. A certificate that has expired
    /// since is not held against an open connection.
    pub(crate) fn is_trusted_by(&self, bundle: &Bundle, usage: Usage) -> bool {
        let at = SystemTime::now().min(self.0.svid.not_after()).max(self.0.svid.not_before());
        identity::verify(&self.0.chain, bundle, usage, at).is_ok()
    }
}

impl Peers {
    /// The peer that has shown `chain`: the one already known, or one more. A chain that was read before is not read again.
    fn known(&self, chain: &[CertificateDer<'static>]) -> Result<Peer, SvidError> {
        let leaf = chain.first().ok_or(SvidError::NoCertificate)?;
        let mut known = self.known.borrow_mut();
        // The same leaf may come with other intermediates: then it is another entry's chain that must be checked again.
        let hash = Svid::hash_of(leaf);
        if let Some(peer) = known.get(&hash).filter(|peer| peer.chain.as_slice() == chain) {
            peer.seen.set(true);
            return Ok(Peer(Rc::clone(peer)));
        }
        let (svid, expiry) = (Svid::from_leaf(leaf)?, identity::expiry(chain)?);
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        let peer = Rc::new(Known { svid, chain, expiry, xfcc: OnceCell::new(), seen: Cell::new(true) });
        known.insert(hash, Rc::clone(&peer));
        Ok(Peer(peer))
    }

    /// Forgets peers that have no connection and have made none since the last time: who comes and goes is known for a while.
    pub(crate) fn sweep(&self) {
        self.known.borrow_mut().retain(|_, peer| peer.seen.replace(false) || Rc::strong_count(peer) > 1);
    }
}

impl Negotiated {
    pub(super) fn of(connection: &CommonState) -> Self {
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "-",
            },
            cipher: connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("-"),
        }
    }
}

impl TlsFacts {
    pub(super) fn of(connection: &CommonState) -> Self {
        let Negotiated { version, cipher } = Negotiated::of(connection);
        Self {
            version,
            cipher,
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

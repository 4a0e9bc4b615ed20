//! The proof that the other end of a TLS connection is who it says.
//!
//! A [`Peer`] is made only here, from a connection whose handshake our own verifier has accepted. Its identity is the SPIFFE
//! URI SAN and nothing else (X.509-SVID §2); the other names are carried for `x-forwarded-client-cert` and for logs.

use identity::{SpiffeId, Svid};
use rustls::{CommonState, ProtocolVersion};

/// A verified peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    svid: Svid,
}

/// What was negotiated.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) cipher: String,
    pub(crate) alpn: Option<Vec<u8>>,
}

impl Peer {
    /// Reads the identity off a finished handshake. Private to the TLS room: only its callers know that the verifier was ours.
    pub(super) fn of_finished_handshake(connection: &CommonState) -> Result<Self, identity::SvidError> {
        let leaf = connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .ok_or(identity::SvidError::NoCertificate)?;
        Ok(Self { svid: Svid::from_leaf(leaf)? })
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        self.svid.id()
    }

    pub(crate) fn svid(&self) -> &Svid {
        &self.svid
    }
}

impl TlsFacts {
    pub(super) fn of(connection: &CommonState) -> Self {
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "-",
            },
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("-")
                .to_owned(),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}

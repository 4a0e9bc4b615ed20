//! Who is at the other end of a connection, as far as the connection proves it.

use identity::{CertificateDer, Svid, SvidError};
use std::net::SocketAddr;
use std::sync::Arc;

/// The other end. Every request carries one among its extensions.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    address: Option<SocketAddr>,
    shown: Option<(Svid, Vec<CertificateDer<'static>>)>,
    process: Option<Process>,
}

/// The process that connected to a unix socket, as the kernel knew it at that moment (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, if it is visible from our own PID namespace.
    pub pid: Option<i32>,
}

impl Caller {
    /// Over TCP: the address, and the chain that the TLS handshake verified; empty if none was shown.
    pub(crate) fn over_tls(address: SocketAddr, chain: Vec<CertificateDer<'static>>) -> Result<Self, SvidError> {
        let shown = match chain.first() {
            None => None,
            Some(leaf) => Some((Svid::from_leaf(leaf)?, chain)),
        };
        Ok(Self(Arc::new(Facts { address: Some(address), shown, process: None })))
    }

    pub(crate) fn over_unix(process: Process) -> Self {
        Self(Arc::new(Facts { address: None, shown: None, process: Some(process) }))
    }

    /// Where the connection comes from; absent on a unix socket. Never an identity.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// The SVID that the handshake verified against our bundle.
    pub fn svid(&self) -> Option<&Svid> {
        self.0.shown.as_ref().map(|(svid, _)| svid)
    }

    /// The chain behind [`svid`](Self::svid), leaf first; empty if none was shown. The handshake may be long ago.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.0.shown.as_ref().map_or(&[], |(_, chain)| chain)
    }

    /// The process behind a unix socket.
    pub fn process(&self) -> Option<Process> {
        self.0.process
    }
}

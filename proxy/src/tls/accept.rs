//! The server side: a handshake in which the other end must prove a SPIFFE identity, or the connection ends here.
//!
//! In: an accepted TCP connection. Out: the encrypted stream with its [`Peer`], or why it was [`Refused`]. The alert has been
//! sent by then; no byte of HTTP is ever answered to a peer without a proof.

use super::{Engine, Peer, Peers, Secured, TlsFacts, records::Handshake};
use crate::limits;
use identity::SvidError;
use rustls::ServerConfig;
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// Why a handshake did not succeed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The certificate, or its absence.
    Certificate(SvidError),
    /// The other end's TLS, or no TLS at all.
    Protocol(String),
    /// The other end closed or went silent.
    Gone(String),
    /// The handshake took longer than its time.
    TimedOut,
    /// Others needed its place before it was done.
    Crowded,
}

impl Refused {
    /// A fixed word for metrics and refusal lines.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(error) => error.reason(),
            Self::Protocol(_) => "tls_protocol",
            Self::Gone(_) => "tls_connection_closed",
            Self::TimedOut => "tls_handshake_timeout",
            Self::Crowded => "tls_handshakes",
        }
    }

    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Certificate(error) => error.to_string(),
            Self::Protocol(error) | Self::Gone(error) => error.clone(),
            Self::TimedOut => "the TLS handshake took too long".to_owned(),
            Self::Crowded => {
                "the bound on TLS handshakes under way is reached, and this one had waited longest".to_owned()
            }
        }
    }
}

/// Runs the handshake within `timeout`.
pub(crate) async fn accept(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    timeout: Duration,
    peers: &Peers,
) -> Result<(Secured, Peer, TlsFacts), Refused> {
    // Boxed: a connection's task must not carry room for a handshake for as long as it lives.
    match tokio::time::timeout(timeout, Box::pin(handshake(tcp, config, peers))).await {
        Err(_elapsed) => Err(Refused::TimedOut),
        Ok(done) => done,
    }
}

async fn handshake(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    peers: &Peers,
) -> Result<(Secured, Peer, TlsFacts), Refused> {
    if Engine::of_server(&config) == Engine::Records {
        let handshake = Handshake::accept(tcp, config).await.map_err(|error| refused(&error))?;
        let facts = TlsFacts::of(handshake.facts());
        let peer =
            Peer::of_finished_handshake(handshake.facts(), peers, SystemTime::now()).map_err(Refused::Certificate)?;
        let stream = handshake.finish().map_err(|error| Refused::Protocol(error.to_string()))?;
        return Ok((stream.into(), peer, facts));
    }
    let handshake = TlsAcceptor::from(config).accept_with(tcp, |connection| {
        connection.set_buffer_limit(Some(limits::TLS_QUEUE));
    });
    let stream = handshake.await.map_err(|error| refused(&error))?;
    let (_, connection) = stream.get_ref();
    let facts = TlsFacts::of(connection);
    let peer = Peer::of_finished_handshake(connection, peers, SystemTime::now()).map_err(Refused::Certificate)?;
    Ok((Secured::Rustls(Box::new(TlsStream::Server(stream))), peer, facts))
}

fn refused(error: &io::Error) -> Refused {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Refused::Gone(error.to_string());
    };
    if let Some(svid) = identity::svid_error(tls) {
        return Refused::Certificate(svid.clone());
    }
    match tls {
        rustls::Error::NoCertificatesPresented => Refused::Certificate(SvidError::NoCertificate),
        other => Refused::Protocol(other.to_string()),
    }
}

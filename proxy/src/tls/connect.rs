//! The client side: dial a callee and accept it only if it proves the identity we expect.
//!
//! A callee that is not the expected one gets no request: the check is part of the handshake.

use super::{Engine, Negotiated, Peer, Peers, Secured, records::Handshake};
use crate::{http::Failure, limits};
use identity::SvidError;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

/// Runs the handshake within `timeout`.
pub(crate) async fn connect(
    tcp: TcpStream,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    timeout: Duration,
    peers: &Peers,
) -> Result<(Secured, Peer, Negotiated), Failure> {
    // Boxed: whoever dials must not carry room for a handshake for as long as the connection lives.
    match tokio::time::timeout(timeout, Box::pin(handshake(tcp, address, config, peers))).await {
        Err(_elapsed) => Err(Failure::Connect("TLS handshake timeout".to_owned())),
        Ok(done) => done,
    }
}

async fn handshake(
    tcp: TcpStream,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    peers: &Peers,
) -> Result<(Secured, Peer, Negotiated), Failure> {
    // The name is not used: identity is the SPIFFE ID, and no SNI is sent for an address.
    let name = ServerName::IpAddress(address.ip().into());
    let unverified = |error: SvidError| Failure::Tls(verify_failed(&error));
    if Engine::of_client(&config) == Engine::Records {
        let handshake = Handshake::connect(tcp, config, name).await.map_err(|error| failure(&error))?;
        let peer = Peer::of_finished_handshake(handshake.facts(), peers, SystemTime::now()).map_err(unverified)?;
        let negotiated = Negotiated::of(handshake.facts());
        let stream = handshake.finish().map_err(|error| Failure::Tls(format!("TLS error: {error}")))?;
        return Ok((stream.into(), peer, negotiated));
    }
    let handshake = TlsConnector::from(config).connect_with(name, tcp, |connection| {
        connection.set_buffer_limit(Some(limits::TLS_QUEUE));
    });
    let stream = handshake.await.map_err(|error| failure(&error))?;
    let (_, connection) = stream.get_ref();
    let peer = Peer::of_finished_handshake(connection, peers, SystemTime::now()).map_err(unverified)?;
    let negotiated = Negotiated::of(connection);
    Ok((Secured::Rustls(Box::new(TlsStream::Client(stream))), peer, negotiated))
}

/// Envoy's words for the failure, so that log queries written for Envoy find it.
fn failure(error: &io::Error) -> Failure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Failure::Tls(format!("TLS error: {error}"));
    };
    if let Some(svid) = identity::svid_error(tls) {
        return Failure::Tls(verify_failed(svid));
    }
    Failure::Tls(match tls {
        rustls::Error::InvalidMessage(_) => {
            "TLS error:|268435703:SSL routines:OPENSSL internal:WRONG VERSION NUMBER:TLS error end".to_owned()
        }
        other => format!("TLS error: {other}"),
    })
}

fn verify_failed(error: &SvidError) -> String {
    let what = match error {
        SvidError::NotExpected { got, .. } => {
            format!("verify cert failed: SAN matcher, certificate SANs are [{got}]")
        }
        other => format!("verify cert failed: {}", other.reason()),
    };
    format!("TLS error:|268435581:SSL routines:OPENSSL internal:CERTIFICATE VERIFY FAILED:{what}:TLS error end")
}

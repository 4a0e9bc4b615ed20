//! The record layer against its rules, against rustls and against OpenSSL.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod openssl;
mod rules;
mod sockets;

use super::{
    handshake::{Connection, Exchange, Waiting},
    inbound::{Inbound, Opened},
    key::Key,
    outbound::Outbound,
    source::Source,
};
use crate::tls::{
    Engine,
    testing::{ORDERS, Root, WEB},
};
use identity::SpiffeId;
use rustls::{
    CipherSuite, ClientConfig, ServerConfig,
    client::UnbufferedClientConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
    server::UnbufferedServerConnection,
};
use std::{net::Ipv4Addr, sync::Arc};

/// The configurations of both sides of one connection, for our engine.
#[derive(Clone)]
struct Pair {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Pair {
    fn new() -> Self {
        let root = Root::new();
        let expected = Arc::new(SpiffeId::parse(ORDERS).unwrap());
        let client = root.credentials(WEB).client_config(expected, &[]).unwrap();
        let server = root.credentials(ORDERS).server_config(&[]).unwrap();
        Self { client: Engine::Records.client(client), server: Engine::Records.server(server) }
    }

    /// With a client that offers this cipher suite alone.
    fn with_suite(self, suite: CipherSuite) -> Self {
        let mut provider = CryptoProvider { ..(*identity::provider()).clone() };
        provider.cipher_suites.retain(|known| known.suite() == suite);
        self.with_client(provider, &rustls::version::TLS13)
    }

    /// With a client that offers TLS 1.2 alone.
    fn with_tls12(self) -> Self {
        self.with_client((*identity::provider()).clone(), &rustls::version::TLS12)
    }

    fn with_client(mut self, provider: CryptoProvider, version: &'static rustls::SupportedProtocolVersion) -> Self {
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_client_cert_resolver(Arc::clone(&self.client.client_auth_cert_resolver));
        client.enable_secret_extraction = true;
        self.client = Arc::new(client);
        self
    }

    /// The same with rustls' records on both sides.
    fn for_rustls(&self) -> Self {
        Self {
            client: Engine::Rustls.client(Arc::clone(&self.client)),
            server: Engine::Rustls.server(Arc::clone(&self.server)),
        }
    }

    /// A handshake without sockets: the client's end and the server's.
    fn meet(&self) -> (End, End) {
        let client = UnbufferedClientConnection::new(Arc::clone(&self.client), name()).unwrap();
        let server = UnbufferedServerConnection::new(Arc::clone(&self.server)).unwrap();
        let mut client = Exchange::new(Connection::Client(Box::new(client)));
        let mut server = Exchange::new(Connection::Server(Box::new(server)));
        loop {
            let waiting = (client.go_on().unwrap(), server.go_on().unwrap());
            if waiting == (Waiting::Nothing, Waiting::Nothing) {
                break;
            }
            server.input.append(&mut client.output);
            client.input.append(&mut server.output);
        }
        let (mut client, mut server) = (End::new(client), End::new(server));
        // The server's ticket comes first.
        let mut ticket = server.outbound.unsent().to_vec();
        server.outbound.sent(ticket.len());
        assert_eq!(client.inbound.open(&mut ticket, &mut client.source), Ok(Opened::Nothing));
        (client, server)
    }
}

fn name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::LOCALHOST.into())
}

/// One end of a connection without a socket.
struct End {
    inbound: Inbound,
    outbound: Outbound,
    source: Source,
}

impl End {
    fn new(exchange: Exchange) -> Self {
        let (connection, input, output) = exchange.into_parts();
        assert!(input.is_empty());
        let (secrets, source) = connection.into_source().unwrap();
        Self {
            inbound: Inbound::new(Key::new(secrets.rx.0, secrets.rx.1).unwrap()),
            outbound: Outbound::new(Key::new(secrets.tx.0, secrets.tx.1).unwrap(), output),
            source,
        }
    }
}

/// Takes any certificate: these tests are not about identity.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &identity::CertificateDer<'_>,
        _: &[identity::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &identity::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &identity::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

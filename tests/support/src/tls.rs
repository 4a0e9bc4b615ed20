//! A TLS client that believes everybody: what an attacker uses to say exact bytes over mutual TLS.
//!
//! It shows the certificate it is given, good or bad, asks for the protocols it is told to, and does not look at whom it
//! reached.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

pub use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, StreamOwned};

use crate::pki::Cert;
use crate::wire::QUIET;
use crate::x509::Papers;

/// A connection after its handshake: whatever is written goes out as it is, in records.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects and shakes hands; under TLS 1.3 a refused certificate shows only at the first read. `alpn` may be empty.
pub fn connect(to: SocketAddr, cert: Option<&Cert>, alpn: &[&str]) -> io::Result<Stream> {
    shake_hands(config(cert.map(certified), alpn)?, to)
}

/// A TCP connection whose handshake runs with the first write or read, with papers that may be anything.
pub fn begin(to: SocketAddr, papers: Option<&Papers>, alpn: &[&str]) -> io::Result<Stream> {
    start(config(papers.map(Papers::certified), alpn)?, to)
}

/// What such a client is made of, for a test that changes more.
pub fn config(certified: Option<Arc<CertifiedKey>>, alpn: &[&str]) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(provider)));
    let mut config = match certified {
        None => builder.with_no_client_auth(),
        Some(certified) => builder.with_client_cert_resolver(Arc::new(Shown(certified))),
    };
    // Each connection is judged by its own papers.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

/// Connects and shakes hands.
pub fn shake_hands(config: impl Into<Arc<ClientConfig>>, to: SocketAddr) -> io::Result<Stream> {
    let mut stream = start(config, to)?;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Connects; the handshake runs with the first write or read.
pub fn start(config: impl Into<Arc<ClientConfig>>, to: SocketAddr) -> io::Result<Stream> {
    let name = ServerName::try_from("sekisho.test").unwrap();
    let connection = ClientConnection::new(config.into(), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect_timeout(&to, QUIET)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(QUIET))?;
    Ok(StreamOwned::new(connection, socket))
}

/// The papers in these files.
#[must_use]
pub fn certified(cert: &Cert) -> Arc<CertifiedKey> {
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_file_iter(&cert.chain).unwrap().collect();
    let key = PrivateKeyDer::from_pem_file(&cert.key).unwrap();
    Arc::new(CertifiedKey::new(chain.unwrap(), aws_lc_rs::sign::any_supported_type(&key).unwrap()))
}

/// Shows the same papers whatever is asked for: no CA, no algorithm and no fit of key and certificate is looked at.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

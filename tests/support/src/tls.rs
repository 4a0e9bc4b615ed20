//! A TLS client that believes everybody: what an attacker uses to say exact bytes over mutual TLS.
//!
//! It shows the certificate it is given, good or bad, asks for the protocols it is told to, and does not look at whom it
//! reached.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use crate::pki::Cert;
use crate::wire::QUIET;

/// A connection after its handshake: whatever is written goes out as it is, in records.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects and shakes hands; under TLS 1.3 a refused certificate shows only at the first read. `alpn` may be empty.
pub fn connect(to: SocketAddr, cert: Option<&Cert>, alpn: &[&str]) -> io::Result<Stream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(provider)));
    let mut config = match cert {
        None => builder.with_no_client_auth(),
        Some(cert) => {
            let chain: Result<Vec<CertificateDer<'static>>, _> =
                CertificateDer::pem_file_iter(&cert.chain).unwrap().collect();
            let key = PrivateKeyDer::from_pem_file(&cert.key).unwrap();
            builder.with_client_auth_cert(chain.unwrap(), key).map_err(io::Error::other)?
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("sekisho.test").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect_timeout(&to, QUIET)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(QUIET))?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
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

//! An attacker without a certificate: speaks TLS to the checkpoint, believes whatever certificate it is shown, and tries to
//! get a request through.

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

/// What the attempt got: bytes of an answer, and how the connection ended.
pub(crate) struct Attempt {
    pub(crate) answer: Vec<u8>,
    pub(crate) ended: String,
}

/// Tries `GET` over TLS without a certificate.
pub(crate) fn without_certificate(to: SocketAddr) -> Result<Attempt, String> {
    let provider = identity::provider();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(provider)))
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::IpAddress(to.ip().into()))
        .map_err(|error| error.to_string())?;
    let tcp = TcpStream::connect(to).map_err(|error| error.to_string())?;
    tcp.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(connection, tcp);
    let sent = stream.write_all(b"GET /api/orders/42 HTTP/1.1\r\nhost: orders\r\n\r\n").and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let ended = match sent.and_then(|()| stream.read_to_end(&mut answer).map(|_| ())) {
        Ok(()) => "closed".to_owned(),
        Err(error) => error.to_string(),
    };
    Ok(Attempt { answer, ended })
}

/// Accepts any certificate: only an attacker, who has nothing to lose, may do this.
#[derive(Debug)]
struct Gullible(Arc<CryptoProvider>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! The load's own TLS: TLS 1.3 with AES-128-GCM like everybody's, and a client certificate.
//!
//! Of the server it checks that it has the key of exactly the certificate that the bench gave it, which is more than any
//! chain says and costs the generator less.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::{mix, reply};
use crate::setup::HOST;

/// What a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// X25519MLKEM768 before X25519.
    pub(crate) post_quantum: bool,
    /// Tickets of earlier connections.
    pub(crate) resume: bool,
}

/// A client's configuration with `<certificate>.pem` and `.key` of the bench's folder, for a callee that has one of the two
/// certificates in it.
pub(crate) fn client(dir: &Path, certificate: Option<&str>, offer: Offer) -> Arc<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    if offer.post_quantum {
        provider.kx_groups.insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
    }
    let provider = Arc::new(provider);
    let known = ["orders", "named"].into_iter().filter_map(|name| chain(dir, name).into_iter().next()).collect();
    let verifier = Arc::new(OneOf { known, provider: Arc::clone(&provider) });
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain(dir, name), key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = if offer.resume { Resumption::in_memory_sessions(16) } else { Resumption::disabled() };
    Arc::new(config)
}

fn chain(dir: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(dir.join(format!("{name}.pem")));
    certificates.map(|all| all.map(Result::unwrap).collect()).unwrap_or_default()
}

/// A TLS connection over a blocking socket.
pub(crate) struct Connection {
    pub(crate) tls: ClientConnection,
    stream: TcpStream,
}

impl Connection {
    /// Connects; the handshake comes with the first request.
    pub(crate) fn open(to: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let tls = ClientConnection::new(Arc::clone(config), ServerName::try_from(HOST).unwrap());
        Ok(Self { tls: tls.map_err(std::io::Error::other)?, stream })
    }

    /// One request and the whole response; `Err` says what came instead of the right one.
    pub(crate) fn exchange(&mut self) -> Result<(), String> {
        let mut stream = rustls::Stream::new(&mut self.tls, &mut self.stream);
        stream.write_all(mix::ORDERS).map_err(|error| error.to_string())?;
        let mut response = [0; 4096];
        let mut filled = 0;
        loop {
            let count = stream.read(&mut response[filled..]).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the sidecar closed a connection".into());
            }
            filled += count;
            if reply::is_whole(&response[..filled])? {
                return Ok(());
            }
        }
    }

    /// Says good-bye and closes.
    pub(crate) fn close(mut self) {
        self.tls.send_close_notify();
        let _ = self.tls.write_tls(&mut self.stream);
    }
}

#[derive(Debug)]
struct OneOf {
    known: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneOf {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let known = self.known.iter().any(|known| known == certificate);
        if known { Ok(ServerCertVerified::assertion()) } else { Err(Error::General("another certificate".into())) }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

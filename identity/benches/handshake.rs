//! What a handshake costs the server, in memory: full and resumed, with every chain verified.
//!
//! `cargo bench -p sekisho-identity --bench handshake`. Client and server take turns on one thread; only the server's
//! turns are timed. The client offers X25519 alone, as the load generators that others are measured with do, and both show a
//! leaf and an intermediate, all ECDSA P-256, as `sekisho ca` issues them.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use identity::{Credentials, SpiffeId, Svid};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::Resumption;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, crypto::aws_lc_rs::kx_group,
};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const HANDSHAKES: usize = 3000;

fn main() {
    // Test runners start every target to ask for its tests; only `cargo bench` says this word.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (web, orders) = credentials();
    let server = orders.server_config(&[b"h2", b"http/1.1"]).unwrap();
    let config = web.client_config(Arc::new(orders.svid().id().clone()), &[b"http/1.1"]).unwrap();
    let resuming = x25519_only(&config);
    let mut full = ClientConfig::clone(&resuming);
    full.resumption = Resumption::disabled();
    let clients = [("full", Arc::new(full)), ("resumed", resuming)];
    let mut took = clients.each_ref().map(|_| Vec::with_capacity(HANDSHAKES));
    for _ in 0..HANDSHAKES {
        for ((kind, client), took) in clients.iter().zip(&mut took) {
            took.push(handshake(client, &server, kind));
        }
    }
    for ((kind, _), mut took) in clients.iter().zip(took) {
        took.sort();
        println!("{kind} handshake, server: {:?} median of {HANDSHAKES}", took.get(HANDSHAKES / 2).unwrap());
    }
    let chain = web.chain();
    let timed = |what: &str, run: &mut dyn FnMut()| {
        let mut took: Vec<Duration> = (0..HANDSHAKES)
            .map(|_| {
                let begin = Instant::now();
                run();
                begin.elapsed()
            })
            .collect();
        took.sort();
        println!("  of which {what}: {:?}", took.get(HANDSHAKES / 2).unwrap());
    };
    timed("the chain", &mut || {
        identity::verify(chain, orders.bundle(), identity::Usage::Client, SystemTime::now()).unwrap();
    });
    timed("reading the leaf once more", &mut || drop(Svid::from_leaf(chain.first().unwrap()).unwrap()));
    timed("the expiry for a ticket", &mut || {
        std::hint::black_box(identity::expiry(chain).unwrap());
    });
    timed("knowing the leaf again", &mut || {
        std::hint::black_box(Svid::hash_of(chain.first().unwrap()));
    });
}

/// The time the server took.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, kind: &str) -> Duration {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut took = Duration::ZERO;
    let mut timed = |turn: &mut dyn FnMut()| {
        let begin = Instant::now();
        turn();
        took += begin.elapsed();
    };
    let mut server_connection = None;
    timed(&mut || server_connection = Some(ServerConnection::new(Arc::clone(server)).unwrap()));
    let mut server = server_connection.unwrap();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut answer = Vec::new();
        timed(&mut || {
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                server.read_tls(&mut wire).unwrap();
                server.process_new_packets().unwrap();
            }
            while server.wants_write() {
                server.write_tls(&mut answer).unwrap();
            }
        });
        let mut answer = answer.as_slice();
        while !answer.is_empty() {
            client.read_tls(&mut answer).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let resumed = server.handshake_kind() == Some(HandshakeKind::Resumed);
    // The very first of the resuming client has nothing to resume.
    assert!(!resumed || kind == "resumed");
    took
}

fn x25519_only(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut provider = (**config.crypto_provider()).clone();
    provider.kx_groups = vec![kx_group::X25519];
    let verifier = Arc::new(Any);
    let mut limited = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::clone(&config.client_auth_cert_resolver));
    limited.alpn_protocols.clone_from(&config.alpn_protocols);
    Arc::new(limited)
}

fn credentials() -> (Arc<Credentials>, Arc<Credentials>) {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params, KeyPair::generate().unwrap())
    };
    let (params, key) = ca("root");
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let (params, key) = ca("intermediate");
    let intermediate = params.signed_by(&key, &issuer).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let make = |name: &str| {
        let id = format!("spiffe://example.org/ns/shop/sa/{name}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &issuer).unwrap().pem() + &intermediate;
        let id = SpiffeId::parse(&id).unwrap();
        let key = key.serialize_pem();
        Credentials::from_pem(chain.as_bytes(), key.as_bytes(), root.as_bytes(), &id, SystemTime::now()).unwrap()
    };
    (make("web"), make("orders"))
}

/// The client's checks are not what is measured.
#[derive(Debug)]
struct Any;

impl rustls::client::danger::ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &identity::CertificateDer<'_>,
        _: &[identity::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
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
        identity::provider().signature_verification_algorithms.supported_schemes()
    }
}

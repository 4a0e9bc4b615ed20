//! rustls, told what an acceptable peer is.
//!
//! In comes [`Credentials`]' certificate, key and bundle; out come the two rustls verifiers and the one crypto
//! provider of the house. The verifiers replace the usual checks rather than relaxing them: there is no server
//! name to compare, since an SVID names no host. Handshake signatures are checked by the provider.
//!
//! [`Credentials`]: crate::Credentials

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};

use crate::bundle::Bundle;
use crate::error::SvidError;
use crate::id::SpiffeId;
use crate::remembered::Remembering;
use crate::sessions::Sessions;
use crate::verify::{Usage, verify_parts};

/// The crypto of every TLS connection: AES-128-GCM first (fastest where the CPU has AES, and no weaker in
/// practice), the post-quantum hybrid first among key exchanges, forward secrecy and AEAD only.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// The refusal behind a rustls error, if one of our verifiers, or the lack of a certificate, caused it.
///
/// Where TLS has an alert of its own for the reason (expired, not yet valid, unknown CA), rustls needs its own
/// error value to send it, and the reason is recovered from that. All others travel inside `Other` and reach the
/// peer as `certificate_unknown`.
pub fn svid_error(error: &Error) -> Option<&SvidError> {
    match error {
        Error::NoCertificatesPresented => Some(&SvidError::NoCertificate),
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some(&SvidError::Expired),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Some(&SvidError::NotYetValid)
            }
            CertificateError::UnknownIssuer => Some(&SvidError::UnknownIssuer),
            CertificateError::Other(OtherError(error)) => error.downcast_ref(),
            _ => None,
        },
        _ => None,
    }
}

/// Which identities a client accepts from a server.
pub trait Accepts: Send + Sync + fmt::Debug {
    /// Whether this verified identity is acceptable.
    fn accepts(&self, id: &SpiffeId) -> bool;
    /// What is acceptable, in words, for the message of a refusal.
    fn describe(&self) -> String;
}

impl Accepts for SpiffeId {
    fn accepts(&self, id: &SpiffeId) -> bool {
        self == id
    }

    fn describe(&self) -> String {
        format!("`{self}`")
    }
}

/// The server's side: asks every client for a certificate and, unless it may be missing, accepts none without.
#[derive(Debug)]
pub(crate) struct PeerIsClient {
    pub(crate) bundle: Bundle,
    pub(crate) may_be_missing: bool,
}

impl ClientCertVerifier for PeerIsClient {
    /// No hints: clients of a mesh hold one certificate, and the list would tell strangers our roots' names.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.may_be_missing
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verify_parts(end_entity, intermediates, &self.bundle, Usage::Client, now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(refusal)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// The client's side: accepts a server by its verified identity alone.
#[derive(Debug)]
pub(crate) struct PeerIsServer {
    pub(crate) bundle: Bundle,
    pub(crate) expected: Arc<dyn Accepts>,
    /// Told of each verified server; absent where nothing is resumed.
    pub(crate) sessions: Option<Arc<Sessions>>,
}

impl ServerCertVerifier for PeerIsServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = verify_parts(end_entity, intermediates, &self.bundle, Usage::Server, now).map_err(refusal)?;
        let svid = verified.svid;
        if self.expected.accepts(svid.id()) {
            if let Some(sessions) = &self.sessions {
                sessions.verified(server_name, verified.expiry);
            }
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refusal(SvidError::NotExpected { got: svid.id().clone(), expected: self.expected.describe() }))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// The algorithms with which certificates may be signed.
pub(crate) fn signature_algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static ALGORITHMS: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
        let all = PROVIDER.signature_verification_algorithms.all.iter();
        // Leaked once: there is one list for the life of the process.
        all.map(|inner| &*Box::leak(Box::new(Remembering::new(*inner))) as &dyn SignatureVerificationAlgorithm)
            .collect()
    });
    &ALGORITHMS
}

/// The inverse of [`svid_error`]. The unit values of rustls are used where the alert is worth more than a
/// box: `certificate_expired` and `unknown_ca` (RFC 8446 §6.2).
fn refusal(error: SvidError) -> Error {
    Error::InvalidCertificate(match error {
        SvidError::Expired => CertificateError::Expired,
        SvidError::NotYetValid => CertificateError::NotValidYet,
        SvidError::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    })
});

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing {
    use super::*;
    use crate::testing::*;
    use crate::{Bundle, Credentials, TrustDomain};
    use rustls::time_provider::TimeProvider;
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
    use std::sync::atomic::{AtomicI64, Ordering};

    pub(crate) const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
    pub(crate) const ORDERS: &str = "spiffe://example.org/ns/shop/sa/orders";

    /// A clock that a test sets.
    #[derive(Debug)]
    pub(crate) struct Clock(AtomicI64);

    impl Clock {
        pub(crate) fn at(seconds: i64) -> Arc<Self> {
            Arc::new(Self(AtomicI64::new(seconds)))
        }

        pub(crate) fn set(&self, seconds: i64) {
            self.0.store(seconds, Ordering::Relaxed);
        }
    }

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            let since = std::time::Duration::from_secs(self.0.load(Ordering::Relaxed) as u64);
            Some(UnixTime::since_unix_epoch(since))
        }
    }

    /// Credentials issued by `ca` that trust `roots`, made without the check that the two agree.
    pub(crate) fn credentials(ca: &Ca, id: &str, roots: &Ca) -> Arc<Credentials> {
        let id = SpiffeId::parse(id).unwrap();
        let (leaf, key) = ca.leaf(id.as_str());
        let key = section("PRIVATE KEY", key.serialized_der());
        let own = pem(std::slice::from_ref(&ca.der));
        let made = Credentials::from_pem(pem(&[leaf]).as_bytes(), key.as_bytes(), own.as_bytes(), &id, now()).unwrap();
        let domain = TrustDomain::parse(id.trust_domain()).unwrap();
        let roots = pem(std::slice::from_ref(&roots.der));
        made.dangerous_with_bundle(Bundle::from_pem(domain, roots.as_bytes()).unwrap())
    }

    pub(crate) fn client(credentials: &Credentials, expected: &str) -> ClientConfig {
        client_at(credentials, expected, Clock::at(NOW))
    }

    pub(crate) fn client_at(credentials: &Credentials, expected: &str, clock: Arc<Clock>) -> ClientConfig {
        let expected = Arc::new(SpiffeId::parse(expected).unwrap());
        Arc::unwrap_or_clone(credentials.client_config_at(expected, &[b"h2", b"http/1.1"], clock).unwrap())
    }

    pub(crate) fn server(credentials: &Credentials, seconds: i64) -> ServerConfig {
        server_at(credentials, Clock::at(seconds))
    }

    pub(crate) fn server_at(credentials: &Credentials, clock: Arc<Clock>) -> ServerConfig {
        Arc::unwrap_or_clone(credentials.server_config_at(&[b"http/1.1"], clock).unwrap())
    }

    pub(crate) struct Met {
        pub(crate) client: ClientConnection,
        pub(crate) server: ServerConnection,
        pub(crate) client_error: Option<Error>,
        pub(crate) server_error: Option<Error>,
    }

    /// Carries bytes between both sides until neither has more to say.
    pub(crate) fn meet(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Met {
        let name = ServerName::try_from("unused.invalid").unwrap();
        let mut met = Met {
            client: ClientConnection::new(Arc::clone(client), name).unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
            client_error: None,
            server_error: None,
        };
        for _ in 0..10 {
            let mut wire = Vec::new();
            while met.client.wants_write() {
                met.client.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() && met.server.read_tls(&mut wire).is_ok_and(|n| n > 0) {
                if let Err(error) = met.server.process_new_packets() {
                    met.server_error.get_or_insert(error);
                }
            }
            let mut wire = Vec::new();
            while met.server.wants_write() {
                met.server.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() && met.client.read_tls(&mut wire).is_ok_and(|n| n > 0) {
                if let Err(error) = met.client.process_new_packets() {
                    met.client_error.get_or_insert(error);
                }
            }
        }
        met
    }

    /// A store for tests that do not resume.
    pub(crate) fn sessions(credentials: &Credentials) -> Arc<Sessions> {
        let (bundle, own) = (credentials.bundle().clone(), credentials.svid().not_after());
        Arc::new(Sessions::new(crate::sessions::Ground { clock: Clock::at(NOW), bundle, own }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::testing::*;
    use rustls::{AlertDescription, CipherSuite, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};

    fn reason(error: &Option<Error>) -> &'static str {
        svid_error(error.as_ref().unwrap()).unwrap().reason()
    }

    #[test]
    fn two_workloads_meet() {
        let root = Ca::root("root");
        let web = credentials(&root, WEB, &root);
        let orders = credentials(&root, ORDERS, &root);
        let (client, server) = (Arc::new(client(&web, ORDERS)), Arc::new(server(&orders, NOW)));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let met = meet(&client, &server);
            assert_eq!((met.client_error, met.server_error), (None, None));
            assert!(!met.server.is_handshaking() && !met.client.is_handshaking());
            assert_eq!(met.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
            assert_eq!(met.server.alpn_protocol(), Some(&b"http/1.1"[..]));
            let suite = met.server.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
            let group = met.server.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(group, NamedGroup::X25519MLKEM768);
            assert_eq!(met.server.server_name(), None);
            assert_eq!(met.server.handshake_kind(), Some(kind));
            let chain = met.server.peer_certificates().unwrap();
            assert_eq!(crate::Svid::from_leaf(&chain[0]).unwrap().id().as_str(), WEB);
        }
    }

    #[test]
    fn tls12_is_spoken_as_well() {
        let root = Ca::root("root");
        let web = credentials(&root, WEB, &root);
        let orders = credentials(&root, ORDERS, &root);
        let expected = Arc::new(SpiffeId::parse(ORDERS).unwrap());
        let verifier = PeerIsServer { bundle: web.bundle().clone(), expected, sessions: Some(sessions(&web)) };
        let mut old = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(client(&web, ORDERS).client_auth_cert_resolver.clone());
        old.time_provider = Clock::at(NOW);
        let (old, server) = (Arc::new(old), Arc::new(server(&orders, NOW)));
        for _ in 0..2 {
            let met = meet(&old, &server);
            assert_eq!((met.client_error, met.server_error), (None, None));
            assert_eq!(met.server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
            assert_eq!(met.server.handshake_kind(), Some(HandshakeKind::Full));
            let suite = met.server.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
        }
    }

    #[test]
    fn a_client_without_certificate_is_refused() {
        let root = Ca::root("root");
        let web = credentials(&root, WEB, &root);
        let orders = credentials(&root, ORDERS, &root);
        let mut config = client(&web, ORDERS);
        config.client_auth_cert_resolver = Arc::new(NoCertificate);
        let met = meet(&Arc::new(config), &Arc::new(server(&orders, NOW)));
        assert_eq!(reason(&met.server_error), "no_certificate");
        assert!(met.server.peer_certificates().is_none());
    }

    #[test]
    fn refusals_keep_their_reason_and_send_a_fitting_alert() {
        let root = Ca::root("root");
        let stranger = Ca::root("stranger");
        let orders = credentials(&root, ORDERS, &root);
        let partner = "spiffe://partner.example/ns/shop/sa/web";
        for (client_credentials, seconds, expected, alert) in [
            (credentials(&root, WEB, &root), NOW + HOUR + 1, "expired", AlertDescription::CertificateExpired),
            (credentials(&root, WEB, &root), NOW - HOUR - 1, "not_yet_valid", AlertDescription::CertificateExpired),
            (credentials(&stranger, WEB, &root), NOW, "unknown_issuer", AlertDescription::UnknownCA),
            (credentials(&root, partner, &root), NOW, "trust_domain", AlertDescription::CertificateUnknown),
        ] {
            // The client accepts the server in every row; the refusal is the server's alone.
            let mut config = client(&client_credentials, ORDERS);
            config.dangerous().set_certificate_verifier(Arc::new(PeerIsServer {
                bundle: orders.bundle().clone(),
                expected: Arc::new(SpiffeId::parse(ORDERS).unwrap()),
                sessions: Some(sessions(&orders)),
            }));
            let met = meet(&Arc::new(config), &Arc::new(server(&orders, seconds)));
            assert_eq!(reason(&met.server_error), expected);
            assert_eq!(met.client_error, Some(Error::AlertReceived(alert)));
        }
    }

    #[test]
    fn a_client_takes_only_the_expected_server() {
        let root = Ca::root("root");
        let web = credentials(&root, WEB, &root);
        let orders = credentials(&root, ORDERS, &root);
        let ledger = "spiffe://example.org/ns/shop/sa/ledger";
        let met = meet(&Arc::new(client(&web, ledger)), &Arc::new(server(&orders, NOW)));
        assert_eq!(reason(&met.client_error), "not_expected");
        let text = svid_error(met.client_error.as_ref().unwrap()).unwrap().to_string();
        assert!(text.contains(ORDERS) && text.contains(ledger), "{text}");
        assert!(met.server.is_handshaking());
    }

    #[test]
    fn a_genuine_server_of_another_root_is_refused() {
        let (root, other) = (Ca::root("root"), Ca::root("other"));
        let web = credentials(&root, WEB, &root);
        let orders = credentials(&other, ORDERS, &root);
        let met = meet(&Arc::new(client(&web, ORDERS)), &Arc::new(server(&orders, NOW)));
        assert_eq!(reason(&met.client_error), "unknown_issuer");
    }

    #[derive(Debug)]
    struct NoCertificate;

    impl rustls::client::ResolvesClientCert for NoCertificate {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }
}

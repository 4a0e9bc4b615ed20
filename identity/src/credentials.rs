//! Our own certificate, key and bundle as one value.
//!
//! In come three PEM files and the identity they must be for; out comes an immutable value that this crate's
//! verifier has accepted for both roles. Refused: a key that belongs to another certificate, a leaf of another
//! identity, dates that do not hold, a chain that does not lead to the bundle. What is refused never replaces
//! what is in use, so half of a rotation is never seen by a peer.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{Resumption, Tls12Resumption};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, InconsistentKeys, ServerConfig};
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::bundle::{Bundle, BundleError};
use crate::denied::Denials;
use crate::error::SvidError;
use crate::id::{SpiffeId, TrustDomain};
use crate::pem;
use crate::private_key::PrivateKey;
use crate::sessions::{Ground, Sessions, Tickets, expiry};
use crate::svid::Svid;
use crate::tls::{self, Accepts, PeerIsClient, PeerIsServer};
use crate::verify::{Usage, verify};

/// A verified X.509-SVID with its key, and the roots to judge peers by. The key is never shown.
pub struct Credentials {
    svid: Svid,
    bundle: Bundle,
    certified: Arc<CertifiedKey>,
    /// When the first certificate of our chain expires.
    expiry: SystemTime,
}

impl Credentials {
    /// Reads and verifies a set of credentials.
    ///
    /// `cert` holds the chain, leaf first; a private key in the same file is passed over, so that one file can
    /// serve as both. `key` holds exactly one private key: PKCS #8, SEC 1 or PKCS #1, not encrypted. `bundle`
    /// holds the roots of `expected`'s trust domain.
    pub fn from_pem(
        cert: &[u8],
        key: &[u8],
        bundle: &[u8],
        expected: &SpiffeId,
        now: SystemTime,
    ) -> Result<Arc<Self>, CredentialsError> {
        let chain = chain_from_pem(cert)?;
        let key = read_key(key)?;
        let trust_domain = TrustDomain::parse(expected.trust_domain())
            .map_err(|error| CredentialsError::Certificate(SvidError::NotSpiffe(error)))?;
        let bundle = Bundle::from_pem(trust_domain, bundle).map_err(CredentialsError::Bundle)?;
        Self::verified(chain, key, bundle, expected, now)
    }

    /// Verifies a set of credentials that did not come from files: the chain, leaf first, its key, and the roots of
    /// `expected`'s trust domain.
    ///
    /// # Errors
    /// Those of [`from_pem`](Self::from_pem) that are not about reading files.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKey,
        bundle: Bundle,
        expected: &SpiffeId,
        now: SystemTime,
    ) -> Result<Arc<Self>, CredentialsError> {
        Self::verified(chain, key.for_rustls(), bundle, expected, now)
    }

    fn verified(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundle: Bundle,
        expected: &SpiffeId,
        now: SystemTime,
    ) -> Result<Arc<Self>, CredentialsError> {
        let leaf = chain.first().ok_or(CredentialsError::NoCertificate)?;
        let svid = Svid::from_leaf(leaf).map_err(CredentialsError::Certificate)?;
        if svid.id() != expected {
            return Err(CredentialsError::OtherIdentity { got: svid.id().clone(), expected: expected.clone() });
        }
        let certified = pair(chain, key)?;
        // Whether we are denied is for our peers to judge. Who is follows roots and list all the same, or it would go on with old
        // ones and hold up whoever waits for everybody to know the new.
        let roots = bundle.denying(Denials::default());
        verify(&certified.cert, &roots, Usage::Both, now).map_err(CredentialsError::Certificate)?;
        let expiry = expiry(&certified.cert).map_err(CredentialsError::Certificate)?;
        Ok(Arc::new(Self { svid, bundle, certified: Arc::new(certified), expiry }))
    }

    /// The facts of our own leaf.
    pub fn svid(&self) -> &Svid {
        &self.svid
    }

    /// The roots by which peers are judged.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The chain we present, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// When the first certificate of our chain expires: its last second.
    pub fn expiry(&self) -> SystemTime {
        self.expiry
    }

    /// The configuration for accepting connections: every client shows an acceptable SVID or is turned away.
    ///
    /// `alpn` is in order of preference. TLS 1.3 sessions may be resumed within the bounds that `sessions.rs` states, and only
    /// under this very configuration: a new one has new ticket keys.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config_at(alpn, Arc::new(DefaultTimeProvider))
    }

    pub(crate) fn server_config_at(
        &self,
        alpn: &[&[u8]],
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let verifier = PeerIsClient { bundle: self.bundle.clone(), may_be_missing: false };
        let mut config = ServerConfig::builder_with_details(tls::provider(), Arc::clone(&clock))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        config.alpn_protocols = protocols(alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Tickets::new(self.ground(clock))?);
        // One is enough: a client that uses it gets the next. A client that cannot resume (RFC 8446 §4.2.9) gets none.
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        // OpenSSL clients list AES-256 first out of habit; our order is the measured one.
        config.ignore_client_order = true;
        Ok(Arc::new(config))
    }

    /// The configuration for opening connections to a server that `expected` accepts.
    ///
    /// No server name is sent: an SVID has none to compare, and the name would be readable on the wire. TLS 1.3 sessions may be
    /// resumed within the bounds that `sessions.rs` states, and only under this very configuration, so that a session never
    /// speaks for another identity than the one its server proved to this `expected`.
    pub fn client_config(
        &self,
        expected: Arc<dyn Accepts>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.client_config_at(expected, alpn, Arc::new(DefaultTimeProvider))
    }

    pub(crate) fn client_config_at(
        &self,
        expected: Arc<dyn Accepts>,
        alpn: &[&[u8]],
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let sessions = Arc::new(Sessions::new(self.ground(Arc::clone(&clock))));
        let verifier = PeerIsServer { bundle: self.bundle.clone(), expected, sessions: Some(Arc::clone(&sessions)) };
        let mut config = ClientConfig::builder_with_details(tls::provider(), clock)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        config.alpn_protocols = protocols(alpn);
        config.enable_sni = false;
        config.enable_early_data = false;
        config.resumption = Resumption::store(sessions).tls12_resumption(Tls12Resumption::Disabled);
        Ok(Arc::new(config))
    }

    /// The configuration for a control plane that also serves those who have no certificate yet: whoever shows one is verified
    /// as ever, and whoever shows none gets in unproven. No session is resumed, so that each connection proves itself anew.
    ///
    /// # Errors
    /// Those of rustls.
    pub fn reception_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, rustls::Error> {
        let verifier = PeerIsClient { bundle: self.bundle.clone(), may_be_missing: true };
        let mut config = ServerConfig::builder_with_details(tls::provider(), Arc::new(DefaultTimeProvider))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        config.alpn_protocols = protocols(alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    fn ground(&self, clock: Arc<dyn TimeProvider>) -> Ground {
        Ground { clock, bundle: self.bundle.clone(), own: self.expiry }
    }

    /// The same certificate with other roots, as a test's stranger would hold it.
    #[cfg(test)]
    pub(crate) fn dangerous_with_bundle(&self, bundle: Bundle) -> Arc<Self> {
        Arc::new(Self { svid: self.svid.clone(), bundle, certified: Arc::clone(&self.certified), expiry: self.expiry })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("svid", &self.svid).field("bundle", &self.bundle).finish_non_exhaustive()
    }
}

/// Why a set of credentials was refused. Each text names the file it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialsError {
    /// The certificate file is not readable PEM.
    CertificatePem(String),
    /// The certificate file holds no certificate.
    NoCertificate,
    /// The certificate file holds something that is neither certificate nor key.
    StrangeSection,
    /// The key file is not readable PEM.
    KeyPem(String),
    /// The key file holds no private key, or more than one.
    NotOneKey(usize),
    /// The private key is malformed or of a kind that is not accepted.
    Key(String),
    /// The private key belongs to another certificate.
    NotAPair,
    /// The bundle file is not acceptable.
    Bundle(BundleError),
    /// The leaf is for another identity.
    OtherIdentity {
        /// The identity in the leaf.
        got: SpiffeId,
        /// The identity it should be for.
        expected: SpiffeId,
    },
    /// The chain is not acceptable, as a peer would find.
    Certificate(SvidError),
}

impl CredentialsError {
    /// A short label for metrics and log lines, from a fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CertificatePem(_) => "certificate_pem",
            Self::NoCertificate => "no_certificate",
            Self::StrangeSection => "strange_section",
            Self::KeyPem(_) => "key_pem",
            Self::NotOneKey(_) => "not_one_key",
            Self::Key(_) => "key",
            Self::NotAPair => "not_a_pair",
            Self::Bundle(_) => "bundle",
            Self::OtherIdentity { .. } => "other_identity",
            Self::Certificate(error) => error.reason(),
        }
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificatePem(detail) => write!(f, "the certificate file {detail}"),
            Self::NoCertificate => f.write_str("the certificate file holds no certificate"),
            Self::StrangeSection => {
                f.write_str("the certificate file holds something that is neither certificate nor private key")
            }
            Self::KeyPem(detail) => write!(f, "the key file {detail}"),
            Self::NotOneKey(0) => f.write_str("the key file holds no private key"),
            Self::NotOneKey(n) => write!(f, "the key file holds {n} private keys, not one"),
            Self::Key(detail) => write!(f, "the private key is not usable: {detail}"),
            Self::NotAPair => f.write_str("the private key does not belong to the certificate"),
            Self::Bundle(error) => write!(f, "the bundle file {error}"),
            Self::OtherIdentity { got, expected } => {
                write!(f, "the certificate is for `{got}`, the workload is `{expected}`")
            }
            Self::Certificate(error) => write!(f, "the certificate file: {error}"),
        }
    }
}

impl std::error::Error for CredentialsError {}

/// The certificates of a PEM file in file order; private keys in it are passed over.
///
/// # Errors
/// The file is no PEM, holds no certificate, or something that is neither certificate nor private key.
pub fn chain_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let sections = pem::sections(pem).map_err(|error| CredentialsError::CertificatePem(error.to_string()))?;
    let mut chain = Vec::new();
    for (kind, der) in sections {
        match kind {
            SectionKind::Certificate => chain.push(CertificateDer::from(der)),
            _ if is_key(kind) => {}
            _ => return Err(CredentialsError::StrangeSection),
        }
    }
    if chain.is_empty() {
        return Err(CredentialsError::NoCertificate);
    }
    Ok(chain)
}

pub(crate) fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let sections = pem::sections(pem).map_err(|error| CredentialsError::KeyPem(error.to_string()))?;
    let mut keys: Vec<_> = sections.into_iter().filter(|(kind, _)| is_key(*kind)).collect();
    match (keys.pop(), keys.len()) {
        (Some((SectionKind::PrivateKey, der)), 0) => Ok(PrivateKeyDer::Pkcs8(der.into())),
        (Some((SectionKind::EcPrivateKey, der)), 0) => Ok(PrivateKeyDer::Sec1(der.into())),
        (Some((SectionKind::RsaPrivateKey, der)), 0) => Ok(PrivateKeyDer::Pkcs1(der.into())),
        (None, _) => Err(CredentialsError::NotOneKey(0)),
        (Some(_), others) => Err(CredentialsError::NotOneKey(others + 1)),
    }
}

fn is_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey)
}

/// Joins chain and key when the key is the leaf's. A key whose public half is unknown is refused as well:
/// what cannot be compared has not been checked.
fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, CredentialsError> {
    let key =
        tls::provider().key_provider.load_private_key(key).map_err(|error| CredentialsError::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(CredentialsError::NotAPair),
        Err(error) => Err(CredentialsError::Key(error.to_string())),
    }
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::der::{self, Reader};
    use crate::testing::*;
    use rcgen::KeyPair;

    const ID: &str = "spiffe://example.org/ns/shop/sa/web";

    fn id() -> SpiffeId {
        SpiffeId::parse(ID).unwrap()
    }

    fn load(cert: &str, key: &str, bundle: &str) -> Result<Arc<Credentials>, CredentialsError> {
        load_at(cert, key, bundle, NOW)
    }

    fn load_at(cert: &str, key: &str, bundle: &str, seconds: i64) -> Result<Arc<Credentials>, CredentialsError> {
        Credentials::from_pem(cert.as_bytes(), key.as_bytes(), bundle.as_bytes(), &id(), at(seconds))
    }

    fn pkcs8(key: &KeyPair) -> String {
        section("PRIVATE KEY", key.serialized_der())
    }

    /// The algorithm's own key structure inside PKCS #8: SEC 1 or PKCS #1.
    fn inner(key: &KeyPair) -> Vec<u8> {
        let mut fields = Reader::new(der::whole(der::SEQUENCE, key.serialized_der()).unwrap());
        fields.next().unwrap();
        fields.next().unwrap();
        fields.expect(0x04).unwrap().to_vec()
    }

    #[test]
    fn whether_we_are_denied_is_for_our_peers_to_judge() {
        let root = Ca::root("root");
        let (leaf, key) = root.leaf(ID);
        let own = load(&pem(std::slice::from_ref(&leaf)), &pkcs8(&key), &pem(&[root.der])).unwrap();
        let mut denials = Denials::default();
        denials.add(crate::denied::Denial::Id(id()), at(NOW + 60));
        let denying = own.bundle().denying(denials.clone());
        let key = PrivateKey::from_pkcs8(key.serialized_der().to_vec());
        let under = Credentials::new(vec![leaf], &key, denying, &id(), at(NOW)).unwrap();
        assert_eq!(under.bundle().denials(), &denials);
        let judged = verify(under.chain(), under.bundle(), Usage::Client, at(NOW));
        assert_eq!(judged.map(drop), Err(SvidError::Denied(id())));
    }

    #[test]
    fn a_good_set_is_accepted() {
        let root = Ca::root("root");
        let middle = root.intermediate("middle");
        let (leaf, key) = middle.leaf(ID);
        let credentials = load(&pem(&[leaf.clone(), middle.der.clone()]), &pkcs8(&key), &pem(&[root.der])).unwrap();
        assert_eq!(credentials.svid().id(), &id());
        assert_eq!(credentials.chain(), [leaf, middle.der]);
        assert_eq!(credentials.bundle().trust_domain().as_str(), "example.org");
        assert!(!format!("{credentials:?}").contains("key"));
    }

    #[test]
    fn keys_may_be_pkcs8_sec1_or_pkcs1() {
        let root = Ca::root("root");
        let roots = pem(std::slice::from_ref(&root.der));
        let (leaf, key) = root.leaf(ID);
        let sec1 = section("EC PRIVATE KEY", &inner(&key));
        load(&pem(&[leaf]), &sec1, &roots).unwrap();

        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let leaf = pem(&[root.issue(Spec::leaf(ID, &key))]);
        load(&leaf, &pkcs8(&key), &roots).unwrap();
        load(&leaf, &section("RSA PRIVATE KEY", &inner(&key)), &roots).unwrap();
    }

    #[test]
    fn a_set_without_files_is_judged_alike() {
        let root = Ca::root("root");
        let (leaf, key) = root.leaf(ID);
        let own = PrivateKey::from_pkcs8(key.serialized_der().to_vec());
        let judge = |key: &PrivateKey, bundle, seconds| {
            Credentials::new(vec![leaf.clone()], key, bundle, &id(), at(seconds)).map_err(|error| error.reason())
        };
        let credentials = judge(&own, root.bundle("example.org"), NOW).unwrap();
        assert_eq!(credentials.expiry(), at(NOW + HOUR));
        assert_eq!(judge(&own, root.bundle("example.org"), NOW + HOUR + 1).unwrap_err(), "expired");
        assert_eq!(judge(&own, Ca::root("other").bundle("example.org"), NOW).unwrap_err(), "unknown_issuer");
        assert_eq!(judge(&own, root.bundle("example.com"), NOW).unwrap_err(), "trust_domain");
        let other = PrivateKey::from_pkcs8(root.leaf(ID).1.serialized_der().to_vec());
        assert_eq!(judge(&other, root.bundle("example.org"), NOW).unwrap_err(), "not_a_pair");
        let broken = PrivateKey::from_pkcs8(vec![0x30, 0x00]);
        assert_eq!(judge(&broken, root.bundle("example.org"), NOW).unwrap_err(), "key");
    }

    #[test]
    fn one_file_may_hold_chain_and_key() {
        let root = Ca::root("root");
        let (leaf, key) = root.leaf(ID);
        let both = pkcs8(&key) + &pem(&[leaf]);
        load(&both, &both, &pem(&[root.der])).unwrap();
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let root = Ca::root("root");
        let (leaf, _) = root.leaf(ID);
        let (_, other) = root.leaf(ID);
        assert_eq!(load(&pem(&[leaf]), &pkcs8(&other), &pem(&[root.der])).unwrap_err(), CredentialsError::NotAPair);
    }

    #[test]
    fn a_leaf_of_another_identity_is_refused() {
        let root = Ca::root("root");
        let roots = pem(std::slice::from_ref(&root.der));
        for other in ["spiffe://example.org/ns/shop/sa/db", "spiffe://example.com/ns/shop/sa/web"] {
            let (leaf, key) = root.leaf(other);
            assert_eq!(load(&pem(&[leaf]), &pkcs8(&key), &roots).unwrap_err().reason(), "other_identity");
        }
    }

    #[test]
    fn dates_and_issuer_are_judged_as_a_peer_would() {
        let root = Ca::root("root");
        let (leaf, key) = root.leaf(ID);
        let (cert, key, roots) = (pem(&[leaf]), pkcs8(&key), pem(&[root.der]));
        let reason = |seconds| load_at(&cert, &key, &roots, seconds).unwrap_err().reason();
        assert_eq!(reason(NOW + HOUR + 1), "expired");
        assert_eq!(reason(NOW - HOUR - 1), "not_yet_valid");
        let other = pem(&[Ca::root("other").der]);
        assert_eq!(load(&cert, &key, &other).unwrap_err().reason(), "unknown_issuer");
    }

    #[test]
    fn a_chain_in_the_wrong_order_is_refused() {
        let root = Ca::root("root");
        let middle = root.intermediate_with("middle", |spec| {
            let name = sequence(&[uri("spiffe://example.org")]);
            spec.extensions.push(extension(SAN, false, name));
        });
        let (leaf, key) = middle.leaf(ID);
        assert_eq!(
            load(&pem(&[middle.der, leaf]), &pkcs8(&key), &pem(&[root.der])).unwrap_err().reason(),
            "leaf_is_ca"
        );
    }

    #[test]
    fn files_that_hold_something_else_are_refused() {
        let root = Ca::root("root");
        let (leaf, key) = root.leaf(ID);
        let (cert, key, roots) = (pem(&[leaf]), pkcs8(&key), pem(&[root.der]));
        let reason = |cert: &str, key: &str, roots: &str| load(cert, key, roots).unwrap_err().reason();
        assert_eq!(reason("", &key, &roots), "certificate_pem");
        assert_eq!(reason(&key, &key, &roots), "no_certificate");
        assert_eq!(reason(&cert, "", &roots), "key_pem");
        assert_eq!(reason(&cert, &cert, &roots), "not_one_key");
        assert_eq!(reason(&cert, &key.repeat(2), &roots), "not_one_key");
        assert_eq!(reason(&cert, &key, ""), "bundle");
        assert_eq!(reason(&cert, &key, &cert), "bundle");
        let broken = section("PRIVATE KEY", &[0x30, 0x00]);
        assert_eq!(reason(&cert, &broken, &roots), "key");
        let crl = cert.clone() + &section("X509 CRL", &[0x30, 0x00]);
        assert_eq!(reason(&crl, &key, &roots), "strange_section");
        let locked = section("ENCRYPTED PRIVATE KEY", &[0x30, 0x00]);
        assert_eq!(reason(&cert, &locked, &roots), "key_pem");
    }
}

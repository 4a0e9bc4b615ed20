//! Chain, key and roots as one value.
//!
//! In come the parts of an X.509-SVID from whatever source; out comes a value that the verifier of peers has accepted, so that
//! nobody is handed a certificate that others would refuse, or a key that belongs to another. The key is held in memory alone,
//! is wiped when dropped, and never shown. (What gRPC encodes for a caller is a copy, which lives until it has been sent.)

use aws_lc_rs::digest::{Context, SHA256};
use identity::{Bundle, BundleError, CertificateDer, Credentials, CredentialsError, PrivateKey, SpiffeId, TrustDomain};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A verified X.509-SVID with its private key and the roots of its trust domain.
pub struct Material {
    credentials: Arc<Credentials>,
    key: Arc<PrivateKey>,
    version: String,
}

impl Material {
    /// Verifies the parts together: `chain` (leaf first) as a peer would, its key, and that it is for `expected`.
    ///
    /// # Errors
    /// What is wrong with which part.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: impl Into<Arc<PrivateKey>>,
        bundle: Bundle,
        expected: &SpiffeId,
        now: SystemTime,
    ) -> Result<Self, MaterialError> {
        let key = key.into();
        let credentials = Credentials::new(chain, &key, bundle, expected, now).map_err(MaterialError)?;
        let version = version(&credentials);
        Ok(Self { credentials, key, version })
    }

    /// The same from PEM: the chain, the key (PKCS #8, SEC 1 or PKCS #1), the roots.
    ///
    /// # Errors
    /// Which text cannot be read, or those of [`new`](Self::new).
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        bundle: &[u8],
        expected: &SpiffeId,
        now: SystemTime,
    ) -> Result<Self, MaterialError> {
        let chain = identity::chain_from_pem(chain).map_err(MaterialError)?;
        let leaf = chain.first().ok_or(MaterialError(CredentialsError::NoCertificate))?;
        let key = PrivateKey::from_pem(key, leaf).map_err(MaterialError)?;
        let bundle = Bundle::from_pem(trust_domain(expected)?, bundle)
            .map_err(|error| MaterialError(CredentialsError::Bundle(error)))?;
        Self::new(chain, key, bundle, expected, now)
    }

    /// The same as the Workload API sends it: rows of DER, and PKCS #8.
    ///
    /// # Errors
    /// Which row cannot be read, or those of [`new`](Self::new).
    pub fn from_der(
        chain: &[u8],
        key: Vec<u8>,
        bundle: &[u8],
        expected: &SpiffeId,
        now: SystemTime,
    ) -> Result<Self, MaterialError> {
        let key = PrivateKey::from_pkcs8(key);
        let chain =
            identity::chain_from_der(chain).map_err(|error| MaterialError(CredentialsError::Certificate(error)))?;
        let bundle = Bundle::from_der(trust_domain(expected)?, bundle)
            .map_err(|error| MaterialError(CredentialsError::Bundle(error)))?;
        Self::new(chain, key, bundle, expected, now)
    }

    /// The same chain and key under other roots.
    ///
    /// # Errors
    /// The chain does not lead to one of them.
    pub fn under(&self, bundle: Bundle, now: SystemTime) -> Result<Self, MaterialError> {
        Self::new(self.chain().to_vec(), Arc::clone(&self.key), bundle, self.id(), now)
    }

    /// Whose identity it is.
    pub fn id(&self) -> &SpiffeId {
        self.credentials.svid().id()
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.credentials.chain()
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The roots of the own trust domain.
    pub fn bundle(&self) -> &Bundle {
        self.credentials.bundle()
    }

    /// The same as our own TLS uses it.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// The last second of the first certificate of the chain to expire.
    pub fn expiry(&self) -> SystemTime {
        self.credentials.expiry()
    }

    /// Whether no certificate of the chain has expired: each is good until the end of its last second (RFC 5280 §4.1.2.5).
    pub fn is_current(&self, now: SystemTime) -> bool {
        now < self.expiry() + Duration::from_secs(1)
    }

    /// A name for exactly this chain and these roots: 16 hex digits.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("id", self.id())
            .field("serial", &self.credentials.svid().serial())
            .field("bundle", self.bundle())
            .finish_non_exhaustive()
    }
}

/// Why parts do not make an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaterialError(CredentialsError);

impl MaterialError {
    /// A short label for metrics and log lines, from a fixed set.
    pub fn reason(&self) -> &'static str {
        self.0.reason()
    }
}

impl fmt::Display for MaterialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            CredentialsError::CertificatePem(detail) => write!(f, "the certificate chain {detail}"),
            CredentialsError::NoCertificate => f.write_str("the certificate chain holds no certificate"),
            CredentialsError::StrangeSection => {
                f.write_str("the certificate chain holds something that is neither certificate nor private key")
            }
            CredentialsError::KeyPem(detail) => write!(f, "the private key {detail}"),
            CredentialsError::NotOneKey(count) => write!(f, "there are {count} private keys, not one"),
            CredentialsError::Bundle(error) => write!(f, "the bundle {error}"),
            CredentialsError::Certificate(error) => write!(f, "the certificate chain: {error}"),
            error
            @ (CredentialsError::Key(_) | CredentialsError::NotAPair | CredentialsError::OtherIdentity { .. }) => {
                error.fmt(f)
            }
        }
    }
}

impl std::error::Error for MaterialError {}

impl From<CredentialsError> for MaterialError {
    fn from(error: CredentialsError) -> Self {
        Self(error)
    }
}

impl From<BundleError> for MaterialError {
    fn from(error: BundleError) -> Self {
        Self(CredentialsError::Bundle(error))
    }
}

/// The trust domain of an identity, which is well formed because the identity is.
pub(crate) fn trust_domain(id: &SpiffeId) -> Result<TrustDomain, MaterialError> {
    TrustDomain::parse(id.trust_domain())
        .map_err(|error| MaterialError(CredentialsError::Certificate(identity::SvidError::NotSpiffe(error))))
}

/// Certificates name their own length, so that their row has one reading.
fn version(credentials: &Credentials) -> String {
    let mut context = Context::new(&SHA256);
    for certificate in credentials.chain() {
        context.update(certificate);
    }
    // The chain's end must not be mistaken for the bundle's beginning.
    context.update(&[0]);
    for root in credentials.bundle().roots() {
        context.update(root);
    }
    context.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::papers::{Papers, Pki};
    use identity::SvidError;

    const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

    fn read(papers: &Papers) -> Result<Material, MaterialError> {
        let Papers { id, chain, key, roots, .. } = papers;
        Material::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes(), id, SystemTime::now())
    }

    #[test]
    fn a_good_set_shows_everything_but_its_key() {
        let papers = Pki::new("example.org").papers(WEB);
        let own = read(&papers).unwrap();
        assert_eq!((own.id().as_str(), own.chain().len(), own.bundle().roots().len()), (WEB, 2, 1));
        assert_eq!(own.credentials().svid().serial(), papers.serial);
        let shown = format!("{own:?}");
        assert!(shown.contains(&papers.serial) && !shown.contains("key"), "{shown}");
        let row =
            |certificates: &[CertificateDer<'_>]| certificates.iter().flat_map(|der| der.to_vec()).collect::<Vec<_>>();
        let (chain, bundle) = (row(own.chain()), row(own.bundle().roots()));
        let key = own.key().pkcs8().to_vec();
        let again = Material::from_der(&chain, key, &bundle, own.id(), SystemTime::now()).unwrap();
        assert_eq!(again.version(), own.version());
    }

    #[test]
    fn it_is_current_until_the_end_of_its_last_second() {
        let own = read(&Pki::new("example.org").papers(WEB)).unwrap();
        assert!(own.is_current(own.expiry() + Duration::from_millis(999)));
        assert!(!own.is_current(own.expiry() + Duration::from_secs(1)));
    }

    #[test]
    fn another_leaf_or_another_root_is_another_version() {
        let (pki, other) = (Pki::new("example.org"), Pki::new("example.org"));
        let papers = pki.papers(WEB);
        let version = |papers: &Papers| read(papers).unwrap().version().to_owned();
        assert_eq!(version(&papers), version(&papers));
        assert_ne!(version(&papers), version(&pki.papers(WEB)));
        assert_ne!(version(&papers), version(&papers.clone().and_roots(&[&other])));
    }

    #[test]
    fn each_part_is_judged_and_named() {
        let (pki, other) = (Pki::new("example.org"), Pki::new("example.org"));
        let good = pki.papers(WEB);
        let reason = |papers: &Papers| read(papers).unwrap_err().reason();
        let spoilt = |spoil: fn(&mut Papers, &Papers)| {
            let mut papers = good.clone();
            spoil(&mut papers, &other.papers("spiffe://example.org/ns/shop/sa/db"));
            read(&papers).unwrap_err()
        };
        assert_eq!(spoilt(|papers, other| papers.key.clone_from(&other.key)).reason(), "not_a_pair");
        assert_eq!(spoilt(|papers, other| papers.roots.clone_from(&other.roots)).reason(), "unknown_issuer");
        assert_eq!(spoilt(|papers, other| papers.id.clone_from(&other.id)).reason(), "other_identity");
        for (error, word) in [
            (spoilt(|papers, _| papers.chain.clear()), "the certificate chain holds no"),
            (spoilt(|papers, _| papers.key.clear()), "the private key holds no"),
            (spoilt(|papers, _| papers.roots.clear()), "the bundle holds no"),
            (spoilt(|papers, other| papers.roots.clone_from(&other.chain)), "the bundle"),
        ] {
            assert!(error.to_string().starts_with(word) && !error.to_string().contains("file"), "{error}");
        }
        let mut twice = good.clone();
        twice.key = twice.key.repeat(2);
        assert_eq!(reason(&twice), "not_one_key");
        let late = Material::from_pem(
            good.chain.as_bytes(),
            good.key.as_bytes(),
            good.roots.as_bytes(),
            &good.id,
            SystemTime::now() + Duration::from_secs(7200),
        );
        assert_eq!(late.unwrap_err(), MaterialError(CredentialsError::Certificate(SvidError::Expired)));
    }
}

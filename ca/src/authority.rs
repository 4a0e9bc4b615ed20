//! The roots of a trust domain.
//!
//! In comes a trust domain to found one, or a folder to open one; out come issuers. Which root signs, and which
//! are in the bundle in which order, the rotation's state says; the root that signs, signs intermediates and
//! nothing else. Refused: roots that are not those of the state, a key that does not fit, dates that do not hold.

use std::path::Path;
use std::time::{Duration, SystemTime};

use identity::{Bundle, TrustDomain};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::error::CaError;
use crate::issuer::Issuer;
use crate::profile::{self, CaKind, INTERMEDIATE_LIFETIME, ROOT_LIFETIME, Validity};
use crate::root::{Root, RootCertificate};
use crate::rotation::{RootId, Rotation};
use crate::store::{Folder, Keys, RootFiles};

/// The roots of a trust domain, one of them with its key, checked to be usable now.
pub struct Authority {
    trust_domain: TrustDomain,
    rotation: Rotation,
    /// The root that signs.
    issuing: Root,
    /// All of them, in the state's order.
    bundle: Bundle,
    bundle_pem: String,
}

impl Authority {
    /// Founds a new root: P-256, ten years from `now`, unique subject.
    pub fn init(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, CaError> {
        Self::init_for(trust_domain, ROOT_LIFETIME, now)
    }

    /// Founds a new root that lives for `lifetime` from `now`.
    pub fn init_for(trust_domain: &TrustDomain, lifetime: Duration, now: SystemTime) -> Result<Self, CaError> {
        let root = Root::found(trust_domain, lifetime, now)?;
        let rotation = Rotation::founded(root.certificate.as_new(), now);
        let bundle_pem = root.certificate.pem.clone();
        Self::assemble(trust_domain.clone(), rotation, root, bundle_pem, now)
    }

    /// Writes a founded root into `dir`: the folder 0700, the key 0600 and encrypted when a passphrase is given.
    ///
    /// The passphrase is used byte for byte; a caller who reads it from a file takes the line end off. Nothing
    /// is overwritten.
    pub fn save(&self, dir: &Path, passphrase: Option<&[u8]>) -> Result<(), CaError> {
        let certificate = &self.issuing.certificate;
        let root = RootFiles { id: certificate.id, pem: &certificate.pem, key: self.issuing.key_der(), passphrase };
        Folder::found(dir, &self.trust_domain, &root, &self.rotation).map(|_| ())
    }

    /// Opens a folder written by [`save`](Self::save), with the keys in it.
    pub fn load(dir: &Path, passphrase: Option<&[u8]>, now: SystemTime) -> Result<Self, CaError> {
        Self::open(dir, Keys { passphrase, secret: None }, now)
    }

    /// Opens a folder with keys that may be elsewhere.
    pub fn open(dir: &Path, keys: Keys<'_>, now: SystemTime) -> Result<Self, CaError> {
        let folder = Folder::open(dir)?;
        let rotation = folder.state()?;
        match Self::of(&folder, rotation.clone(), keys, now) {
            // A server took a step between our reading of the state and of the roots that it names.
            Err(_) if folder.state()? != rotation => Self::of(&folder, folder.state()?, keys, now),
            result => result,
        }
    }

    /// The roots of a state. The key of the root that waits to issue is opened as well: that it is not there, or
    /// has another passphrase, should be known before it is needed. Keys of retiring roots may be gone.
    pub(crate) fn of(folder: &Folder, rotation: Rotation, keys: Keys<'_>, now: SystemTime) -> Result<Self, CaError> {
        let issuing = open_root(folder, rotation.issuing(), keys)?;
        if let Some(next) = rotation.next() {
            open_root(folder, next, keys)?;
        }
        let certificates = rotation.bundle().into_iter().map(|root| open_certificate(folder, root));
        let bundle_pem = certificates.map(|root| root.map(|root| root.pem)).collect::<Result<String, _>>()?;
        Self::assemble(folder.trust_domain().clone(), rotation, issuing, bundle_pem, now)
    }

    /// Makes an issuer: a new key, certified for seven days or as long as the root lasts, never written down.
    pub fn intermediate(&self, now: SystemTime) -> Result<Issuer, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let root = &self.issuing.certificate;
        let validity = Validity::starting(now, INTERMEDIATE_LIFETIME)?.within(root.validity, now)?;
        let params = profile::signing(CaKind::Intermediate, &self.trust_domain, &key, validity)?;
        let certificate = self.issuing.sign(&params, &key)?;
        Issuer::new(
            self.trust_domain.clone(),
            self.bundle.clone(),
            certificate,
            rcgen::Issuer::new(params, key),
            validity,
        )
    }

    /// The certificate of the root that issues, as PEM.
    pub fn root_pem(&self) -> String {
        self.issuing.certificate.pem.clone()
    }

    /// The name of the root that issues: every certificate of this authority's issuers chains to it.
    pub fn root_id(&self) -> RootId {
        self.issuing.certificate.id
    }

    /// The trust bundle as PEM: every root of the state, the one that issues first.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// The trust bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The state that the roots were loaded for; the bundle's sequence is its.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// The trust domain, the only one these roots speak for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The last second of the validity of the root that issues.
    pub fn not_after(&self) -> SystemTime {
        self.issuing.certificate.validity.not_after
    }

    /// From the first to the last second of the root that issues.
    pub fn life(&self) -> Duration {
        self.issuing.certificate.validity.length()
    }

    fn assemble(
        trust_domain: TrustDomain,
        rotation: Rotation,
        issuing: Root,
        bundle_pem: String,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let bundle = Bundle::from_pem(trust_domain.clone(), bundle_pem.as_bytes()).map_err(CaError::Root)?;
        issuing.certificate.validity.check(now)?;
        Ok(Self { trust_domain, rotation, issuing, bundle, bundle_pem })
    }
}

/// A root of the folder with its key.
pub(crate) fn open_root(folder: &Folder, root: RootId, keys: Keys<'_>) -> Result<Root, CaError> {
    let certificate = open_certificate(folder, root)?;
    Root::open(certificate, folder.key(root, keys)?, keys.passphrase.is_some())
}

/// A root's certificate, which must be the one that the folder names.
pub(crate) fn open_certificate(folder: &Folder, root: RootId) -> Result<RootCertificate, CaError> {
    let certificate = RootCertificate::open(folder.trust_domain(), folder.certificate(root)?)?;
    match certificate.id == root {
        true => Ok(certificate),
        false => Err(CaError::OtherRoot { named: root, found: certificate.id }),
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("rotation", &self.rotation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use std::fs;
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::{FromDer, X509Certificate};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn found() -> Authority {
        Authority::init(&TrustDomain::parse("example.org").unwrap(), now()).unwrap()
    }

    #[test]
    fn a_root_is_what_the_standard_asks_of_a_signing_certificate() {
        let authority = found();
        let der = &authority.bundle.roots()[0];
        let (_, root) = X509Certificate::from_der(der).unwrap();
        let constraints = root.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, None);
        let usage = root.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        let names = root.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://example.org")]);
        assert!(
            root.extensions().iter().any(|e| matches!(e.parsed_extension(), ParsedExtension::SubjectKeyIdentifier(_)))
        );
        assert!(root.name_constraints().unwrap().is_none());
        assert!(root.extended_key_usage().unwrap().is_none());
        let life = authority.not_after().duration_since(now()).unwrap();
        assert_eq!(life, ROOT_LIFETIME);
        assert_eq!(root.raw_serial().len(), 16);
    }

    #[test]
    fn every_root_has_a_name_of_its_own() {
        let subject = |authority: &Authority| {
            let der = authority.bundle.roots()[0].clone();
            let (_, root) = X509Certificate::from_der(&der).unwrap();
            root.subject().to_string()
        };
        let (a, b) = (found(), found());
        assert!(subject(&a).starts_with("CN=sekisho root "));
        assert_ne!(subject(&a), subject(&b));
    }

    #[test]
    fn what_is_saved_is_loaded_plain_and_encrypted() {
        for passphrase in [None, Some(&b"open sesame"[..])] {
            let dir = tempfile::tempdir().unwrap();
            let authority = found();
            authority.save(dir.path(), passphrase).unwrap();
            let back = Authority::load(dir.path(), passphrase, now()).unwrap();
            assert_eq!(back.root_pem(), authority.root_pem());
            assert_eq!(back.trust_domain(), authority.trust_domain());
            back.intermediate(now()).unwrap();
            assert!(matches!(authority.save(dir.path(), passphrase), Err(CaError::Exists(_))));
        }
    }

    #[test]
    fn a_wrong_passphrase_never_yields_an_authority() {
        let dir = tempfile::tempdir().unwrap();
        found().save(dir.path(), Some(b"right")).unwrap();
        assert!(matches!(Authority::load(dir.path(), Some(b"wrong"), now()), Err(CaError::PassphraseWrong)));
    }

    #[test]
    fn a_key_of_another_root_is_refused() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        found().save(ours.path(), None).unwrap();
        found().save(theirs.path(), None).unwrap();
        let root =
            |dir: &Path, file| fs::read_dir(dir.join("roots")).unwrap().next().unwrap().unwrap().path().join(file);
        fs::copy(root(theirs.path(), "root.key"), root(ours.path(), "root.key")).unwrap();
        assert!(matches!(Authority::load(ours.path(), None, now()), Err(CaError::RootKeyMismatch)));
        fs::copy(root(theirs.path(), "root.pem"), root(ours.path(), "root.pem")).unwrap();
        assert!(matches!(Authority::load(ours.path(), None, now()), Err(CaError::OtherRoot { .. })));
    }

    #[test]
    fn a_root_of_another_domain_or_no_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = found();
        authority.save(dir.path(), None).unwrap();
        fs::write(dir.path().join("ca.json"), r#"{"schema":1,"trust_domain":"example.com"}"#).unwrap();
        assert!(matches!(Authority::load(dir.path(), None, now()), Err(CaError::Root(_))));
    }

    #[test]
    fn the_clock_must_be_inside_the_roots_validity() {
        let dir = tempfile::tempdir().unwrap();
        let authority = found();
        authority.save(dir.path(), None).unwrap();
        let early = now() - Duration::from_secs(61);
        assert!(matches!(Authority::load(dir.path(), None, early), Err(CaError::NotYetValid(_))));
        let late = authority.not_after() + Duration::from_secs(1);
        assert!(matches!(Authority::load(dir.path(), None, late), Err(CaError::Expired(_))));
        assert!(matches!(authority.intermediate(late), Err(CaError::Expired(_))));
    }

    #[test]
    fn an_intermediate_near_the_end_of_its_root_is_clamped_then_refused() {
        let authority = found();
        let day = Duration::from_secs(24 * 3600);
        let issuer = authority.intermediate(authority.not_after() - 3 * day).unwrap();
        assert_eq!(issuer.not_after(), authority.not_after());
        assert!(matches!(authority.intermediate(authority.not_after() - day / 2), Err(CaError::TooShort { .. })));
    }
}

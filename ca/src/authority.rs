//! The root of a trust domain.
//!
//! In comes a trust domain to found one, or a folder to open one; out come issuers. The root signs
//! intermediates and nothing else. Refused: a root whose key does not fit, whose dates do not hold, or whose
//! certificate our own sidecars would not take into a bundle.

use std::path::Path;
use std::time::SystemTime;

use identity::{Bundle, PublicKey, TrustDomain};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::PrivatePkcs8KeyDer;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::error::CaError;
use crate::issuer::Issuer;
use crate::profile::{self, CaKind, INTERMEDIATE_LIFETIME, ROOT_LIFETIME, Validity};
use crate::signature;
use crate::store::{self, Stored};

/// A root certificate with its key, checked to be usable now.
pub struct Authority {
    trust_domain: TrustDomain,
    root_pem: String,
    /// Invariant: exactly one root.
    bundle: Bundle,
    key: KeyPair,
    validity: Validity,
}

impl Authority {
    /// Founds a new root: P-256, ten years from `now`, unique subject.
    pub fn init(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let validity = Validity::starting(now, ROOT_LIFETIME)?;
        let root = profile::signing(CaKind::Root, trust_domain, &key, validity)?.self_signed(&key)?;
        Self::assemble(trust_domain.clone(), root.pem(), key, now)
    }

    /// Writes the root into `dir`: the folder 0700, the key 0600 and encrypted when a passphrase is given.
    ///
    /// The passphrase is used byte for byte; a caller who reads it from a file takes the line end off. Nothing
    /// is overwritten.
    pub fn save(&self, dir: &Path, passphrase: Option<&[u8]>) -> Result<(), CaError> {
        let stored = Stored {
            trust_domain: self.trust_domain.clone(),
            root_pem: self.root_pem.clone(),
            key: self.key.serialized_der().to_vec(),
        };
        store::save(dir, &stored, passphrase)
    }

    /// Opens a root written by [`save`](Self::save).
    pub fn load(dir: &Path, passphrase: Option<&[u8]>, now: SystemTime) -> Result<Self, CaError> {
        let stored = store::load(dir, passphrase)?;
        let key = PrivatePkcs8KeyDer::from(stored.key);
        let key = KeyPair::try_from(&key).map_err(|_| match passphrase {
            // A wrong passphrase leaves valid padding once in 256 times; what comes out is no key then.
            Some(_) => CaError::PassphraseWrong,
            None => CaError::Crypto("root.key holds a key of an unknown kind".into()),
        })?;
        Self::assemble(stored.trust_domain, stored.root_pem, key, now)
    }

    /// Makes an issuer: a new key, certified for seven days or as long as the root lasts, never written down.
    pub fn intermediate(&self, now: SystemTime) -> Result<Issuer, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let validity = Validity::starting(now, INTERMEDIATE_LIFETIME)?.within(self.validity, now)?;
        let params = profile::signing(CaKind::Intermediate, &self.trust_domain, &key, validity)?;
        let root = self.bundle.roots().first().ok_or(CaError::RootKeyMismatch)?;
        let certificate = params.signed_by(&key, &rcgen::Issuer::from_ca_cert_der(root, &self.key)?)?;
        check_signature(certificate.der(), &self.key.subject_public_key_info())?;
        Ok(Issuer::new(
            self.trust_domain.clone(),
            self.bundle.clone(),
            certificate,
            rcgen::Issuer::new(params, key),
            validity,
        ))
    }

    /// The root certificate, which is the trust bundle, as PEM.
    pub fn root_pem(&self) -> String {
        self.root_pem.clone()
    }

    /// The trust domain, the only one this root speaks for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The last second of the root's validity.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    fn assemble(trust_domain: TrustDomain, root_pem: String, key: KeyPair, now: SystemTime) -> Result<Self, CaError> {
        let bundle = Bundle::from_pem(trust_domain.clone(), root_pem.as_bytes()).map_err(CaError::Root)?;
        let [root] = bundle.roots() else {
            return Err(CaError::RootKeyMismatch);
        };
        let (_, certificate) = X509Certificate::from_der(root).map_err(|_| CaError::RootKeyMismatch)?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::RootKeyMismatch);
        }
        if certificate.subject() == certificate.issuer() {
            check_signature(root, certificate.public_key().raw)?;
        }
        let validity = Validity {
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
        };
        validity.check(now)?;
        Ok(Self { trust_domain, root_pem, bundle, key, validity })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// Verifies a CA certificate's signature with its issuer's key. A faulty signature of a root or intermediate
/// would otherwise be found by every peer at once.
fn check_signature(der: &[u8], issuer_spki: &[u8]) -> Result<(), CaError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CaError::LintMismatch("the encoding of a CA certificate"))?;
    let issuer = PublicKey::from_spki(issuer_spki).map_err(CaError::Key)?;
    let holds = signature::verify(
        &issuer,
        certificate.signature_algorithm.algorithm.as_bytes(),
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    );
    if holds { Ok(()) } else { Err(CaError::LintMismatch("the signature of a CA certificate")) }
}

fn time(time: ASN1Time) -> SystemTime {
    SystemTime::from(time.to_datetime())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;
    use x509_parser::extensions::{GeneralName, ParsedExtension};

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
        fs::copy(theirs.path().join("root.pem"), ours.path().join("root.pem")).unwrap();
        assert!(matches!(Authority::load(ours.path(), None, now()), Err(CaError::RootKeyMismatch)));
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

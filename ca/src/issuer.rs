//! Leaves for workloads.
//!
//! In come a SPIFFE ID that was attested, a public key and a lifetime; out comes a chain of leaf and
//! intermediate. Names, usages and dates are ours; from outside comes the key alone. Each certificate is read
//! back as its peers will read it before anybody sees it: what would be refused is not issued. Whether its signature is checked
//! as well is the operator's choice ([`Signatures`]), but for the first of each issuer, which shows that key and certificate of the
//! intermediate belong together and that the chain up to the root is one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::{Bundle, CertificateDer, KeyKind, PublicKey, SpiffeId, Svid, TrustDomain, Usage};
use rcgen::{
    Certificate, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::attest::Attested;
use crate::csr::Requested;
use crate::error::CaError;
use crate::log::Hash;
use crate::profile::{self, Validity};
use crate::signature;

/// An intermediate CA that lives in memory and issues leaves of one trust domain.
pub struct Issuer {
    trust_domain: TrustDomain,
    bundle: Bundle,
    certificate: Certificate,
    /// The same as PEM: it goes along with every leaf.
    certificate_pem: String,
    /// Its subject, DER: what every leaf names as its issuer.
    name: Vec<u8>,
    signer: rcgen::Issuer<'static, KeyPair>,
    validity: Validity,
    signatures: Signatures,
    /// A leaf of this issuer was verified with its signature.
    proven: AtomicBool,
}

/// Of which leaves the signature is verified before they leave. A signature that a fault of the processor or of its memory
/// spoilt is refused by every peer; verified here, it never leaves. Verifying costs four times as much as signing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// Of every leaf.
    #[default]
    Every,
    /// Of the first leaf of each issuer, and of the CA's own certificates.
    First,
}

/// An issued certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf, DER.
    pub leaf: CertificateDer<'static>,
    /// The same as PEM.
    pub leaf_pem: String,
    /// What signed it, PEM.
    pub intermediate_pem: String,
    /// What its peers will read in it, as the lint read it back.
    pub svid: Svid,
    /// The leaf's serial number in lower-case hex.
    pub serial: String,
    /// The leaf's last second; earlier than asked for when the CA's own certificates end earlier.
    pub not_after: SystemTime,
}

impl Issued {
    /// The leaf, then the intermediate.
    pub fn chain_pem(&self) -> String {
        self.leaf_pem.clone() + &self.intermediate_pem
    }
}

impl Issuer {
    pub(crate) fn new(
        trust_domain: TrustDomain,
        bundle: Bundle,
        certificate: Certificate,
        signer: rcgen::Issuer<'static, KeyPair>,
        validity: Validity,
    ) -> Result<Self, CaError> {
        let (_, read) = X509Certificate::from_der(certificate.der())
            .map_err(|_| CaError::LintMismatch("the encoding of a CA certificate"))?;
        let name = read.subject().as_raw().to_vec();
        Ok(Self {
            certificate_pem: pem(certificate.der()),
            signatures: Signatures::default(),
            proven: AtomicBool::new(false),
            trust_domain,
            bundle,
            certificate,
            name,
            signer,
            validity,
        })
    }

    /// The same, verifying the signatures of these leaves.
    #[must_use]
    pub fn verifying(self, signatures: Signatures) -> Self {
        Self { signatures, ..self }
    }

    /// Issues a leaf for the name that was attested and the DER SubjectPublicKeyInfo of its holder, valid for `ttl`
    /// from `now`, cut to whole seconds and to the validity of the chain.
    pub fn issue(
        &self,
        attested: &Attested,
        public_key_spki_der: &[u8],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, CaError> {
        check_key(public_key_spki_der)?;
        self.make(attested.id(), &[], public_key_spki_der, (ttl, now), self.signatures)
    }

    /// The same for the key of a request, which has been checked.
    pub fn issue_requested(
        &self,
        attested: &Attested,
        requested: &Requested,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, CaError> {
        self.make(attested.id(), &[], requested.spki(), (ttl, now), self.signatures)
    }

    /// The key has been checked.
    fn make(
        &self,
        id: &SpiffeId,
        names: &[String],
        public_key_spki_der: &[u8],
        (ttl, now): (Duration, SystemTime),
        signatures: Signatures,
    ) -> Result<Issued, CaError> {
        self.check_name(id)?;
        let validity = self.validity_of(ttl, now)?;
        let key = SubjectKey(PublicKey::from_spki(public_key_spki_der).map_err(CaError::Key)?);
        let leaf = profile::leaf(id, names, validity)?.signed_by(&key, &self.signer)?;
        let svid = self.read_back(&leaf, signatures, now)?;
        lint(&svid, id, public_key_spki_der, validity)?;
        Ok(Issued {
            leaf_pem: pem(leaf.der()),
            leaf: leaf.into(),
            intermediate_pem: self.certificate_pem.clone(),
            serial: svid.serial().to_owned(),
            svid,
            not_after: validity.not_after,
        })
    }

    /// Makes a P-256 key and issues a leaf for it; returns the key as PKCS #8 PEM. For workloads that cannot
    /// make their own: a key that has been in two places is worth less.
    pub fn issue_with_new_key(
        &self,
        attested: &Attested,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(Issued, String), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let issued = self.issue(attested, &key.subject_public_key_info(), ttl, now)?;
        Ok((issued, key.serialize_pem()))
    }

    /// Makes a key and a certificate for the CA's own server: a leaf like any other, with DNS names besides for callers that
    /// compare those (X509-SVID §2 allows them). Returns the key as PKCS #8 PEM, which is never written down.
    pub fn issue_own(
        &self,
        id: &SpiffeId,
        names: &[String],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(Issued, String), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let issued = self.make(id, names, &key.subject_public_key_info(), (ttl, now), Signatures::Every)?;
        Ok((issued, key.serialize_pem()))
    }

    /// The last second in which this issuer may sign, and the last that any of its leaves can have.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    fn check_name(&self, id: &SpiffeId) -> Result<(), CaError> {
        if id.trust_domain() != self.trust_domain.as_str() {
            return Err(CaError::OtherDomain { id: id.clone(), trust_domain: self.trust_domain.as_str().to_owned() });
        }
        if id.path().is_empty() {
            return Err(CaError::NoPath(id.clone()));
        }
        Ok(())
    }

    fn validity_of(&self, ttl: Duration, now: SystemTime) -> Result<Validity, CaError> {
        let ttl = Duration::from_secs(ttl.as_secs());
        if ttl.is_zero() {
            return Err(CaError::ZeroTtl);
        }
        Validity::starting(now, ttl)?.within(self.validity, now)
    }

    /// Reads a finished leaf as its peers will, in either role. Where its signature is not asked for, the rest of the path is what
    /// the first leaf has shown: it has the same issuer, and the issuer's validity was looked at when the leaf's was chosen.
    fn read_back(&self, leaf: &Certificate, signatures: Signatures, now: SystemTime) -> Result<Svid, CaError> {
        if signatures == Signatures::First && self.proven.load(Ordering::Relaxed) {
            return Svid::from_leaf_of(leaf.der(), &self.name).map_err(CaError::Lint);
        }
        let chain: [CertificateDer<'_>; 2] = [leaf.der().as_ref().into(), self.certificate.der().as_ref().into()];
        let svid = identity::verify(&chain, &self.bundle, Usage::Both, now).map_err(CaError::Lint)?;
        self.proven.store(true, Ordering::Relaxed);
        Ok(svid)
    }
}

/// Compares what was read in a leaf with what was asked for.
fn lint(svid: &Svid, id: &SpiffeId, spki: &[u8], validity: Validity) -> Result<(), CaError> {
    if svid.id() != id {
        return Err(CaError::LintMismatch("the name"));
    }
    if svid.key_sha256() != Hash::of(spki).as_bytes() {
        return Err(CaError::LintMismatch("the public key"));
    }
    if (svid.not_before(), svid.not_after()) != (validity.not_before, validity.not_after) {
        return Err(CaError::LintMismatch("the validity"));
    }
    Ok(())
}

/// The holder's key, as `rcgen` asks for it. It writes the algorithm anew; the lint sees to it that all octets are those of before.
struct SubjectKey<'a>(PublicKey<'a>);

impl PublicKeyData for SubjectKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.bits()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.kind() {
            KeyKind::P256 => &PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &PKCS_ECDSA_P384_SHA384,
            KeyKind::P521 => &PKCS_ECDSA_P521_SHA512,
            KeyKind::Ed25519 => &PKCS_ED25519,
            KeyKind::Rsa => &PKCS_RSA_SHA256,
        }
    }
}

/// A certificate as text, in lines of 64 (RFC 7468 §2).
fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 64);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("trust_domain", &self.trust_domain)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

fn check_key(spki: &[u8]) -> Result<(), CaError> {
    let key = PublicKey::from_spki(spki).map_err(CaError::Key)?;
    if signature::is_valid(&key) { Ok(()) } else { Err(CaError::InvalidKey) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::Authority;
    use identity::{Credentials, SvidError};
    use x509_parser::extensions::ParsedExtension;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    fn web() -> SpiffeId {
        id("spiffe://example.org/ns/shop/sa/web")
    }

    fn authority() -> Authority {
        Authority::init(&TrustDomain::parse("example.org").unwrap(), now()).unwrap()
    }

    fn issuer() -> Issuer {
        authority().intermediate(now()).unwrap()
    }

    fn leaf_der(issued: &Issued) -> Vec<u8> {
        let chain = pem::parse_many(issued.chain_pem()).unwrap();
        assert_eq!(chain.len(), 2);
        chain[0].contents().to_vec()
    }

    #[test]
    fn what_is_issued_loads_as_credentials() {
        let authority = authority();
        let issuer = authority.intermediate(now()).unwrap();
        let (issued, key) = issuer.issue_with_new_key(&Attested::by_operator(web()), DAY, now()).unwrap();
        let credentials = Credentials::from_pem(
            issued.chain_pem().as_bytes(),
            key.as_bytes(),
            authority.root_pem().as_bytes(),
            &web(),
            now(),
        )
        .unwrap();
        assert_eq!(credentials.svid().serial(), issued.serial);
        assert_eq!(credentials.svid().not_after(), issued.not_after);
        assert_eq!(issued.not_after, now() + DAY);
        assert_eq!(credentials.svid().not_before(), now() - Duration::from_secs(60));
        assert_eq!(credentials.svid().subject(), "");
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    }

    #[test]
    fn a_leaf_is_exactly_what_the_profile_says() {
        let (issued, _) = issuer().issue_with_new_key(&Attested::by_operator(web()), DAY, now()).unwrap();
        let der = leaf_der(&issued);
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let seen: Vec<_> = leaf.extensions().iter().map(|e| (e.oid.to_id_string(), e.critical)).collect();
        let mut expected = vec![
            ("2.5.29.35".to_owned(), false), // authority key identifier
            ("2.5.29.17".to_owned(), true),  // alternative names: critical, the subject is empty
            ("2.5.29.15".to_owned(), true),  // key usage
            ("2.5.29.37".to_owned(), false), // extended key usage
            ("2.5.29.14".to_owned(), false), // subject key identifier
            ("2.5.29.19".to_owned(), true),  // basic constraints
        ];
        let mut sorted = seen;
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected);
        let value = |oid: &str| {
            let found = leaf.extensions().iter().find(|e| e.oid.to_id_string() == oid);
            found.unwrap().value
        };
        // The bytes: an empty sequence, and digitalSignature alone.
        assert_eq!(value("2.5.29.19"), [0x30, 0x00]);
        assert_eq!(value("2.5.29.15"), [0x03, 0x02, 0x07, 0x80]);
        assert_eq!(leaf.subject().iter_rdn().count(), 0);
        assert_eq!(leaf.raw_serial().len(), 16);
    }

    #[test]
    fn text_is_what_others_write() {
        for length in [0, 1, 46, 47, 48, 49, 96, 600] {
            let der: Vec<u8> = (0..length).map(|octet| octet as u8).collect();
            let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
            assert_eq!(super::pem(&der), pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config), "{length}");
        }
    }

    #[test]
    fn key_identifiers_link_the_chain() {
        let authority = authority();
        let issuer = authority.intermediate(now()).unwrap();
        let (issued, _) = issuer.issue_with_new_key(&Attested::by_operator(web()), DAY, now()).unwrap();
        let ids = |der: &[u8]| {
            let (_, certificate) = X509Certificate::from_der(der).unwrap();
            let (mut own, mut parent) = (None, None);
            for extension in certificate.extensions() {
                match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0.to_vec()),
                    ParsedExtension::AuthorityKeyIdentifier(id) => {
                        parent = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                    }
                    _ => {}
                }
            }
            (own, parent)
        };
        let chain = pem::parse_many(issued.chain_pem()).unwrap();
        let root = pem::parse(authority.root_pem()).unwrap();
        let (leaf, middle, root) = (ids(chain[0].contents()), ids(chain[1].contents()), ids(root.contents()));
        assert!(leaf.0.is_some());
        assert_eq!(leaf.1, middle.0);
        assert_eq!(middle.1, root.0);
        assert_eq!(root.1, None);
    }

    #[test]
    fn the_intermediate_issues_leaves_only() {
        let issuer = issuer();
        let (_, middle) = X509Certificate::from_der(issuer.certificate.der()).unwrap();
        let constraints = middle.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        assert_eq!(issuer.not_after(), now() + 7 * DAY);
    }

    #[test]
    fn names_outside_the_trust_domain_are_refused() {
        let issuer = issuer();
        let refuse = |text: &str| issuer.issue_with_new_key(&Attested::by_operator(id(text)), DAY, now()).unwrap_err();
        for other in ["spiffe://example.com/ns/shop/sa/web", "spiffe://sub.example.org/x", "spiffe://example.or/x"] {
            assert!(matches!(refuse(other), CaError::OtherDomain { .. }));
        }
        assert!(matches!(refuse("spiffe://example.org"), CaError::NoPath(_)));
    }

    #[test]
    fn keys_of_every_accepted_kind_are_certified_verbatim() {
        let issuer = issuer();
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let spki = KeyPair::generate_for(algorithm).unwrap().subject_public_key_info();
            let issued = issuer.issue(&Attested::by_operator(web()), &spki, DAY, now()).unwrap();
            let der = leaf_der(&issued);
            let (_, leaf) = X509Certificate::from_der(&der).unwrap();
            assert_eq!(leaf.public_key().raw, spki);
        }
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let issuer = issuer();
        let mut off_curve = KeyPair::generate().unwrap().subject_public_key_info();
        *off_curve.last_mut().unwrap() ^= 1;
        assert!(matches!(
            issuer.issue(&Attested::by_operator(web()), &off_curve, DAY, now()),
            Err(CaError::InvalidKey)
        ));
        assert!(matches!(issuer.issue(&Attested::by_operator(web()), b"junk", DAY, now()), Err(CaError::Key(_))));
    }

    #[test]
    fn lifetimes_are_clamped_and_absurd_ones_refused() {
        let issuer = issuer();
        let end = issuer.not_after();
        let long = issuer.issue_with_new_key(&Attested::by_operator(web()), 30 * DAY, now()).unwrap().0;
        assert_eq!(long.not_after, end);
        let at = |time| issuer.issue_with_new_key(&Attested::by_operator(web()), DAY, time).map(|(issued, _)| issued);
        assert_eq!(at(end - DAY / 2).unwrap().not_after, end);
        assert!(matches!(at(end - DAY / 11), Err(CaError::TooShort { .. })));
        assert!(matches!(at(end + DAY), Err(CaError::Expired(_))));
        assert!(matches!(at(now() - DAY), Err(CaError::NotYetValid(_))));
        let ttl = |ttl| issuer.issue_with_new_key(&Attested::by_operator(web()), ttl, now());
        assert!(matches!(ttl(Duration::from_millis(999)), Err(CaError::ZeroTtl)));
        assert!(matches!(ttl(Duration::MAX), Err(CaError::Crypto(_))));
        ttl(Duration::from_secs(1)).unwrap();
    }

    /// An issuer that signs with another key than its certificate has.
    fn spoilt(signatures: Signatures) -> Issuer {
        let issuer = issuer().verifying(signatures);
        let key = KeyPair::generate().unwrap();
        let der = issuer.certificate.der().clone();
        Issuer { signer: rcgen::Issuer::from_ca_cert_der(&der, key).unwrap(), ..issuer }
    }

    fn issue_once(issuer: &Issuer) -> Result<Issued, CaError> {
        let spki = KeyPair::generate().unwrap().subject_public_key_info();
        issuer.issue(&Attested::by_operator(web()), &spki, DAY, now())
    }

    #[test]
    fn the_first_leaf_of_an_issuer_is_always_verified() {
        for signatures in [Signatures::Every, Signatures::First] {
            let spoilt = spoilt(signatures);
            for _ in 0..2 {
                assert!(matches!(issue_once(&spoilt), Err(CaError::Lint(SvidError::BadSignature))), "{signatures:?}");
            }
        }
    }

    #[test]
    fn the_signature_of_a_later_leaf_is_verified_where_every_one_is() {
        let later = |signatures| Issuer { proven: AtomicBool::new(true), ..spoilt(signatures) };
        assert!(matches!(issue_once(&later(Signatures::Every)), Err(CaError::Lint(SvidError::BadSignature))));
        issue_once(&later(Signatures::First)).unwrap();
        let (id, ttl) = (id("spiffe://example.org/sekisho/ca"), DAY);
        assert!(later(Signatures::First).issue_own(&id, &[], ttl, now()).is_err());
    }

    #[test]
    fn a_later_leaf_is_read_back_all_the_same() {
        let good = issuer().verifying(Signatures::First);
        issue_once(&good).unwrap();
        let elsewhere = Issuer { name: vec![0x30, 0], ..good };
        assert!(matches!(issue_once(&elsewhere), Err(CaError::Lint(SvidError::UnknownIssuer))));
        // What is read must be what was asked for, whoever verified what.
        let (issued, _) = issuer().issue_with_new_key(&Attested::by_operator(web()), DAY, now()).unwrap();
        let validity = Validity { not_before: issued.svid.not_before(), not_after: issued.not_after };
        let spki = {
            let (_, leaf) = X509Certificate::from_der(&issued.leaf).unwrap();
            leaf.public_key().raw.to_vec()
        };
        lint(&issued.svid, &web(), &spki, validity).unwrap();
        let late = Validity { not_after: validity.not_after + DAY, ..validity };
        let wrong = [
            (lint(&issued.svid, &id("spiffe://example.org/other"), &spki, validity), "the name"),
            (lint(&issued.svid, &web(), b"another key", validity), "the public key"),
            (lint(&issued.svid, &web(), &spki, late), "the validity"),
        ];
        for (judged, what) in wrong {
            assert!(matches!(judged, Err(CaError::LintMismatch(mismatch)) if mismatch == what), "{what}");
        }
    }

    #[test]
    fn serial_numbers_do_not_repeat_for_one_key() {
        let issuer = issuer();
        let spki = KeyPair::generate().unwrap().subject_public_key_info();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..50 {
            let issued = issuer.issue(&Attested::by_operator(web()), &spki, DAY, now()).unwrap();
            assert!(seen.insert(issued.serial));
        }
    }
}

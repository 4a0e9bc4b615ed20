//! One root: a certificate with its key.
//!
//! In comes a trust domain to found one, or what the folder holds to open one; out come certificates of
//! intermediates, and nothing else is signed. Refused: a root whose key does not fit, whose own signature does
//! not hold, or whose certificate our own sidecars would not take into a bundle.

use std::time::{Duration, SystemTime};

use identity::{Bundle, PublicKey, TrustDomain};
use rcgen::{Certificate, CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::PrivatePkcs8KeyDer;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::error::CaError;
use crate::profile::{self, CaKind, Validity};
use crate::rotation::{NewRoot, RootId};
use crate::signature;

/// A root certificate, read and judged, without its key.
pub(crate) struct RootCertificate {
    pub(crate) id: RootId,
    pub(crate) pem: String,
    pub(crate) validity: Validity,
    der: Vec<u8>,
    spki: Vec<u8>,
}

impl RootCertificate {
    /// Reads a PEM file with one root. Dates are not judged.
    pub(crate) fn open(trust_domain: &TrustDomain, pem: String) -> Result<Self, CaError> {
        let bundle = Bundle::from_pem(trust_domain.clone(), pem.as_bytes()).map_err(CaError::Root)?;
        let [der] = bundle.roots() else {
            return Err(CaError::RootKeyMismatch);
        };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CaError::RootKeyMismatch)?;
        let spki = certificate.public_key().raw.to_vec();
        if certificate.subject() == certificate.issuer() {
            check_signature(der, &spki)?;
        }
        let validity = Validity {
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
        };
        Ok(Self { id: RootId::of_key(&spki), pem, validity, der: der.to_vec(), spki })
    }

    /// What the rotation wants to know of it.
    pub(crate) fn as_new(&self) -> NewRoot {
        NewRoot { id: self.id, not_after: self.validity.not_after }
    }
}

/// A root certificate with the key that belongs to it.
pub(crate) struct Root {
    pub(crate) certificate: RootCertificate,
    key: KeyPair,
}

impl Root {
    /// Makes a new one: P-256, valid from `now` for `lifetime`, unique subject.
    pub(crate) fn found(trust_domain: &TrustDomain, lifetime: Duration, now: SystemTime) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let validity = Validity::starting(now, lifetime)?;
        let pem = profile::signing(CaKind::Root, trust_domain, &key, validity)?.self_signed(&key)?.pem();
        Ok(Self { certificate: RootCertificate::open(trust_domain, pem)?, key })
    }

    /// Joins a certificate with its key, PKCS #8 DER.
    pub(crate) fn open(certificate: RootCertificate, key: Vec<u8>, was_sealed: bool) -> Result<Self, CaError> {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key)).map_err(|_| match was_sealed {
            // A wrong passphrase leaves valid padding once in 256 times; what comes out is no key then.
            true => CaError::PassphraseWrong,
            false => CaError::Crypto("root.key holds a key of an unknown kind".into()),
        })?;
        if certificate.spki != key.subject_public_key_info() {
            return Err(CaError::RootKeyMismatch);
        }
        Ok(Self { certificate, key })
    }

    /// The key as PKCS #8 DER, in the clear.
    pub(crate) fn key_der(&self) -> &[u8] {
        self.key.serialized_der()
    }

    /// Signs an intermediate and checks what was signed.
    pub(crate) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<Certificate, CaError> {
        let der = rustls_pki_types::CertificateDer::from(self.certificate.der.as_slice());
        let certificate = params.signed_by(key, &rcgen::Issuer::from_ca_cert_der(&der, &self.key)?)?;
        check_signature(certificate.der(), &self.certificate.spki)?;
        Ok(certificate)
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

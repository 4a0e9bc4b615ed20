//! Certificate signing requests, of which only the public key is taken.
//!
//! In come a PKCS #10 request (RFC 2986), PEM or DER, and the identity that was attested; out comes the public
//! key, its bytes unchanged. The name in the certificate comes from attestation, never from here; yet a request
//! that asks for another name, or for the rights of a CA, is refused rather than corrected: its sender expects
//! something it will not get. The checks are in the order of their cost: size, structure, key, signature.

use std::fmt;

use identity::{KeyError, PublicKey, SpiffeId};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer;

use crate::signature::ValidKey;

/// What is taken from a request, and what is not. Only [`parse_csr`] makes one, so its key is of an accepted kind, valid, and
/// in the hands of whoever made the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    spki: Vec<u8>,
    ignored: Ignored,
}

impl Requested {
    /// DER SubjectPublicKeyInfo, as it came.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// What the request held besides, and that goes nowhere.
    pub fn ignored(&self) -> &Ignored {
        &self.ignored
    }
}

/// What a request may hold without harm and without effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// 1 if it names a subject.
    pub subjects: u64,
    /// Alternative names; only the attested one may be among them.
    pub names: u64,
    /// Other extensions.
    pub extensions: u64,
    /// Attributes that ask for no extension, such as a challenge password.
    pub attributes: u64,
}

/// Checks a request made for `id` and takes its public key.
///
/// The subject is not looked at: it goes nowhere. Alternative names must be absent or exactly `id`.
pub fn parse_csr(csr: &[u8], id: &SpiffeId) -> Result<Requested, CsrError> {
    if csr.len() > MAX_CSR {
        return Err(CsrError::TooLarge);
    }
    let der = decode(csr)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let spki = request.certification_request_info.subject_pki.raw;
    let key = PublicKey::from_spki(spki).map_err(CsrError::Key)?;
    let ignored = check_attributes(&request, id)?;
    let key = ValidKey::parse(&key, request.signature_algorithm.algorithm.as_bytes()).ok_or(CsrError::InvalidKey)?;
    check_possession(&request, &key)?;
    Ok(Requested { spki: spki.to_vec(), ignored })
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsrError {
    /// More than 16 KiB.
    TooLarge,
    /// Not a PKCS #10 request.
    Malformed,
    /// The public key is not acceptable.
    Key(KeyError),
    /// The public key is well-formed but no valid key of its kind, such as a point off its curve.
    InvalidKey,
    /// The signature does not prove possession of the key.
    Signature,
    /// It asks for another URI than the attested name.
    OtherName(String),
    /// It asks for a name of another kind: DNS, an address, mail.
    ExtraName(String),
    /// It asks for the rights of a CA.
    CaRights,
    /// It asks for an extension that is critical and unknown.
    CriticalExtension,
}

impl CsrError {
    /// A short label for metrics and log lines, from a fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "csr_too_large",
            Self::Malformed => "csr_malformed",
            Self::Key(error) => error.reason(),
            Self::InvalidKey => "key_invalid",
            Self::Signature => "csr_signature",
            Self::OtherName(_) => "csr_other_name",
            Self::ExtraName(_) => "csr_extra_name",
            Self::CaRights => "csr_ca_rights",
            Self::CriticalExtension => "csr_critical_extension",
        }
    }
}

impl fmt::Display for CsrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the request is larger than {MAX_CSR} bytes"),
            Self::Malformed => f.write_str("the request is not well-formed PKCS #10 (RFC 2986 §4)"),
            Self::Key(error) => write!(f, "the public key of the request {error}"),
            Self::InvalidKey => f.write_str("the public key of the request is not a valid key of its kind"),
            Self::Signature => {
                f.write_str("the signature of the request does not verify with its own key (RFC 2986 §3)")
            }
            Self::OtherName(name) | Self::ExtraName(name) => {
                write!(f, "the request asks for the name {name:?}; leave names out, they come from attestation")
            }
            Self::CaRights => f.write_str("the request asks for the rights of a CA"),
            Self::CriticalExtension => f.write_str("the request asks for a critical extension that is not known here"),
        }
    }
}

impl std::error::Error for CsrError {}

/// DER from either form. PEM must be one section and nothing else of its kind.
fn decode(csr: &[u8]) -> Result<Vec<u8>, CsrError> {
    if csr.first() == Some(&0x30) {
        return Ok(csr.to_vec());
    }
    let mut sections = pem::parse_many(csr).map_err(|_| CsrError::Malformed)?;
    match (sections.pop(), sections.is_empty()) {
        (Some(section), true) if matches!(section.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => {
            Ok(section.into_contents())
        }
        _ => Err(CsrError::Malformed),
    }
}

fn check_attributes(request: &X509CertificationRequest<'_>, id: &SpiffeId) -> Result<Ignored, CsrError> {
    let has_subject = request.certification_request_info.subject.iter_rdn().next().is_some();
    let mut ignored = Ignored { subjects: u64::from(has_subject), ..Ignored::default() };
    for attribute in request.certification_request_info.iter_attributes() {
        if attribute.oid.as_bytes() != EXTENSION_REQUEST {
            // A challenge password and the like ask for nothing that could end up in a certificate.
            ignored.attributes += 1;
            continue;
        }
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            return Err(CsrError::Malformed);
        };
        for extension in &requested.extensions {
            check_extension(extension, id)?;
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(_) => ignored.names += 1,
                _ => ignored.extensions += 1,
            }
        }
    }
    Ok(ignored)
}

fn check_extension(extension: &X509Extension<'_>, id: &SpiffeId) -> Result<(), CsrError> {
    match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => Err(CsrError::CaRights),
        ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => Err(CsrError::CaRights),
        ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_) | ParsedExtension::ExtendedKeyUsage(_) => {
            Ok(())
        }
        ParsedExtension::SubjectAlternativeName(names) => names.general_names.iter().try_for_each(|name| match name {
            GeneralName::URI(uri) if *uri == id.as_str() => Ok(()),
            GeneralName::URI(uri) => Err(CsrError::OtherName((*uri).to_owned())),
            other => Err(CsrError::ExtraName(other.to_string())),
        }),
        ParsedExtension::ParseError { .. } => Err(CsrError::Malformed),
        _ if extension.critical => Err(CsrError::CriticalExtension),
        // Not copied, so harmless; OpenSSL adds a subject key identifier of its own accord.
        _ => Ok(()),
    }
}

/// Proof of possession: the request is signed by the key it is for.
fn check_possession(request: &X509CertificationRequest<'_>, key: &ValidKey) -> Result<(), CsrError> {
    let holds = request.signature_value.unused_bits == 0
        && key.verifies(request.certification_request_info.raw, &request.signature_value.data);
    if holds { Ok(()) } else { Err(CsrError::Signature) }
}

/// Real requests are below 2 KiB; with RSA-8192 they stay below 4.
const MAX_CSR: usize = 16 << 10;

/// 1.2.840.113549.1.9.14 (RFC 2985 §5.4.2).
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    };

    const ID: &str = "spiffe://example.org/ns/shop/sa/web";

    fn id() -> SpiffeId {
        SpiffeId::parse(ID).unwrap()
    }

    fn request(spoil: impl FnOnce(&mut CertificateParams)) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        spoil(&mut params);
        let request = params.serialize_request(&key).unwrap();
        (request.der().to_vec(), key)
    }

    fn judge(spoil: impl FnOnce(&mut CertificateParams)) -> &'static str {
        match parse_csr(&request(spoil).0, &id()) {
            Ok(_) => "accepted",
            Err(error) => error.reason(),
        }
    }

    /// Istio's agent names an organization without a letter in it and, as RFC 5280 §4.2.1.6 has it for such a subject, marks the
    /// alternative name as critical.
    #[test]
    fn a_request_as_istios_agent_makes_it_is_accepted() {
        let (request, _) = request(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "");
            let mut name = san_of(ID);
            name.set_criticality(true);
            params.custom_extensions.push(name);
        });
        let ignored = parse_csr(&request, &id()).unwrap().ignored;
        assert_eq!((ignored.subjects, ignored.names), (1, 1));
    }

    /// `subjectAltName` of one URI (RFC 5280 §4.2.1.6).
    fn san_of(uri: &str) -> CustomExtension {
        let length = |more: usize| u8::try_from(uri.len() + more).unwrap();
        let der = [&[0x30, length(2), 0x86, length(0)], uri.as_bytes()].concat();
        CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
    }

    #[test]
    fn what_goes_nowhere_is_counted() {
        let (plain, _) = request(|params| params.distinguished_name = rcgen::DistinguishedName::new());
        assert_eq!(parse_csr(&plain, &id()).unwrap().ignored, Ignored::default());
        let (full, _) = request(|params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
            params.subject_alt_names = vec![uri(ID)];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        });
        let expected = Ignored { subjects: 1, names: 1, extensions: 1, attributes: 0 };
        assert_eq!(parse_csr(&full, &id()).unwrap().ignored, expected);
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn the_public_key_is_taken_verbatim() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let request = CertificateParams::default().serialize_request(&key).unwrap();
            let spki = key.subject_public_key_info();
            assert_eq!(parse_csr(request.der(), &id()).unwrap().spki, spki);
            assert_eq!(parse_csr(request.pem().unwrap().as_bytes(), &id()).unwrap().spki, spki);
        }
    }

    #[test]
    fn names_are_absent_or_the_attested_one() {
        assert_eq!(judge(|_| {}), "accepted");
        assert_eq!(judge(|p| p.subject_alt_names = vec![uri(ID)]), "accepted");
        let other = "spiffe://example.org/ns/shop/sa/db";
        assert_eq!(judge(|p| p.subject_alt_names = vec![uri(other)]), "csr_other_name");
        assert_eq!(judge(|p| p.subject_alt_names = vec![uri(ID), uri(other)]), "csr_other_name");
        assert_eq!(
            judge(|p| {
                let dns = SanType::DnsName("web.shop.svc".try_into().unwrap());
                p.subject_alt_names = vec![uri(ID), dns];
            }),
            "csr_extra_name"
        );
    }

    #[test]
    fn the_rights_of_a_ca_are_refused() {
        assert_eq!(judge(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "csr_ca_rights");
        assert_eq!(judge(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]), "csr_ca_rights");
        assert_eq!(judge(|p| p.is_ca = IsCa::ExplicitNoCa), "accepted");
        assert_eq!(judge(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]), "accepted");
    }

    #[test]
    fn unknown_extensions_are_refused_when_critical() {
        let unknown = |critical| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            extension.set_criticality(critical);
            judge(|p| p.custom_extensions = vec![extension])
        };
        assert_eq!(unknown(true), "csr_critical_extension");
        assert_eq!(unknown(false), "accepted");
    }

    #[test]
    fn a_bad_signature_is_refused() {
        let (mut der, _) = request(|_| {});
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(parse_csr(&der, &id()), Err(CsrError::Signature));
    }

    #[test]
    fn the_signature_of_another_key_is_refused() {
        let (der, key) = request(|_| {});
        let spki = key.subject_public_key_info();
        let other = KeyPair::generate().unwrap().subject_public_key_info();
        let at = der.windows(spki.len()).position(|window| window == spki).unwrap();
        let mut forged = der;
        forged[at..at + other.len()].copy_from_slice(&other);
        assert_eq!(parse_csr(&forged, &id()), Err(CsrError::Signature));
    }

    #[test]
    fn a_point_off_its_curve_is_refused() {
        let (mut der, key) = request(|_| {});
        let spki = key.subject_public_key_info();
        let at = der.windows(spki.len()).position(|window| window == spki).unwrap();
        der[at + spki.len() - 1] ^= 1;
        assert_eq!(parse_csr(&der, &id()), Err(CsrError::InvalidKey));
    }

    /// One DER element.
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        match content.len() {
            0..0x80 => [&[tag, length[1]], content].concat(),
            0x80..0x100 => [&[tag, 0x81, length[1]], content].concat(),
            _ => [&[tag, 0x82, length[0], length[1]], content].concat(),
        }
    }

    /// A request for this key, signed by nobody: what is wrong with the key is said before.
    fn request_for(algorithm: &[&[u8]], key: &[u8]) -> &'static str {
        let algorithm = element(0x30, &algorithm.concat());
        let spki = element(0x30, &[algorithm, element(0x03, &[&[0], key].concat())].concat());
        let info = element(0x30, &[element(0x02, &[0]), element(0x30, &[]), spki, element(0xa0, &[])].concat());
        let ecdsa_sha256 = element(0x30, &element(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
        let der = element(0x30, &[info, ecdsa_sha256, element(0x03, &[0, 1, 2, 3])].concat());
        parse_csr(&der, &id()).unwrap_err().reason()
    }

    #[test]
    fn every_weak_key_is_refused_for_its_own_reason() {
        let rsa = |bits: usize, exponent: &[u8]| {
            let modulus = element(0x02, &[&[0][..], &[0xc1; 8192]].concat()[..=bits / 8]);
            let key = element(0x30, &[modulus, element(0x02, exponent)].concat());
            let algorithm = element(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
            request_for(&[&algorithm, &[0x05, 0]], &key)
        };
        let f4 = &[1, 0, 1];
        assert_eq!(rsa(2048, f4), "csr_signature"); // the frame itself is a request like any other
        assert_eq!(rsa(512, f4), "key_rsa_small");
        assert_eq!(rsa(1024, f4), "key_rsa_small");
        assert_eq!(rsa(2040, f4), "key_rsa_small");
        assert_eq!(rsa(8200, f4), "key_rsa_large");
        assert_eq!(rsa(2048, &[1]), "key_rsa_exponent");
        assert_eq!(rsa(2048, &[2]), "key_rsa_exponent");
        assert_eq!(rsa(2048, &[0x7f; 5]), "key_rsa_exponent_long");
        let curve = |curve: &[u8], length: usize| {
            let algorithm = element(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]);
            request_for(&[&algorithm, &element(0x06, curve)], &[&[4][..], &vec![1; length]].concat())
        };
        assert_eq!(curve(&[0x2b, 0x81, 0x04, 0x00, 0x21], 56), "key_curve"); // P-224
        assert_eq!(curve(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 63), "key_point");
        assert_eq!(curve(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 64), "key_invalid");
        assert_eq!(request_for(&[&element(0x06, &[0x2b, 0x65, 0x6e])], &[1; 32]), "key_kind"); // X25519
    }

    #[test]
    fn size_and_structure_come_first() {
        assert_eq!(parse_csr(&vec![0x30; 100_000], &id()), Err(CsrError::TooLarge));
        assert_eq!(parse_csr(b"", &id()), Err(CsrError::Malformed));
        assert_eq!(parse_csr(b"junk", &id()), Err(CsrError::Malformed));
        let (der, _) = request(|_| {});
        for end in 0..der.len() {
            assert!(parse_csr(&der[..end], &id()).is_err());
        }
        let trailing = [&der[..], &[0]].concat();
        assert_eq!(parse_csr(&trailing, &id()), Err(CsrError::Malformed));
        let text = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der.clone()));
        assert_eq!(parse_csr(text.repeat(2).as_bytes(), &id()), Err(CsrError::Malformed));
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", der));
        assert_eq!(parse_csr(text.as_bytes(), &id()), Err(CsrError::Malformed));
    }

    #[test]
    fn a_flipped_bit_anywhere_never_passes() {
        let (der, key) = request(|p| p.subject_alt_names = vec![uri(ID)]);
        for i in 0..der.len() {
            let mut bytes = der.clone();
            bytes[i] ^= 1;
            if let Ok(spki) = parse_csr(&bytes, &id()) {
                // Only the encoding of the signature's length octets could still read as the same.
                assert_eq!(spki.spki, key.subject_public_key_info(), "octet {i}");
            }
        }
    }
}

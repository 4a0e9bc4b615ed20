//! The facts of one leaf certificate, available only when it keeps the X.509-SVID profile.
//!
//! In comes the DER of a leaf; out comes an [`Svid`]. Nothing is said about trust here: that the chain leads to
//! a root of the right bundle is the business of [`crate::verify`]. Refused is every deviation from the profile
//! that independent SPIFFE implementations refuse, and a few that they let pass (a key usage that is not
//! critical, half of the extended key usages): a certificate that only some readers accept is a fault that
//! shows up at the worst time.

use std::time::SystemTime;

use aws_lc_rs::digest;
use x509_parser::prelude::X509Certificate;

use crate::der::{self, Reader};
use crate::error::SvidError;
use crate::id::SpiffeId;
use crate::key::PublicKey;
use crate::subject;
use crate::x509::{
    self, AlternativeNames, BASIC_CONSTRAINTS, CLIENT_AUTH, CRL_SIGN, DIGITAL_SIGNATURE, EXT_KEY_USAGE, KEY_CERT_SIGN,
    KEY_USAGE, SERVER_AUTH,
};

/// One leaf X.509-SVID whose profile has been checked.
#[derive(Clone, Debug)]
pub struct Svid {
    id: SpiffeId,
    hash: [u8; 32],
    spki: [u8; 32],
    subject: String,
    dns_names: Vec<String>,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Svid {
    /// Reads a leaf and checks its profile: X509-SVID §2 (one URI name), §4 (constraints and usages), §5.2
    /// (leaf validation), and the algorithm floor. The validity period is read, not judged.
    pub fn from_leaf(der: &[u8]) -> Result<Self, SvidError> {
        Self::of(&x509::parse(der)?, der)
    }

    /// The same, for a leaf that must name this issuer: `issuer` is the DER of a certificate's subject, which a path needs octet for
    /// octet or in an equal form (RFC 5280 §6.1.3 (a)(4)); here it is octet for octet. No signature is looked at.
    pub fn from_leaf_of(der: &[u8], issuer: &[u8]) -> Result<Self, SvidError> {
        let certificate = x509::parse(der)?;
        if certificate.issuer().as_raw() != issuer {
            return Err(SvidError::UnknownIssuer);
        }
        Self::of(&certificate, der)
    }

    fn of(certificate: &X509Certificate<'_>, der: &[u8]) -> Result<Self, SvidError> {
        let names = x509::alternative_names(certificate)?;
        let id = spiffe_id(&names)?;
        check_leaf_constraints(certificate)?;
        check_leaf_usages(certificate)?;
        if id.path().is_empty() {
            return Err(SvidError::EmptyPath);
        }
        if certificate.subject().iter_rdn().next().is_none() && !names.critical {
            return Err(SvidError::SanNotCritical);
        }
        PublicKey::from_spki(certificate.public_key().raw).map_err(SvidError::WeakKey)?;
        check_signature_algorithm(certificate)?;
        Ok(Self {
            id,
            hash: sha256(der),
            spki: sha256(certificate.public_key().raw),
            subject: subject::rfc2253(certificate.subject()),
            dns_names: names.dns,
            serial: hex_serial(certificate.raw_serial()),
            not_before: x509::time(certificate.validity().not_before.timestamp()),
            not_after: x509::time(certificate.validity().not_after.timestamp()),
        })
    }

    /// The [`hash`](Self::hash) of a leaf that has not been read.
    pub fn hash_of(der: &[u8]) -> [u8; 32] {
        sha256(der)
    }

    /// The SPIFFE ID; its path is not empty.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// SHA-256 of the leaf's DER, the `Hash` of `x-forwarded-client-cert`.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo (RFC 7469 §2.4): the same key, whichever certificate it stands in.
    pub fn key_sha256(&self) -> &[u8; 32] {
        &self.spki
    }

    /// The subject in RFC 2253 form with its escapes, ready for a quoted value; `""` when empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The DNS names, as written, of letters, digits, `-`, `_`, `.` and `*` only. They identify nobody.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The serial number in lower-case hex, without leading zero octets.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The first second of validity.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last second of validity, inclusive (RFC 5280 §4.1.2.5).
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

fn spiffe_id(names: &AlternativeNames) -> Result<SpiffeId, SvidError> {
    match names.uris.as_slice() {
        [] => Err(SvidError::NoUriSan),
        [uri] => SpiffeId::parse(uri).map_err(SvidError::NotSpiffe),
        _ => Err(SvidError::SeveralUriSans),
    }
}

fn check_leaf_constraints(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let extension = x509::extension(certificate, BASIC_CONSTRAINTS).ok_or(SvidError::BasicConstraints("are absent"))?;
    let content = der::whole(der::SEQUENCE, extension.value).ok_or(NOT_EMPTY)?;
    match Reader::new(content).next() {
        None if content.is_empty() => Ok(()),
        Some((der::BOOLEAN, [0xff])) => Err(SvidError::IsCa),
        // An explicit FALSE is not DER, and a path length without a CA has no meaning.
        _ => Err(NOT_EMPTY),
    }
}

fn check_leaf_usages(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let usage = x509::extension(certificate, KEY_USAGE).ok_or(SvidError::KeyUsage("is absent"))?;
    let bits = x509::key_usage(usage).ok_or(SvidError::KeyUsage("is malformed"))?;
    if bits & KEY_CERT_SIGN != 0 {
        return Err(SvidError::KeyUsage("allows signing certificates"));
    }
    if bits & CRL_SIGN != 0 {
        return Err(SvidError::KeyUsage("allows signing revocation lists"));
    }
    if bits & DIGITAL_SIGNATURE == 0 {
        return Err(SvidError::KeyUsage("lacks digitalSignature"));
    }
    if !usage.critical {
        return Err(SvidError::KeyUsage("is not critical"));
    }
    let Some(purposes) = x509::extension(certificate, EXT_KEY_USAGE) else {
        return Ok(());
    };
    let mut purposes = Reader::new(der::whole(der::SEQUENCE, purposes.value).ok_or(SvidError::ExtKeyUsage)?);
    let (mut client, mut server) = (false, false);
    while !purposes.is_empty() {
        let purpose = purposes.expect(der::OID).ok_or(SvidError::ExtKeyUsage)?;
        client |= purpose == CLIENT_AUTH;
        server |= purpose == SERVER_AUTH;
    }
    if client && server { Ok(()) } else { Err(SvidError::ExtKeyUsage) }
}

fn check_signature_algorithm(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let oid = certificate.signature_algorithm.algorithm.as_bytes();
    if SIGNATURE_ALGORITHMS.contains(&oid) { Ok(()) } else { Err(SvidError::WeakSignature) }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn hex_serial(serial: &[u8]) -> String {
    let magnitude = serial.strip_prefix(&[0]).unwrap_or(serial);
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    magnitude.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

const NOT_EMPTY: SvidError = SvidError::BasicConstraints("are not an empty sequence");

/// ECDSA, RSA PKCS #1 and RSA-PSS with SHA-2, and Ed25519.
const SIGNATURE_ALGORITHMS: &[&[u8]] = &[
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d],
    &[0x2b, 0x65, 0x70],
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::*;
    use rcgen::KeyPair;

    const ID: &str = "spiffe://example.org/ns/shop/sa/web";

    /// The reason for which a spoilt leaf is refused, or "accepted".
    fn judge(spoil: impl FnOnce(Spec) -> Spec) -> &'static str {
        let key = KeyPair::generate().unwrap();
        let ca = Ca::root("root");
        let der = ca.issue(spoil(Spec::leaf(ID, &key)));
        match Svid::from_leaf(&der) {
            Ok(_) => "accepted",
            Err(error) => error.reason(),
        }
    }

    fn judge_uri(text: &str) -> &'static str {
        judge(|leaf| leaf.names(&[uri(text)]))
    }

    #[test]
    fn a_flawless_leaf_shows_its_facts() {
        let key = KeyPair::generate().unwrap();
        let ca = Ca::root("root");
        let mut spec =
            Spec::leaf(ID, &key).names(&[dns(b"web.shop.svc"), uri(ID), dns(b"*.web"), element(0x87, &[127, 0, 0, 1])]);
        spec.serial = vec![0x00, 0xab, 0x0c];
        spec.subject = common_name("web;x");
        let der = ca.issue(spec);
        let svid = Svid::from_leaf(&der).unwrap();
        assert_eq!(svid.id().as_str(), ID);
        assert_eq!(svid.subject(), "CN=web\\;x");
        assert_eq!(svid.dns_names(), ["web.shop.svc", "*.web"]);
        assert_eq!(svid.serial(), "ab0c");
        assert_eq!(svid.not_before(), at(NOW - HOUR));
        assert_eq!(svid.not_after(), at(NOW + HOUR));
        assert_eq!(*svid.hash(), sha256(&der));
    }

    #[test]
    fn a_leaf_of_another_issuer_is_told_apart_by_the_name() {
        let root = Ca::root("root");
        let (leaf, _) = root.leaf("spiffe://example.org/ns/shop/sa/web");
        let certificate = x509::parse(&root.der).unwrap();
        assert!(Svid::from_leaf_of(&leaf, certificate.subject().as_raw()).is_ok());
        let other = Ca::root("other");
        let certificate = x509::parse(&other.der).unwrap();
        for name in [certificate.subject().as_raw(), b""] {
            assert_eq!(Svid::from_leaf_of(&leaf, name).unwrap_err(), SvidError::UnknownIssuer);
        }
    }

    #[test]
    fn one_uri_name_no_more_and_no_less() {
        let other = "spiffe://example.org/ns/shop/sa/db";
        assert_eq!(judge(|leaf| leaf.names(&[uri(ID), uri(other)])), "two_uri_sans");
        assert_eq!(judge(|leaf| leaf.names(&[uri(ID), uri(ID)])), "two_uri_sans");
        assert_eq!(judge(|leaf| leaf.names(&[uri(ID), uri("https://x/"), uri(other)])), "two_uri_sans");
        assert_eq!(judge(|leaf| leaf.names(&[uri(ID), element(0x86, &[0xff])])), "two_uri_sans");
        assert_eq!(judge(|leaf| leaf.names(&[dns(ID.as_bytes())])), "dns_name");
        assert_eq!(judge(|leaf| leaf.names(&[dns(b"web.shop.svc")])), "no_uri_san");
        assert_eq!(judge(|leaf| leaf.without(SAN)), "no_uri_san");
    }

    #[test]
    fn the_uri_must_be_a_spiffe_id_with_a_path() {
        for (text, reason) in [
            ("spiffe://example.org", "id_without_path"),
            ("spiffe://example.org/", "id_trailing_slash"),
            ("spiffe://example.org/a/", "id_trailing_slash"),
            ("spiffe://example.org//a", "id_empty_segment"),
            ("spiffe://example.org/a/../b", "id_dot_segment"),
            ("spiffe://example.org/./a", "id_dot_segment"),
            ("spiffe://example.org/a%2Fb", "id_percent_encoding"),
            ("spiffe://example%2eorg/a", "id_percent_encoding"),
            ("spiffe://Example.org/a", "id_trust_domain_upper_case"),
            ("SPIFFE://example.org/a", "id_scheme"),
            ("spiffe://example.org/a?q", "id_query"),
            ("spiffe://example.org/a#f", "id_fragment"),
            ("spiffe://example.org:443/a", "id_port"),
            ("spiffe://user@example.org/a", "id_user_info"),
            ("spiffe://example.org/a:b", "id_path_character"),
            ("spiffe://example.org/ä", "id_path_character"),
            ("spiffe://example.org/a\0.evil", "id_path_character"),
            ("https://example.org/a", "id_scheme"),
        ] {
            assert_eq!(judge_uri(text), reason, "{text}");
        }
        assert_eq!(judge_uri(&format!("spiffe://{}/a", "d".repeat(256))), "id_trust_domain_too_long");
        assert_eq!(judge_uri(&format!("spiffe://d/{}", "a".repeat(2038))), "id_too_long");
        assert_eq!(judge_uri(&format!("spiffe://d/{}", "a".repeat(5000))), "id_too_long");
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        assert_eq!(judge(|leaf| leaf.names(&[element(0x86, b"spiffe://example.org/\xff")])), "id_path_character");
    }

    #[test]
    fn dns_names_cannot_carry_header_syntax() {
        for name in [&b"a;URI=spiffe://example.org/admin"[..], b"a,b", b"a\0b", b"a b", b"", b"\xc3\xa4", b"a\r\nx: y"]
        {
            assert_eq!(judge(|leaf| leaf.names(&[uri(ID), dns(name)])), "dns_name");
        }
    }

    #[test]
    fn basic_constraints_are_an_empty_sequence() {
        let set = |value: Vec<u8>| judge(|leaf| leaf.set(BASIC_CONSTRAINTS, true, value));
        assert_eq!(judge(|leaf| leaf.without(BASIC_CONSTRAINTS)), "basic_constraints");
        assert_eq!(set(sequence(&[element(0x01, &[0x00])])), "basic_constraints");
        assert_eq!(set(sequence(&[element(0x02, &[0x00])])), "basic_constraints");
        assert_eq!(set(sequence(&[element(0x01, &[0xff])])), "leaf_is_ca");
        assert_eq!(set(vec![0x30, 0x00, 0x00]), "not_x509");
    }

    #[test]
    fn key_usage_is_that_of_a_leaf() {
        let set = |critical, bits: &[u8]| {
            let value = element(0x03, bits);
            judge(|leaf| leaf.set(KEY_USAGE, critical, value))
        };
        assert_eq!(set(true, &[7, 0x80]), "accepted");
        // digitalSignature with keyEncipherment, as istiod writes it.
        assert_eq!(set(true, &[5, 0xa0]), "accepted");
        assert_eq!(judge(|leaf| leaf.without(KEY_USAGE)), "key_usage");
        assert_eq!(set(false, &[7, 0x80]), "key_usage");
        assert_eq!(set(true, &[2, 0x84]), "key_usage");
        assert_eq!(set(true, &[1, 0x82]), "key_usage");
        assert_eq!(set(true, &[5, 0x20]), "key_usage");
        assert_eq!(set(true, &[0]), "key_usage");
        assert_eq!(set(true, &[9, 0x80]), "key_usage");
    }

    #[test]
    fn extended_key_usage_is_a_pair_or_absent() {
        let set = |purposes: &[&[u8]]| {
            let purposes: Vec<_> = purposes.iter().map(|oid| element(0x06, oid)).collect();
            judge(|leaf| leaf.set(EXT_KEY_USAGE, false, sequence(&purposes)))
        };
        assert_eq!(judge(|leaf| leaf.without(EXT_KEY_USAGE)), "accepted");
        assert_eq!(set(&[CLIENT_AUTH, SERVER_AUTH]), "accepted");
        assert_eq!(set(&[SERVER_AUTH]), "ext_key_usage");
        assert_eq!(set(&[CLIENT_AUTH]), "ext_key_usage");
        assert_eq!(set(&[]), "ext_key_usage");
    }

    #[test]
    fn an_empty_subject_needs_critical_names() {
        assert_eq!(
            judge(|mut leaf| {
                leaf.get(SAN).critical = false;
                leaf
            }),
            "san_not_critical"
        );
        assert_eq!(
            judge(|mut leaf| {
                leaf.get(SAN).critical = false;
                leaf.subject = common_name("web");
                leaf
            }),
            "accepted"
        );
    }

    #[test]
    fn serial_numbers_are_positive_and_short() {
        let set = |serial: &[u8]| {
            judge(|mut leaf| {
                leaf.serial = serial.to_vec();
                leaf
            })
        };
        assert_eq!(set(&[0x7f; 20]), "accepted");
        assert_eq!(set(&[0]), "serial");
        assert_eq!(set(&[0x80, 0x01]), "serial");
        assert_eq!(set(&[0x00, 0x01]), "serial");
        assert_eq!(set(&[0x01; 21]), "serial");
    }

    #[test]
    fn structure_is_strict() {
        assert_eq!(
            judge(|mut leaf| {
                let twice = leaf.get(KEY_USAGE).clone();
                leaf.extensions.push(twice);
                leaf
            }),
            "duplicate_extension"
        );
        assert_eq!(judge(|leaf| leaf.set(&[0x2a, 0x03, 0x04], true, vec![0x05, 0x00])), "critical_extension");
        assert_eq!(judge(|leaf| leaf.set(&[0x2a, 0x03, 0x04], false, vec![0x05, 0x00])), "accepted");
        assert_eq!(
            judge(|mut leaf| {
                leaf.version = 1;
                leaf
            }),
            "not_x509"
        );
        assert_eq!(judge(|leaf| leaf.set(&[0x2a, 0x03, 0x04], false, vec![0; x509::MAX_CERTIFICATE])), "not_x509");
    }

    #[test]
    fn bytes_that_are_not_one_der_certificate_are_refused() {
        let (der, _) = Ca::root("root").leaf(ID);
        let reason = |bytes: &[u8]| Svid::from_leaf(bytes).unwrap_err().reason();
        assert_eq!(reason(&[&der[..], &[0]].concat()), "not_x509");
        // The outer length in three octets where two are enough.
        let long = [&[0x30, 0x83, 0x00], &der[2..]].concat();
        assert_eq!(reason(&long), "not_x509");
        let indefinite = [&[0x30, 0x80], &der[4..], &[0, 0]].concat();
        assert_eq!(reason(&indefinite), "not_x509");
        assert_eq!(reason(&[]), "not_x509");
        for end in 0..der.len() {
            assert_eq!(reason(&der[..end]), "not_x509");
        }
    }

    #[test]
    fn weak_algorithms_are_refused() {
        assert_eq!(
            judge(|mut leaf| {
                leaf.algorithm = ECDSA_SHA1.to_vec();
                leaf
            }),
            "weak_signature"
        );
        let modulus = [vec![0], vec![0xff; 128]].concat();
        let key = sequence(&[element(0x02, &modulus), element(0x02, &[1, 0, 1])]);
        let rsa = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
        let spki =
            sequence(&[sequence(&[element(0x06, rsa), vec![0x05, 0x00]]), element(0x03, &[vec![0], key].concat())]);
        assert_eq!(
            judge(|mut leaf| {
                leaf.spki = spki;
                leaf
            }),
            "weak_key"
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_never_panics() {
        let (der, _) = Ca::root("root").leaf(ID);
        for i in 0..der.len() {
            for bit in [0, 3, 7] {
                let mut bytes = der.to_vec();
                bytes[i] ^= 1 << bit;
                let _ = Svid::from_leaf(&bytes);
            }
        }
    }

    #[test]
    fn certificates_of_rcgen_as_the_ca_writes_them_are_accepted() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![rcgen::SanType::URI(ID.try_into().unwrap())];
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap();
        let error = Svid::from_leaf(der.der());
        assert!(error.is_ok(), "{error:?}");
    }
}

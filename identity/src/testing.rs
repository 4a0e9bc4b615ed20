//! Certificates for the tests of this crate, good and bad.
//!
//! A certificate is written here octet by octet and signed with a real key, since no library writes the faults
//! that matter. A [`Spec`] begins as a flawless leaf or CA; a test spoils one thing in it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::CertificateDer;

use crate::bundle::Bundle;
use crate::id::TrustDomain;

pub(crate) use crate::bundle::NAME_CONSTRAINTS;
pub(crate) use crate::x509::{BASIC_CONSTRAINTS, CLIENT_AUTH, EXT_KEY_USAGE, KEY_USAGE, SERVER_AUTH};

/// The time at which all flawless certificates are valid: 2027-01-15T08:00:00Z.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const HOUR: i64 = 3600;

pub(crate) fn now() -> SystemTime {
    at(NOW)
}

pub(crate) fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64)
}

/// A certificate to be written.
#[derive(Clone)]
pub(crate) struct Spec {
    /// 2 means version 3.
    pub(crate) version: u8,
    pub(crate) serial: Vec<u8>,
    /// Content octets of the signature algorithm's object identifier.
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
}

#[derive(Clone)]
pub(crate) struct Extension {
    pub(crate) oid: Vec<u8>,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

impl Spec {
    /// The flawless leaf of one SPIFFE ID and one public key.
    pub(crate) fn leaf(uri: &str, key: &KeyPair) -> Self {
        Self {
            version: 2,
            serial: vec![0x5a, 0x01, 0x02, 0x03],
            algorithm: ECDSA_SHA256.to_vec(),
            issuer: Vec::new(),
            not_before: NOW - HOUR,
            not_after: NOW + HOUR,
            subject: sequence(&[]),
            spki: key.subject_public_key_info(),
            extensions: vec![
                extension(SAN, true, sequence(&[element(0x86, uri.as_bytes())])),
                extension(BASIC_CONSTRAINTS, true, sequence(&[])),
                extension(KEY_USAGE, true, vec![0x03, 0x02, 0x07, 0x80]),
                extension(EXT_KEY_USAGE, false, sequence(&[element(0x06, SERVER_AUTH), element(0x06, CLIENT_AUTH)])),
            ],
        }
    }

    /// A flawless CA of that common name, without path length.
    pub(crate) fn ca(name: &str, key: &KeyPair) -> Self {
        let mut spec = Self::leaf("unused", key);
        spec.subject = common_name(name);
        spec.not_before = NOW - 24 * HOUR;
        spec.not_after = NOW + 24 * HOUR;
        spec.extensions = vec![
            extension(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0xff])])),
            extension(KEY_USAGE, true, vec![0x03, 0x02, 0x01, 0x06]),
        ];
        spec
    }

    /// The alternative names are exactly these elements.
    pub(crate) fn names(mut self, names: &[Vec<u8>]) -> Self {
        self.get(SAN).value = sequence(names);
        self
    }

    pub(crate) fn get(&mut self, oid: &[u8]) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.oid == oid).unwrap()
    }

    pub(crate) fn set(mut self, oid: &[u8], critical: bool, value: Vec<u8>) -> Self {
        self = self.without(oid);
        self.extensions.push(extension(oid, critical, value));
        self
    }

    pub(crate) fn without(mut self, oid: &[u8]) -> Self {
        self.extensions.retain(|extension| extension.oid != oid);
        self
    }

    pub(crate) fn sign(&self, key: &KeyPair) -> CertificateDer<'static> {
        let algorithm = sequence(&[element(0x06, &self.algorithm)]);
        let extensions: Vec<_> = self.extensions.iter().map(Extension::der).collect();
        let tbs = sequence(&[
            element(0xa0, &element(0x02, &[self.version])),
            element(0x02, &self.serial),
            algorithm.clone(),
            self.issuer.clone(),
            sequence(&[utc_time(self.not_before), utc_time(self.not_after)]),
            self.subject.clone(),
            self.spki.clone(),
            element(0xa3, &sequence(&extensions)),
        ]);
        let signature = [vec![0], key.sign(&tbs).unwrap()].concat();
        sequence(&[tbs, algorithm, element(0x03, &signature)]).into()
    }
}

impl Extension {
    fn der(&self) -> Vec<u8> {
        let critical = if self.critical { element(0x01, &[0xff]) } else { Vec::new() };
        sequence(&[element(0x06, &self.oid), critical, element(0x04, &self.value)])
    }
}

/// A CA with its key.
pub(crate) struct Ca {
    pub(crate) key: KeyPair,
    pub(crate) name: Vec<u8>,
    pub(crate) der: CertificateDer<'static>,
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(crate) fn root_with(name: &str, spoil: impl FnOnce(&mut Spec)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut spec = Spec::ca(name, &key);
        spec.issuer = spec.subject.clone();
        spoil(&mut spec);
        Self { name: spec.subject.clone(), der: spec.sign(&key), key }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, |_| {})
    }

    pub(crate) fn intermediate_with(&self, name: &str, spoil: impl FnOnce(&mut Spec)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut spec = Spec::ca(name, &key);
        spoil(&mut spec);
        Self { der: self.issue(spec.clone()), name: spec.subject, key }
    }

    pub(crate) fn issue(&self, mut spec: Spec) -> CertificateDer<'static> {
        spec.issuer = self.name.clone();
        spec.sign(&self.key)
    }

    /// A flawless leaf with a key of its own.
    pub(crate) fn leaf(&self, uri: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (self.issue(Spec::leaf(uri, &key)), key)
    }

    pub(crate) fn bundle(&self, trust_domain: &str) -> Bundle {
        let trust_domain = TrustDomain::parse(trust_domain).unwrap();
        Bundle::from_pem(trust_domain, pem(std::slice::from_ref(&self.der)).as_bytes()).unwrap()
    }
}

pub(crate) fn pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| section("CERTIFICATE", der)).collect()
}

/// One PEM section.
pub(crate) fn section(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let mut octets = [0u8; 4];
        octets[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(octets);
        for i in 0..4 {
            text.push(if i <= chunk.len() { char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63]) } else { '=' });
        }
    }
    let lines: Vec<_> = text.as_bytes().chunks(64).map(<[u8]>::to_vec).collect();
    let body = String::from_utf8(lines.join(&b'\n')).unwrap();
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: Vec<u8>) -> Extension {
    Extension { oid: oid.to_vec(), critical, value }
}

pub(crate) fn uri(text: &str) -> Vec<u8> {
    element(0x86, text.as_bytes())
}

pub(crate) fn dns(text: &[u8]) -> Vec<u8> {
    element(0x82, text)
}

pub(crate) fn common_name(text: &str) -> Vec<u8> {
    let attribute = sequence(&[element(0x06, &[0x55, 0x04, 0x03]), element(0x0c, text.as_bytes())]);
    sequence(&[element(0x31, &attribute)])
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..0x80 => out.push(n as u8),
        n @ 0x80..0x100 => out.extend([0x81, n as u8]),
        n @ 0x100..0x1_0000 => out.extend([0x82, (n >> 8) as u8, n as u8]),
        n => out.extend([0x83, (n >> 16) as u8, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
    out
}

fn utc_time(seconds: i64) -> Vec<u8> {
    let t = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let text = format!(
        "{:02}{:02}{:02}{:02}{:02}{:02}Z",
        t.year() % 100,
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    );
    element(0x17, text.as_bytes())
}

pub(crate) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
pub(crate) const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
pub(crate) const SAN: &[u8] = &[0x55, 0x1d, 0x11];

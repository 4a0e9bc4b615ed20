//! Certificates written octet by octet, for the faults that no library and no CA would write.
//!
//! A [`Spec`] begins as a flawless leaf or CA, valid now; a test spoils one thing in it, and an [`Authority`] signs it
//! whatever it says. [`Papers`] are the chain and the key that somebody shows. openssl makes and uses only the keys and
//! signatures that are too weak for the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PublicKeyData, SigningKey as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::child::run;
use crate::pki::Cert;
use crate::tools;

/// A certificate to be written. Object identifiers are their content octets.
#[derive(Clone, Debug)]
pub struct Spec {
    /// 2 means version 3; 0 leaves the field out, as version 1 must.
    pub version: u8,
    /// Content octets of the number.
    pub serial: Vec<u8>,
    /// What the signed part says it is signed with.
    pub algorithm: Vec<u8>,
    /// What the unsigned part says.
    pub outer_algorithm: Vec<u8>,
    /// A DER name; empty until an authority writes its own.
    pub issuer: Vec<u8>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970, inclusive.
    pub not_after: i64,
    /// A DER name.
    pub subject: Vec<u8>,
    /// The DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// In this order.
    pub extensions: Vec<Extension>,
}

/// One extension.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Content octets of its identifier.
    pub oid: Vec<u8>,
    /// Whether a reader must understand it.
    pub critical: bool,
    /// What the octet string holds.
    pub value: Vec<u8>,
}

impl Spec {
    /// The flawless leaf of one SPIFFE ID and one public key, from an hour ago to an hour from now.
    #[must_use]
    pub fn leaf(id: &str, spki: Vec<u8>) -> Self {
        let usages = [oid(SERVER_AUTH), oid(CLIENT_AUTH)];
        Self {
            version: 2,
            serial: vec![0x5a, 0x01, 0x02, 0x03],
            algorithm: ECDSA_SHA256.to_vec(),
            outer_algorithm: ECDSA_SHA256.to_vec(),
            issuer: Vec::new(),
            not_before: now() - HOUR,
            not_after: now() + HOUR,
            subject: sequence(&[]),
            spki,
            extensions: vec![
                extension(SAN, true, sequence(&[uri(id)])),
                extension(BASIC_CONSTRAINTS, true, sequence(&[])),
                extension(KEY_USAGE, true, vec![0x03, 0x02, 0x07, 0x80]),
                extension(EXT_KEY_USAGE, false, sequence(&usages)),
            ],
        }
    }

    /// A flawless CA of that common name, without path length.
    #[must_use]
    pub fn ca(name: &str, spki: Vec<u8>) -> Self {
        let mut spec = Self::leaf("unused", spki);
        spec.subject = common_name(name);
        (spec.not_before, spec.not_after) = (now() - 24 * HOUR, now() + 24 * HOUR);
        spec.extensions = vec![
            extension(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0xff])])),
            extension(KEY_USAGE, true, vec![0x03, 0x02, 0x01, 0x06]),
        ];
        spec
    }

    /// The alternative names are exactly these elements.
    #[must_use]
    pub fn names(self, names: &[Vec<u8>]) -> Self {
        self.set(SAN, true, sequence(names))
    }

    /// With this extension, and no other of its kind.
    #[must_use]
    pub fn set(self, oid: &[u8], critical: bool, value: Vec<u8>) -> Self {
        self.without(oid).and(oid, critical, value)
    }

    /// With one more extension.
    #[must_use]
    pub fn and(mut self, oid: &[u8], critical: bool, value: Vec<u8>) -> Self {
        self.extensions.push(extension(oid, critical, value));
        self
    }

    /// Without this extension.
    #[must_use]
    pub fn without(mut self, oid: &[u8]) -> Self {
        self.extensions.retain(|extension| extension.oid != oid);
        self
    }

    /// Changed in any other way.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The DER, signed by whatever `sign` does with the part that is signed.
    #[must_use]
    pub fn sign(&self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let extensions: Vec<_> = self.extensions.iter().map(Extension::der).collect();
        let tbs = sequence(&[
            if self.version == 0 { Vec::new() } else { element(0xa0, &element(0x02, &[self.version])) },
            element(0x02, &self.serial),
            sequence(&[oid(&self.algorithm)]),
            self.issuer.clone(),
            sequence(&[utc_time(self.not_before), utc_time(self.not_after)]),
            self.subject.clone(),
            self.spki.clone(),
            if extensions.is_empty() { Vec::new() } else { element(0xa3, &sequence(&extensions)) },
        ]);
        let signature = [vec![0], sign(&tbs)].concat();
        sequence(&[tbs, sequence(&[oid(&self.outer_algorithm)]), element(0x03, &signature)])
    }
}

impl Extension {
    fn der(&self) -> Vec<u8> {
        let critical = if self.critical { element(0x01, &[0xff]) } else { Vec::new() };
        sequence(&[oid(&self.oid), critical, element(0x04, &self.value)])
    }
}

/// A CA, or whoever plays one, with its P-256 key.
#[derive(Debug)]
pub struct Authority {
    key: KeyPair,
    /// Its DER name.
    pub name: Vec<u8>,
    /// Its certificate.
    pub der: Vec<u8>,
}

impl Authority {
    /// A flawless root.
    #[must_use]
    pub fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let spec = Spec::ca(name, key.subject_public_key_info()).with(|spec| spec.issuer = spec.subject.clone());
        Self { name: spec.subject.clone(), der: spec.sign(|tbs| key.sign(tbs).unwrap()), key }
    }

    /// A CA, or something like one, under this one.
    #[must_use]
    pub fn below(&self, name: &str, spoil: impl FnOnce(Spec) -> Spec) -> Self {
        let key = KeyPair::generate().unwrap();
        let spec = spoil(Spec::ca(name, key.subject_public_key_info()));
        Self { name: spec.subject.clone(), der: self.issue(spec), key }
    }

    /// Signs, whatever it says.
    #[must_use]
    pub fn issue(&self, spec: Spec) -> Vec<u8> {
        spec.with(|spec| spec.issuer = self.name.clone()).sign(|tbs| self.key.sign(tbs).unwrap())
    }

    /// Signs with ECDSA over SHA-1, by openssl.
    #[must_use]
    pub fn issue_sha1(&self, dir: &Path, spec: Spec) -> Vec<u8> {
        let key = dir.join("sha1.key");
        std::fs::write(&key, self.key.serialize_pem()).unwrap();
        let spec = spec.with(|spec| {
            spec.issuer = self.name.clone();
            spec.algorithm = ECDSA_SHA1.to_vec();
            spec.outer_algorithm = ECDSA_SHA1.to_vec();
        });
        spec.sign(|tbs| openssl_sign(&key, "-sha1", &[], tbs))
    }

    /// A leaf of a new P-256 key, and that key.
    #[must_use]
    pub fn leaf(&self, id: &str, spoil: impl FnOnce(Spec) -> Spec) -> Papers {
        let key = Key::p256();
        Papers { chain: vec![self.issue(spoil(Spec::leaf(id, key.spki.clone())))], key }
    }

    /// This authority's own certificate and key, as somebody's papers.
    #[must_use]
    pub fn itself(&self) -> Papers {
        Papers { chain: vec![self.der.clone()], key: Key::of(&self.key) }
    }
}

/// A private key that can sign handshakes.
#[derive(Clone, Debug)]
pub struct Key {
    /// The DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    signer: Arc<dyn SigningKey>,
    pem: String,
}

impl Key {
    /// A new one on P-256.
    #[must_use]
    pub fn p256() -> Self {
        Self::of(&KeyPair::generate().unwrap())
    }

    /// A new one on P-384.
    #[must_use]
    pub fn p384() -> Self {
        Self::of(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())
    }

    /// A new one on P-521.
    #[must_use]
    pub fn p521() -> Self {
        Self::of(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap())
    }

    /// A new one of Ed25519.
    #[must_use]
    pub fn ed25519() -> Self {
        Self::of(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
    }

    fn of(pair: &KeyPair) -> Self {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let signer = aws_lc_rs::sign::any_supported_type(&der).unwrap();
        Self { spki: pair.subject_public_key_info(), signer, pem: pair.serialize_pem() }
    }

    /// One that openssl makes and uses: RSA of any size, or a curve that TLS libraries no longer take. `options` are those of
    /// `genpkey`; the handshake is signed as `scheme`.
    #[must_use]
    pub fn by_openssl(dir: &Path, name: &str, options: &[&str], scheme: SignatureScheme) -> Self {
        let file = dir.join(format!("{name}.key"));
        run(tools::system("openssl", "openssl").arg("genpkey").args(options).arg("-out").arg(&file));
        let public = run(tools::system("openssl", "openssl").args(["pkey", "-pubout", "-in"]).arg(&file));
        let spki = pem::parse(public).unwrap().into_contents();
        let pem = std::fs::read_to_string(&file).unwrap();
        Self { spki, signer: Arc::new(OpensslKey { file, scheme }), pem }
    }
}

/// A chain, leaf first, and the key that is used with it.
#[derive(Clone, Debug)]
pub struct Papers {
    /// DER, or anything else.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's, usually.
    pub key: Key,
}

impl Papers {
    /// With these certificates behind the leaf.
    #[must_use]
    pub fn followed_by<'a>(mut self, more: impl IntoIterator<Item = &'a Authority>) -> Self {
        self.chain.extend(more.into_iter().map(|authority| authority.der.clone()));
        self
    }

    /// For a handshake: nobody checks that chain and key fit each other.
    #[must_use]
    pub fn certified(&self) -> Arc<CertifiedKey> {
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        Arc::new(CertifiedKey::new(chain, Arc::clone(&self.key.signer)))
    }

    /// Writes the files that a sidecar reads.
    pub fn write(&self, to: &Cert, roots: &[&Authority]) {
        std::fs::write(&to.chain, certificates(self.chain.iter())).unwrap();
        std::fs::write(&to.key, &self.key.pem).unwrap();
        std::fs::write(&to.bundle, certificates(roots.iter().map(|root| &root.der))).unwrap();
    }
}

#[derive(Debug, Clone)]
struct OpensslKey {
    file: PathBuf,
    scheme: SignatureScheme,
}

impl SigningKey for OpensslKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        match self.scheme {
            SignatureScheme::RSA_PSS_SHA256 => SignatureAlgorithm::RSA,
            _ => SignatureAlgorithm::ECDSA,
        }
    }
}

impl Signer for OpensslKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let pss: &[&str] = match self.scheme {
            SignatureScheme::RSA_PSS_SHA256 => &["rsa_padding_mode:pss", "rsa_pss_saltlen:32"],
            _ => &[],
        };
        Ok(openssl_sign(&self.file, "-sha256", pss, message))
    }
    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

fn openssl_sign(key: &Path, digest: &str, options: &[&str], message: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), message).unwrap();
    let mut openssl = tools::system("openssl", "openssl");
    openssl.args(["dgst", digest, "-sign"]).arg(key);
    for option in options {
        openssl.args(["-sigopt", option]);
    }
    let output = openssl.arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A URI name.
#[must_use]
pub fn uri(text: &str) -> Vec<u8> {
    element(0x86, text.as_bytes())
}

/// A DNS name.
#[must_use]
pub fn dns(text: &str) -> Vec<u8> {
    element(0x82, text.as_bytes())
}

/// A name of one common name.
#[must_use]
pub fn common_name(text: &str) -> Vec<u8> {
    let attribute = sequence(&[oid(&[0x55, 0x04, 0x03]), element(0x0c, text.as_bytes())]);
    sequence(&[element(0x31, &attribute)])
}

/// An object identifier of these content octets.
#[must_use]
pub fn oid(content: &[u8]) -> Vec<u8> {
    element(0x06, content)
}

/// A DER sequence.
#[must_use]
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// Any DER element.
#[must_use]
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let [.., c, b, a] = content.len().to_be_bytes();
    match content.len() {
        0..0x80 => out.push(a),
        0x80..0x100 => out.extend([0x81, a]),
        0x100..0x1_0000 => out.extend([0x82, b, a]),
        _ => out.extend([0x83, c, b, a]),
    }
    out.extend(content);
    out
}

fn extension(oid: &[u8], critical: bool, value: Vec<u8>) -> Extension {
    Extension { oid: oid.to_vec(), critical, value }
}

/// As PEM, one after the other.
pub fn certificates<'a>(ders: impl Iterator<Item = &'a Vec<u8>>) -> String {
    ders.map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_slice()))).collect()
}

/// RFC 5280 §4.1.2.5.1; years from 1950 to 2049.
fn utc_time(seconds: i64) -> Vec<u8> {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let (year, month) = (time.year() % 100, u8::from(time.month()));
    let (day, hour, minute, second) = (time.day(), time.hour(), time.minute(), time.second());
    element(0x17, format!("{year:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z").as_bytes())
}

/// Seconds.
pub const HOUR: i64 = 3600;

/// subjectAltName.
pub const SAN: &[u8] = &[0x55, 0x1d, 0x11];
/// basicConstraints.
pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// keyUsage.
pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// extKeyUsage.
pub const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// nameConstraints.
pub const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
/// id-kp-serverAuth.
pub const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// id-kp-clientAuth.
pub const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// id-kp-codeSigning.
pub const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// anyExtendedKeyUsage.
pub const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// An identifier nobody knows.
pub const UNKNOWN: &[u8] = &[0x2a, 0x03, 0x04];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// ecdsa-with-SHA384.
pub const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// What openssl makes of it.
    fn read(dir: &Scratch, der: &[u8]) -> String {
        let file = dir.write("read.der", der);
        run(tools::system("openssl", "openssl").args(["x509", "-inform", "der", "-noout", "-text", "-in"]).arg(file))
    }

    #[test]
    fn openssl_reads_what_was_written_and_finds_the_signatures_good() {
        let dir = Scratch::new();
        let root = Authority::root("root");
        let leaf = root.leaf("spiffe://example.org/a", |leaf| leaf);
        let text = read(&dir, &leaf.chain[0]);
        for part in ["URI:spiffe://example.org/a", "Issuer: CN = root", "Digital Signature", "CA:FALSE"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let sha1 = root.issue_sha1(dir.path(), Spec::leaf("spiffe://example.org/a", leaf.key.spki.clone()));
        assert!(read(&dir, &sha1).contains("ecdsa-with-SHA1"));
        let roots = dir.write("roots.pem", certificates([&root.der].into_iter()));
        for der in [&leaf.chain[0], &sha1] {
            let file = dir.write("leaf.pem", certificates([der].into_iter()));
            let mut openssl = tools::system("openssl", "openssl");
            let said = run(openssl.args(["verify", "-auth_level", "0", "-CAfile"]).arg(&roots).arg(file));
            assert!(said.contains(": OK"), "{said}");
        }
    }
}

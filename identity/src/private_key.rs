//! A private key in memory.
//!
//! In comes PKCS #8, or one of the older forms in PEM with the certificate that says of which kind the key is; kept is
//! PKCS #8 in DER, which is wiped when dropped and never shown. Whether it is the key of a certificate is the business of
//! [`Credentials`](crate::Credentials).

use std::fmt;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::credentials::{CredentialsError, read_key};
use crate::der::{self, Reader};
use crate::x509;

/// A private key, PKCS #8 in DER (RFC 5958), not encrypted.
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// Takes PKCS #8 DER as it is; whether it can be used shows when it is paired with a certificate.
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// Reads exactly one key from PEM: PKCS #8, SEC 1 or PKCS #1, not encrypted. The older forms do not say, or not always,
    /// of which kind they are; `leaf`, whose key it is, does.
    ///
    /// # Errors
    /// It is no PEM, there is no key or more than one, or `leaf` is no certificate.
    pub fn from_pem(pem: &[u8], leaf: &CertificateDer<'_>) -> Result<Self, CredentialsError> {
        let key = Zeroizing::new(read_key(pem)?);
        let older = match &*key {
            PrivateKeyDer::Pkcs8(key) => return Ok(Self::from_pkcs8(key.secret_pkcs8_der().to_vec())),
            PrivateKeyDer::Sec1(key) => key.secret_sec1_der(),
            PrivateKeyDer::Pkcs1(key) => key.secret_pkcs1_der(),
            _ => return Err(CredentialsError::Key("it is of an unknown form".to_owned())),
        };
        let certificate = x509::parse(leaf).map_err(CredentialsError::Certificate)?;
        wrap(certificate.public_key().raw, older)
            .map(Self)
            .ok_or_else(|| CredentialsError::Key("it does not fit the certificate's kind of key".to_owned()))
    }

    /// The key.
    pub fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    /// A copy, which rustls wipes once it has read it.
    pub(crate) fn for_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.to_vec().into())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// PKCS #8 around an older form: version 0, the algorithm of the public key, the key (RFC 5958 §2).
fn wrap(spki: &[u8], key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let algorithm = Reader::new(der::whole(der::SEQUENCE, spki)?).whole_element(der::SEQUENCE)?;
    let mut octets = Zeroizing::new(Vec::new());
    header(OCTET_STRING, key.len(), &mut octets)?;
    octets.extend_from_slice(key);
    let mut out = Zeroizing::new(Vec::new());
    header(der::SEQUENCE, VERSION_0.len() + algorithm.len() + octets.len(), &mut out)?;
    // Room for all of it at once: growing would leave parts of the key behind.
    out.reserve_exact(VERSION_0.len() + algorithm.len() + octets.len());
    out.extend_from_slice(VERSION_0);
    out.extend_from_slice(algorithm);
    out.extend_from_slice(&octets);
    Some(out)
}

/// Tag and length, with room for what follows (X.690 §8.1.3).
fn header(tag: u8, length: usize, out: &mut Vec<u8>) -> Option<()> {
    out.reserve_exact(length + 4);
    out.push(tag);
    let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
    match length {
        0..0x80 => out.push(low),
        0x80..0x100 => out.extend_from_slice(&[0x81, low]),
        _ => out.extend_from_slice(&[0x82, high, low]),
    }
    Some(())
}

const VERSION_0: &[u8] = &[0x02, 0x01, 0x00];
const OCTET_STRING: u8 = 0x04;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Credentials, SpiffeId};
    use rcgen::KeyPair;

    const ID: &str = "spiffe://example.org/ns/shop/sa/web";

    /// Wraps what PKCS #8 holds inside, given in PEM of `label`.
    fn through(key: &KeyPair, label: &str) {
        let root = Ca::root("root");
        let leaf = root.issue(Spec::leaf(ID, key));
        let mut fields = Reader::new(der::whole(der::SEQUENCE, key.serialized_der()).unwrap());
        fields.next().unwrap();
        fields.next().unwrap();
        let inner = section(label, fields.expect(OCTET_STRING).unwrap());
        let own = PrivateKey::from_pem(inner.as_bytes(), &leaf).unwrap();
        let id = SpiffeId::parse(ID).unwrap();
        Credentials::new(vec![leaf], &own, root.bundle("example.org"), &id, at(NOW)).unwrap();
    }

    #[test]
    fn older_forms_become_pkcs8() {
        through(&KeyPair::generate().unwrap(), "EC PRIVATE KEY");
        through(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(), "EC PRIVATE KEY");
        through(&KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(), "RSA PRIVATE KEY");
    }

    #[test]
    fn pkcs8_stays_as_it_is() {
        let key = KeyPair::generate().unwrap();
        let leaf = Ca::root("root").issue(Spec::leaf(ID, &key));
        let text = section("PRIVATE KEY", key.serialized_der());
        assert_eq!(PrivateKey::from_pem(text.as_bytes(), &leaf).unwrap().pkcs8(), key.serialized_der());
        assert_eq!(PrivateKey::from_pem((text.clone() + &text).as_bytes(), &leaf).unwrap_err().reason(), "not_one_key");
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", PrivateKey::from_pkcs8(vec![1, 2, 3])), "PrivateKey(..)");
    }
}

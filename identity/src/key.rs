//! Which public keys may carry an identity.
//!
//! In comes a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7); out comes yes, or what is wrong with it. Accepted are
//! P-256, P-384, P-521, Ed25519 and RSA of 2048 to 8192 bits. The upper bound is there because a verification
//! with a giant modulus is work that a peer could order for free.

use std::fmt;

use crate::der::{self, Reader};

/// A public key of an accepted kind and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey<'a> {
    kind: KeyKind,
    bits: &'a [u8],
}

/// The kinds of keys that may carry an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 to 8192 bits.
    Rsa,
}

impl<'a> PublicKey<'a> {
    /// Checks algorithm, parameters and size of a DER SubjectPublicKeyInfo.
    ///
    /// Whether a point lies on its curve is not checked here: every use of the key does that.
    pub fn from_spki(spki: &'a [u8]) -> Result<Self, KeyError> {
        parse(spki).ok_or(KeyError("key_malformed", "is not a well-formed SubjectPublicKeyInfo"))?
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The content of `subjectPublicKey`: a point, the 32 octets of Ed25519, or a DER RSAPublicKey.
    pub fn bits(&self) -> &'a [u8] {
        self.bits
    }
}

/// What is wrong with a public key. Displays as the end of a sentence that begins with "the public key".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError(&'static str, &'static str);

impl KeyError {
    /// A short label for metrics and log lines.
    pub fn reason(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

impl std::error::Error for KeyError {}

fn parse(spki: &[u8]) -> Option<Result<PublicKey<'_>, KeyError>> {
    let mut spki = Reader::new(der::whole(der::SEQUENCE, spki)?);
    let mut algorithm = Reader::new(spki.expect(der::SEQUENCE)?);
    let (&unused, key) = spki.expect(der::BIT_STRING)?.split_first()?;
    if !spki.is_empty() || unused != 0 {
        return None;
    }
    let oid = algorithm.expect(der::OID)?;
    let parameters = match algorithm.is_empty() {
        true => None,
        false => Some(algorithm.next()?),
    };
    if !algorithm.is_empty() {
        return None;
    }
    let kind = match (oid, parameters) {
        (EC_PUBLIC_KEY, Some((der::OID, curve))) => elliptic(curve, key),
        (EC_PUBLIC_KEY, _) => Err(KeyError("key_curve_unnamed", "does not name its curve (RFC 5480 §2.1.1)")),
        (ED25519, None) if key.len() == 32 => Ok(KeyKind::Ed25519),
        (ED25519, _) => Err(KeyError("key_ed25519", "is a malformed Ed25519 key (RFC 8410 §3)")),
        (RSA_ENCRYPTION, Some((der::NULL, []))) => rsa(key)?,
        _ => Err(KeyError("key_kind", "is of a kind that is not accepted; use P-256, P-384, P-521, Ed25519 or RSA")),
    };
    Some(kind.map(|kind| PublicKey { kind, bits: key }))
}

fn elliptic(curve: &[u8], point: &[u8]) -> Result<KeyKind, KeyError> {
    let (kind, coordinate) = match curve {
        P256 => (KeyKind::P256, 32),
        P384 => (KeyKind::P384, 48),
        P521 => (KeyKind::P521, 66),
        _ => {
            return Err(KeyError("key_curve", "is on a curve that is not accepted; use P-256, P-384 or P-521"));
        }
    };
    // Uncompressed only (SEC 1 §2.3.3): a second form of one key would be a second name for it.
    if point.first() == Some(&0x04) && point.len() == 2 * coordinate + 1 {
        Ok(kind)
    } else {
        Err(KeyError("key_point", "is not an uncompressed point of its curve"))
    }
}

fn rsa(key: &[u8]) -> Option<Result<KeyKind, KeyError>> {
    let mut key = Reader::new(der::whole(der::SEQUENCE, key)?);
    let modulus = positive(key.expect(der::INTEGER)?)?;
    let exponent = positive(key.expect(der::INTEGER)?)?;
    if !key.is_empty() {
        return None;
    }
    let bits = bit_length(modulus);
    Some(if bits < 2048 {
        Err(KeyError("key_rsa_small", "is RSA of fewer than 2048 bits"))
    } else if bits > 8192 {
        Err(KeyError("key_rsa_large", "is RSA of more than 8192 bits"))
    } else if modulus.last().is_none_or(|low| low & 1 == 0) {
        Err(KeyError("key_rsa_modulus", "is RSA with an even modulus"))
    } else if exponent == [1] || exponent.last().is_none_or(|low| low & 1 == 0) {
        Err(KeyError("key_rsa_exponent", "is RSA with exponent 1 or an even exponent"))
    } else if bit_length(exponent) > 33 {
        // The bound of aws-lc: a long exponent makes each verification as slow as a signature.
        Err(KeyError("key_rsa_exponent_long", "is RSA with an exponent of more than 33 bits"))
    } else {
        Ok(KeyKind::Rsa)
    })
}

/// The magnitude of a positive INTEGER in its shortest form.
fn positive(content: &[u8]) -> Option<&[u8]> {
    match content {
        [0, rest @ ..] if rest.first().is_some_and(|high| high & 0x80 != 0) => Some(rest),
        [high, ..] if *high != 0 && high & 0x80 == 0 => Some(content),
        _ => None,
    }
}

fn bit_length(magnitude: &[u8]) -> usize {
    let leading = magnitude.first().map_or(8, |high| high.leading_zeros());
    (magnitude.len() * 8).saturating_sub(leading as usize)
}

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_rcgen_are_accepted() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            use rcgen::PublicKeyData;
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            PublicKey::from_spki(&key.subject_public_key_info()).unwrap();
        }
    }

    #[test]
    fn rsa_is_held_to_size_and_exponent() {
        PublicKey::from_spki(&rsa_spki(2048, &[1, 0, 1])).unwrap();
        PublicKey::from_spki(&rsa_spki(8192, &[3])).unwrap();
        for (spki, word) in [
            (rsa_spki(512, &[1, 0, 1]), "2048"),
            (rsa_spki(1024, &[1, 0, 1]), "2048"),
            (rsa_spki(2040, &[1, 0, 1]), "2048"),
            (rsa_spki(16384, &[1, 0, 1]), "8192"),
            (rsa_spki(2048, &[1]), "exponent 1"),
            (rsa_spki(2048, &[4]), "even exponent"),
            (rsa_spki(2048, &[1, 0, 0, 0, 0, 0, 1]), "33 bits"),
        ] {
            let error = PublicKey::from_spki(&spki).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn other_curves_and_point_forms_are_refused() {
        let p224 = &[0x2b, 0x81, 0x04, 0x00, 0x21];
        let mut point = vec![4];
        point.extend([1; 56]);
        assert!(PublicKey::from_spki(&ec_spki(p224, &point)).is_err());
        let mut compressed = vec![2];
        compressed.extend([1; 32]);
        assert!(PublicKey::from_spki(&ec_spki(P256, &compressed)).is_err());
    }

    #[test]
    fn bytes_after_the_key_are_refused() {
        let mut spki = rsa_spki(2048, &[3]);
        spki.push(0);
        assert!(PublicKey::from_spki(&spki).is_err());
        assert!(PublicKey::from_spki(b"").is_err());
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            n @ 0..0x80 => out.push(n as u8),
            n @ 0x80..0x100 => out.extend([0x81, n as u8]),
            n => out.extend([0x82, (n >> 8) as u8, n as u8]),
        }
        out.extend(content);
        out
    }

    fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
        let bits = [&[0], key].concat();
        element(0x30, &[element(0x30, algorithm), element(0x03, &bits)].concat())
    }

    fn ec_spki(curve: &[u8], point: &[u8]) -> Vec<u8> {
        let algorithm = [element(0x06, EC_PUBLIC_KEY), element(0x06, curve)].concat();
        spki(&algorithm, point)
    }

    fn rsa_spki(bits: usize, exponent: &[u8]) -> Vec<u8> {
        let mut modulus = vec![0];
        modulus.extend(vec![0xff; bits / 8]);
        let key = element(0x30, &[element(0x02, &modulus), element(0x02, exponent)].concat());
        let algorithm = [element(0x06, RSA_ENCRYPTION), vec![0x05, 0x00]].concat();
        spki(&algorithm, &key)
    }
}

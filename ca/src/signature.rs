//! Checking a signature by a key of any accepted kind.
//!
//! In come a parsed public key, the signature algorithm's object identifier, a message and a signature; out
//! comes whether it holds, and before that whether the key is one at all. The algorithm is chosen by key *and* identifier: a
//! P-384 key with SHA-256 is what plain `openssl req` makes. SHA-1, MD5 and RSA-PSS are not accepted.

use aws_lc_rs::signature::{self as lc, ParsedPublicKey, VerificationAlgorithm};
use identity::{KeyKind, PublicKey};

/// Whether `signature` over `message` was made by `key` with the algorithm of that identifier (content octets).
pub(crate) fn verify(key: &PublicKey<'_>, oid: &[u8], message: &[u8], signature: &[u8]) -> bool {
    ValidKey::parse(key, oid).is_some_and(|key| key.verifies(message, signature))
}

/// Whether the key itself is valid: the point lies on its curve, the RSA numbers fit.
pub(crate) fn is_valid(key: &PublicKey<'_>) -> bool {
    ParsedPublicKey::new(usual(key.kind()), key.bits()).is_ok()
}

/// A key that is valid, ready to check one signature: reading a point and checking that it lies on its curve takes a while, so it is
/// done once for both questions.
pub(crate) struct ValidKey {
    key: ParsedPublicKey,
    /// The algorithm is one of this kind of key, and accepted.
    fits: bool,
}

impl ValidKey {
    /// `None`: the key is not valid. That is said of the key alone, whatever the algorithm of that identifier (content octets).
    pub(crate) fn parse(key: &PublicKey<'_>, oid: &[u8]) -> Option<Self> {
        let algorithm = algorithm(key.kind(), oid);
        let fits = algorithm.is_some();
        let key = ParsedPublicKey::new(algorithm.unwrap_or(usual(key.kind())), key.bits()).ok()?;
        Some(Self { key, fits })
    }

    /// Whether `signature` over `message` was made by this key with that algorithm.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.fits && self.key.verify_sig(message, signature).is_ok()
    }
}

fn usual(kind: KeyKind) -> &'static dyn VerificationAlgorithm {
    match kind {
        KeyKind::P256 => &lc::ECDSA_P256_SHA256_ASN1,
        KeyKind::P384 => &lc::ECDSA_P384_SHA384_ASN1,
        KeyKind::P521 => &lc::ECDSA_P521_SHA512_ASN1,
        KeyKind::Ed25519 => &lc::ED25519,
        KeyKind::Rsa => &lc::RSA_PKCS1_2048_8192_SHA256,
    }
}

fn algorithm(kind: KeyKind, oid: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (kind, oid) {
        (KeyKind::P256, ECDSA_SHA256) => &lc::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, ECDSA_SHA384) => &lc::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P256, ECDSA_SHA512) => &lc::ECDSA_P256_SHA512_ASN1,
        (KeyKind::P384, ECDSA_SHA256) => &lc::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, ECDSA_SHA384) => &lc::ECDSA_P384_SHA384_ASN1,
        (KeyKind::P384, ECDSA_SHA512) => &lc::ECDSA_P384_SHA512_ASN1,
        (KeyKind::P521, ECDSA_SHA256) => &lc::ECDSA_P521_SHA256_ASN1,
        (KeyKind::P521, ECDSA_SHA384) => &lc::ECDSA_P521_SHA384_ASN1,
        (KeyKind::P521, ECDSA_SHA512) => &lc::ECDSA_P521_SHA512_ASN1,
        (KeyKind::Ed25519, ED25519) => &lc::ED25519,
        (KeyKind::Rsa, RSA_SHA256) => &lc::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa, RSA_SHA384) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa, RSA_SHA512) => &lc::RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

// RFC 5758 §3.2, RFC 8410 §3, RFC 4055 §5.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PublicKeyData};

    #[test]
    fn a_point_off_its_curve_is_not_a_key() {
        let mut spki = KeyPair::generate().unwrap().subject_public_key_info();
        assert!(is_valid(&PublicKey::from_spki(&spki).unwrap()));
        *spki.last_mut().unwrap() ^= 1;
        assert!(!is_valid(&PublicKey::from_spki(&spki).unwrap()));
    }

    #[test]
    fn a_valid_key_verifies_nothing_by_a_foreign_algorithm() {
        let key = KeyPair::generate().unwrap();
        let spki = key.subject_public_key_info();
        let signature = rcgen::SigningKey::sign(&key, b"message").unwrap();
        let judge = |oid: &[u8]| {
            let key = ValidKey::parse(&PublicKey::from_spki(&spki).unwrap(), oid).unwrap();
            key.verifies(b"message", &signature)
        };
        assert!(judge(ECDSA_SHA256));
        for other in [ECDSA_SHA384, RSA_SHA256, ED25519, b"junk"] {
            assert!(!judge(other));
        }
    }

    #[test]
    fn algorithm_and_key_must_belong_together() {
        assert!(algorithm(KeyKind::P256, RSA_SHA256).is_none());
        assert!(algorithm(KeyKind::Rsa, ECDSA_SHA256).is_none());
        assert!(algorithm(KeyKind::Ed25519, ECDSA_SHA512).is_none());
        let ecdsa_sha1 = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
        assert!(algorithm(KeyKind::P256, ecdsa_sha1).is_none());
    }
}

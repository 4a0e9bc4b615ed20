//! The root key at rest, under a passphrase.
//!
//! In comes a PKCS #8 key and a passphrase; out comes PKCS #8 `EncryptedPrivateKeyInfo` (RFC 5958 §3) with PBES2
//! (RFC 8018 §6.2): PBKDF2-HMAC-SHA256, 600,000 rounds, AES-256-CBC. It is the form `openssl pkey` reads and
//! writes, so an operator can open, make or re-encrypt the file without us. CBC does not authenticate; that the
//! key is the right one is checked by the caller against the root certificate.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use x509_parser::asn1_rs::{Any, FromDer};

/// Encrypts a PKCS #8 key. `None` when the crypto library or its random source fails.
pub(crate) fn seal(pkcs8: &[u8], passphrase: &[u8]) -> Option<Vec<u8>> {
    let mut salt = [0; 16];
    let mut iv = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).ok()?;
    aws_lc_rs::rand::fill(&mut iv).ok()?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(derive(passphrase, &salt, ROUNDS)?).ok()?;
    let mut secret = pkcs8.to_vec();
    key.less_safe_encrypt(&mut secret, EncryptionContext::Iv128(FixedLength::from(&iv))).ok()?;
    Some(write(&salt, ROUNDS, &iv, &secret))
}

/// Decrypts a PKCS #8 key.
pub(crate) fn open(der: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, OpenError> {
    let sealed = read(der).ok_or(OpenError::Unsupported)?;
    if sealed.rounds > MAX_ROUNDS {
        return Err(OpenError::Unsupported);
    }
    let key = derive(passphrase, sealed.salt, sealed.rounds).ok_or(OpenError::Unsupported)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| OpenError::Unsupported)?;
    let mut secret = sealed.secret.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(sealed.iv));
    key.decrypt(&mut secret, context).map(|plain| plain.to_vec()).map_err(|_| OpenError::Wrong)
}

/// Why a sealed key did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Not PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC, or malformed.
    Unsupported,
    /// Another passphrase, or damaged bytes.
    Wrong,
}

struct Sealed<'a> {
    salt: &'a [u8],
    rounds: NonZeroU32,
    iv: &'a [u8; 16],
    secret: &'a [u8],
}

fn derive(passphrase: &[u8], salt: &[u8], rounds: NonZeroU32) -> Option<UnboundCipherKey> {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase, &mut key);
    UnboundCipherKey::new(&AES_256, &key).ok()
}

fn write(salt: &[u8], rounds: NonZeroU32, iv: &[u8], secret: &[u8]) -> Vec<u8> {
    let prf = sequence(&[element(OID, HMAC_SHA256), element(NULL, &[])]);
    let kdf = sequence(&[
        element(OID, PBKDF2),
        sequence(&[element(OCTET_STRING, salt), element(INTEGER, &integer(rounds)), prf]),
    ]);
    let cipher = sequence(&[element(OID, AES_256_CBC), element(OCTET_STRING, iv)]);
    let algorithm = sequence(&[element(OID, PBES2), sequence(&[kdf, cipher])]);
    sequence(&[algorithm, element(OCTET_STRING, secret)])
}

fn read(der: &[u8]) -> Option<Sealed<'_>> {
    let mut outer = Fields::whole(der)?;
    let mut algorithm = outer.sequence()?;
    let secret = outer.last(OCTET_STRING)?;
    algorithm.exactly(OID, PBES2)?;
    let mut schemes = algorithm.sequence()?;
    let (mut kdf, mut cipher) = (schemes.sequence()?, schemes.sequence()?);

    kdf.exactly(OID, PBKDF2)?;
    let mut parameters = kdf.sequence()?;
    let salt = parameters.next(OCTET_STRING)?;
    let rounds = parameters.next(INTEGER)?;
    // The key length may stand here; it adds nothing to what the cipher says.
    if parameters.peek()? == INTEGER && parameters.next(INTEGER)? != [32] {
        return None;
    }
    let mut prf = parameters.sequence()?;
    prf.exactly(OID, HMAC_SHA256)?;

    cipher.exactly(OID, AES_256_CBC)?;
    let iv = cipher.last(OCTET_STRING)?;
    Some(Sealed { salt, rounds: count(rounds)?, iv: iv.try_into().ok()?, secret })
}

/// The elements of one DER sequence, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn whole(der: &'a [u8]) -> Option<Self> {
        let mut fields = Self(der);
        let inner = fields.sequence()?;
        fields.0.is_empty().then_some(inner)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.peek()? != tag {
            return None;
        }
        let (rest, element) = Any::from_der(self.0).ok()?;
        self.0 = rest;
        Some(element.data)
    }

    fn last(&mut self, tag: u8) -> Option<&'a [u8]> {
        let content = self.next(tag)?;
        self.0.is_empty().then_some(content)
    }

    fn sequence(&mut self) -> Option<Self> {
        self.next(SEQUENCE).map(Self)
    }

    fn exactly(&mut self, tag: u8, content: &[u8]) -> Option<()> {
        (self.next(tag)? == content).then_some(())
    }
}

fn count(content: &[u8]) -> Option<NonZeroU32> {
    let positive = content.first().is_some_and(|high| high & 0x80 == 0);
    if !positive || content.len() > 4 {
        return None;
    }
    NonZeroU32::new(content.iter().fold(0, |sum, octet| (sum << 8) | u32::from(*octet)))
}

fn integer(value: NonZeroU32) -> Vec<u8> {
    let octets = value.get().to_be_bytes();
    let mut short: Vec<u8> = octets.into_iter().skip_while(|octet| *octet == 0).collect();
    if short.first().is_some_and(|high| high & 0x80 != 0) {
        short.insert(0, 0);
    }
    short
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let octets = length.iter().skip_while(|octet| **octet == 0);
    if content.len() < 0x80 {
        out.extend(length.last());
    } else {
        // A usize has at most 8 octets, so the count fits into the low bits.
        out.push(0x80 | octets.clone().count() as u8);
        out.extend(octets);
    }
    out.extend(content);
    out
}

/// OWASP's figure of 2023 for PBKDF2-HMAC-SHA256; a fraction of a second on one core.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");

/// Above this a file would only keep us busy.
const MAX_ROUNDS: NonZeroU32 = NonZeroU32::new(10_000_000).expect("not zero");

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

// RFC 8018 Appendix C and RFC 3565 §4.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_only() {
        let secret = b"a key of any length".as_slice();
        let sealed = seal(secret, b"correct horse").unwrap();
        assert_eq!(open(&sealed, b"correct horse").unwrap(), secret);
        // One passphrase in 256 leaves valid padding by chance; the bytes then differ.
        assert_ne!(open(&sealed, b"correct horses"), Ok(secret.to_vec()));
        assert!(!sealed.windows(secret.len()).any(|w| w == secret));
        assert_ne!(seal(secret, b"correct horse").unwrap(), sealed);
    }

    #[test]
    fn malformed_or_foreign_schemes_are_refused() {
        let rounds = NonZeroU32::new(1).unwrap();
        let good = write(&[1; 16], rounds, &[2; 16], &[3; 16]);
        assert!(read(&good).is_some());
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_none());
        }
        assert!(read(&[&good[..], &[0]].concat()).is_none());
        assert!(read(&write(&[1; 16], rounds, &[2; 15], &[3; 16])).is_none());
        let mut other_cipher = good.clone();
        let at = good.windows(9).position(|w| w == AES_256_CBC).unwrap();
        other_cipher[at + 8] = 0x02;
        assert_eq!(open(&other_cipher, b"x"), Err(OpenError::Unsupported));
    }

    #[test]
    fn absurd_round_counts_are_not_worked_off() {
        let rounds = NonZeroU32::new(u32::MAX >> 1).unwrap();
        let sealed = write(&[1; 16], rounds, &[2; 16], &[3; 16]);
        assert_eq!(open(&sealed, b"x"), Err(OpenError::Unsupported));
    }

    #[test]
    fn integers_are_shortest() {
        let of = |n| integer(NonZeroU32::new(n).unwrap());
        assert_eq!(of(1), [1]);
        assert_eq!(of(0x80), [0, 0x80]);
        assert_eq!(of(600_000), [0x09, 0x27, 0xc0]);
        assert_eq!(count(&of(600_000)).unwrap().get(), 600_000);
        assert_eq!(count(&[0x80]), None);
        assert_eq!(count(&[0]), None);
        assert_eq!(count(&[1, 0, 0, 0, 0]), None);
    }
}

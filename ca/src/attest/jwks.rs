//! The keys a cluster signs its tokens with.
//!
//! In comes a JWK Set (RFC 7517), from a file or from the API server that the operator named, never from a place
//! that a token named; out come keys ready to verify. Refused are sets that are too large, that name a key
//! twice, that hold a private or secret key, or in which a key of a kind we use is malformed or weak. Keys for
//! another purpose, of another kind or for another algorithm are left out (RFC 7517 §5): an issuer that begins
//! to publish a new kind must not take its old keys away. A rotation of keys is a new set in place of the old.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self as lc, ParsedPublicKey};
use identity::PublicKey;
use serde_json::{Map, Value};

use super::token::base64url;
use crate::json::{self, JsonFault};

/// The keys of one issuer. Holds at least one.
#[derive(Debug)]
pub struct Jwks {
    keys: Vec<Key>,
    left_out: usize,
}

/// An algorithm for which tokens are taken (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub(super) struct Key {
    id: String,
    /// DER SubjectPublicKeyInfo: the one spelling of the key.
    spki: Vec<u8>,
    /// One for each algorithm the key may be used with, so that no token can choose another.
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

impl Key {
    /// `None` when the key is not for this algorithm, else whether the signature holds.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<bool> {
        let (_, verifier) = self.verifiers.iter().find(|(own, _)| *own == algorithm)?;
        Some(verifier.verify_sig(message, signature).is_ok())
    }
}

impl Jwks {
    /// A set that is not known yet: no token verifies with it.
    pub fn unknown() -> Self {
        Self { keys: Vec::new(), left_out: 0 }
    }

    /// Reads a set of at most 64 KiB and 32 keys.
    pub fn parse(text: &[u8]) -> Result<Self, JwksError> {
        if text.len() > MAX_SET {
            return Err(JwksError::TooLarge);
        }
        let set = json::object(text).map_err(|fault| match fault {
            JsonFault::Duplicate => JwksError::DuplicateMember,
            JsonFault::Malformed => JwksError::Malformed,
        })?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or(JwksError::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys);
        }
        let mut keys: Vec<Key> = Vec::with_capacity(listed.len());
        for (index, jwk) in listed.iter().enumerate() {
            let fault = |fault| JwksError::Key { index, fault };
            let jwk = jwk.as_object().ok_or(fault(KeyFault::Malformed))?;
            let Some(key) = key(jwk).map_err(fault)? else { continue };
            if keys.iter().any(|other| other.id == key.id) {
                return Err(fault(KeyFault::DuplicateId));
            }
            if keys.iter().any(|other| other.spki == key.spki) {
                return Err(fault(KeyFault::DuplicateKey));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(JwksError::NoKey);
        }
        let left_out = listed.len() - keys.len();
        Ok(Self { keys, left_out })
    }

    /// The identifiers of the keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// How many keys were left out, being for something else than we can use.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(super) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Whether both sets hold the same key, or one name for two.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let meets = |key: &Key| other.keys.iter().any(|theirs| theirs.id == key.id || theirs.spki == key.spki);
        self.keys.iter().any(meets)
    }
}

/// What is wrong with a JWK Set. Displays as the end of a sentence that begins with "the JWK Set".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksError {
    /// More than 64 KiB.
    TooLarge,
    /// Not a JSON object with an array `keys`.
    Malformed,
    /// A member stands twice.
    DuplicateMember,
    /// More than 32 keys.
    TooManyKeys,
    /// No key that could verify a token.
    NoKey,
    /// One key is not acceptable.
    Key {
        /// Its place in the array, from 0.
        index: usize,
        /// What is wrong with it.
        fault: KeyFault,
    },
}

/// What is wrong with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// A member is missing or not what it should be.
    Malformed,
    /// It is a private or a secret key.
    Private,
    /// It has no `kid`, or a giant one.
    NoId,
    /// Another key has its `kid`.
    DuplicateId,
    /// It stands in the set under another `kid`.
    DuplicateKey,
    /// `alg` belongs to another kind of key.
    Algorithm,
    /// It is RSA below 2048 or above 8192 bits, off its curve, or otherwise no key to rely on.
    Weak,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "is larger than {MAX_SET} bytes"),
            Self::Malformed => f.write_str("is not a JSON object with an array `keys` (RFC 7517 §5)"),
            Self::DuplicateMember => f.write_str("names a member twice (RFC 7517 §4)"),
            Self::TooManyKeys => write!(f, "holds more than {MAX_KEYS} keys"),
            Self::NoKey => f.write_str("holds no key that could verify a token: RSA, P-256, P-384 or Ed25519"),
            Self::Key { index, fault } => write!(f, "holds a key, number {index} from 0, that {fault}"),
        }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "is not well-formed (RFC 7517 §4, RFC 7518 §6)",
            Self::Private => {
                "is private or secret; who published it must replace it, and only its public half belongs here (RFC 7517 §9.2)"
            }
            Self::NoId => "has no `kid` of at most 256 bytes (RFC 7517 §4.5)",
            Self::DuplicateId => "has the `kid` of another one (RFC 7517 §4.5)",
            Self::DuplicateKey => "stands in the set under another `kid`",
            Self::Algorithm => "has an `alg` of another kind of key (RFC 7517 §4.4)",
            Self::Weak => "is weak or no valid key: RSA must have 2048 to 8192 bits, a point must lie on its curve (RFC 8725 §3.4, §3.5)",
        })
    }
}

impl std::error::Error for JwksError {}

/// `None` for a key that is not for us.
fn key(jwk: &Map<String, Value>) -> Result<Option<Key>, KeyFault> {
    // Before anything is left out: a private key must be heard of whatever it is for.
    if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
        return Err(KeyFault::Private);
    }
    let kind = required(jwk, "kty")?;
    if !is_for_signatures(jwk)? {
        return Ok(None);
    }
    let algorithm = match optional(jwk, "alg")?.map(Algorithm::named) {
        None => None,
        Some(Some(algorithm)) => Some(algorithm),
        Some(None) => return Ok(None),
    };
    let curve = optional(jwk, "crv")?;
    let verifiers = match (kind, curve) {
        ("RSA", _) => rsa(jwk, algorithm)?,
        ("EC", Some("P-256")) => elliptic(jwk, algorithm, Algorithm::Es256, 32)?,
        ("EC", Some("P-384")) => elliptic(jwk, algorithm, Algorithm::Es384, 48)?,
        ("OKP", Some("Ed25519")) => edwards(jwk, algorithm)?,
        ("EC" | "OKP", None) => return Err(KeyFault::Malformed),
        _ => return Ok(None),
    };
    let (_, first) = verifiers.first().ok_or(KeyFault::Algorithm)?;
    let spki: PublicKeyX509Der<'_> = first.as_der().map_err(|_| KeyFault::Weak)?;
    let spki = spki.as_ref().to_vec();
    // The same floor as for the keys of certificates.
    PublicKey::from_spki(&spki).map_err(|_| KeyFault::Weak)?;
    let id = optional(jwk, "kid")?.filter(|id| !id.is_empty() && id.len() <= MAX_KEY_ID).ok_or(KeyFault::NoId)?;
    Ok(Some(Key { id: id.to_owned(), spki, verifiers }))
}

/// By `use` (RFC 7517 §4.2) and `key_ops` (§4.3), each of which may be absent.
fn is_for_signatures(jwk: &Map<String, Value>) -> Result<bool, KeyFault> {
    if optional(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Ok(false);
    }
    match jwk.get("key_ops") {
        None => Ok(true),
        Some(Value::Array(operations)) => Ok(operations.iter().any(|operation| operation == "verify")),
        Some(_) => Err(KeyFault::Malformed),
    }
}

type Verifiers = Vec<(Algorithm, ParsedPublicKey)>;

/// RFC 7518 §6.3.1.
fn rsa(jwk: &Map<String, Value>, algorithm: Option<Algorithm>) -> Result<Verifiers, KeyFault> {
    let (n, e) = (octets(jwk, "n")?, octets(jwk, "e")?);
    if n.len() > MAX_RSA_OCTETS || e.len() > MAX_EXPONENT_OCTETS {
        return Err(KeyFault::Weak);
    }
    let components = PublicKeyComponents { n: n.as_slice(), e: e.as_slice() };
    [
        (Algorithm::Rs256, &lc::RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Rs384, &lc::RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::Rs512, &lc::RSA_PKCS1_2048_8192_SHA512),
    ]
    .into_iter()
    .filter(|(own, _)| algorithm.is_none_or(|algorithm| algorithm == *own))
    .map(|(own, parameters)| Ok((own, components.to_parsed_public_key(parameters).map_err(|_| KeyFault::Weak)?)))
    .collect()
}

/// RFC 7518 §6.2.1: both coordinates in full length.
fn elliptic(
    jwk: &Map<String, Value>,
    algorithm: Option<Algorithm>,
    own: Algorithm,
    length: usize,
) -> Result<Verifiers, KeyFault> {
    let (x, y) = (octets(jwk, "x")?, octets(jwk, "y")?);
    if x.len() != length || y.len() != length {
        return Err(KeyFault::Malformed);
    }
    let point = [&[0x04][..], &x, &y].concat();
    let parameters = if own == Algorithm::Es256 { &lc::ECDSA_P256_SHA256_FIXED } else { &lc::ECDSA_P384_SHA384_FIXED };
    one(algorithm, own, ParsedPublicKey::new(parameters, point).map_err(|_| KeyFault::Weak)?)
}

/// RFC 8037 §2.
fn edwards(jwk: &Map<String, Value>, algorithm: Option<Algorithm>) -> Result<Verifiers, KeyFault> {
    let x = octets(jwk, "x")?;
    if x.len() != 32 {
        return Err(KeyFault::Malformed);
    }
    one(algorithm, Algorithm::EdDsa, ParsedPublicKey::new(&lc::ED25519, x).map_err(|_| KeyFault::Weak)?)
}

fn one(algorithm: Option<Algorithm>, own: Algorithm, verifier: ParsedPublicKey) -> Result<Verifiers, KeyFault> {
    if algorithm.is_some_and(|algorithm| algorithm != own) {
        return Err(KeyFault::Algorithm);
    }
    Ok(vec![(own, verifier)])
}

fn octets(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, KeyFault> {
    base64url(required(jwk, member)?).filter(|octets| !octets.is_empty()).ok_or(KeyFault::Malformed)
}

fn required<'a>(jwk: &'a Map<String, Value>, member: &str) -> Result<&'a str, KeyFault> {
    optional(jwk, member)?.ok_or(KeyFault::Malformed)
}

fn optional<'a>(jwk: &'a Map<String, Value>, member: &str) -> Result<Option<&'a str>, KeyFault> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyFault::Malformed),
    }
}

/// How often the keys of an issuer are read again because a token names an unknown one: a flood of invented
/// names makes one reading each interval, not one each token.
#[derive(Clone, Copy, Debug)]
pub struct Refetch {
    every: Duration,
    last: Option<SystemTime>,
}

impl Refetch {
    /// At most once in `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether to read the keys now; `true` counts as having done so.
    pub fn due(&mut self, now: SystemTime) -> bool {
        // A clock that was set back makes the question due: waiting for it to catch up could take for ever.
        let waits = self.last.is_some_and(|last| now.duration_since(last).is_ok_and(|since| since < self.every));
        if !waits {
            self.last = Some(now);
        }
        !waits
    }
}

/// RFC 7518 §6.2.2, §6.3.2, §6.4; RFC 8037 §2.
const PRIVATE: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// An API server publishes two or three keys of half a kilobyte.
const MAX_SET: usize = 64 << 10;
const MAX_KEYS: usize = 32;
pub(super) const MAX_KEY_ID: usize = 256;

/// 8192 bits. Checked before the number is worked with.
const MAX_RSA_OCTETS: usize = 1024;
const MAX_EXPONENT_OCTETS: usize = 5;

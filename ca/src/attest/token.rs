//! A signed token in its compact form (RFC 7515, RFC 7519), read strictly and verified offline.
//!
//! In comes text from an `authorization` header; out comes a header of three members, a claims object, and the
//! answer whether a given key signed them. Refused are all that RFC 8725 warns of: unsigned tokens, HMACs, keys
//! and addresses of keys in the header, unknown members, duplicate members. The verification is aws-lc-rs's; a
//! library for tokens would bring a second base64 and still leave every check of this file to us.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::jwks::{Algorithm, Jwks, MAX_KEY_ID};
use super::refusal::Refusal;
use crate::json::{self, JsonFault};

/// A token that has been read and not verified: nothing in it is true yet.
pub(super) struct Unverified<'a> {
    /// What is signed: header and claims with the dot between (RFC 7515 §5.1).
    signed: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    key_id: String,
    pub(super) claims: Map<String, Value>,
}

impl<'a> Unverified<'a> {
    /// Reads the form: size, parts, header, claims. The signature is not looked at.
    pub(super) fn read(compact: &'a str) -> Result<Self, Refusal> {
        if compact.len() > MAX_TOKEN {
            return Err(Refusal::TokenTooLarge);
        }
        let (signed, signature) = compact.rsplit_once('.').ok_or(Refusal::TokenParts)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::TokenParts)?;
        if claims.contains('.') {
            return Err(Refusal::TokenParts);
        }
        let (algorithm, key_id) = check_header(&object(header)?)?;
        Ok(Self { signed, signature, algorithm, key_id, claims: object(claims)? })
    }

    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Whether the key that the token names is in the set, is for the token's algorithm, and signed it.
    pub(super) fn verify(&self, keys: &Jwks) -> Result<(), Refusal> {
        let key = keys.key(&self.key_id).ok_or(Refusal::UnknownKey)?;
        let signature = base64url(self.signature).ok_or(Refusal::TokenEncoding)?;
        match key.verifies(self.algorithm, self.signed.as_bytes(), &signature) {
            None => Err(Refusal::AlgOfOtherKey),
            Some(false) => Err(Refusal::TokenSignature),
            Some(true) => Ok(()),
        }
    }
}

/// Octets from base64url without padding, without spaces, and with the unused bits zero: one spelling for each.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    let text = base64url(part).ok_or(Refusal::TokenEncoding)?;
    json::object(&text).map_err(|fault| match fault {
        JsonFault::Duplicate => Refusal::TokenDuplicate,
        JsonFault::Malformed => Refusal::TokenJson,
    })
}

fn check_header(header: &Map<String, Value>) -> Result<(Algorithm, String), Refusal> {
    for (member, refusal) in [
        ("jwk", Refusal::HeaderJwk),
        ("jku", Refusal::HeaderJku),
        ("x5u", Refusal::HeaderX5u),
        ("x5c", Refusal::HeaderX5c),
        ("crit", Refusal::HeaderCrit),
    ] {
        if header.contains_key(member) {
            return Err(refusal);
        }
    }
    if header.keys().any(|member| !matches!(member.as_str(), "alg" | "kid" | "typ")) {
        return Err(Refusal::HeaderUnknown);
    }
    if header.get("typ").is_some_and(|kind| kind != "JWT") {
        return Err(Refusal::TokenType);
    }
    let algorithm = match header.get("alg").map(Value::as_str) {
        None => return Err(Refusal::AlgMissing),
        Some(Some(name)) => algorithm(name)?,
        Some(None) => return Err(Refusal::AlgUnknown),
    };
    let key_id = header.get("kid").and_then(Value::as_str).filter(|id| !id.is_empty() && id.len() <= MAX_KEY_ID);
    Ok((algorithm, key_id.ok_or(Refusal::NoKeyId)?.to_owned()))
}

fn algorithm(name: &str) -> Result<Algorithm, Refusal> {
    match Algorithm::named(name) {
        Some(algorithm) => Ok(algorithm),
        None if name.eq_ignore_ascii_case("none") => Err(Refusal::AlgNone),
        None if name.starts_with("HS") => Err(Refusal::AlgSymmetric),
        None => Err(Refusal::AlgUnknown),
    }
}

/// In bytes. Tokens of pods are between 1 and 2 KiB.
pub const MAX_TOKEN: usize = 8 << 10;

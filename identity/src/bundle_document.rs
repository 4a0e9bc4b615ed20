//! A trust bundle as a document: the SPIFFE bundle format, a JWK Set.
//!
//! In come roots with their number, or a document of somebody else; out comes text, or roots with their number.
//! A document does not name its trust domain, so the reader says it. Refused are documents that two readers could
//! take differently: a key twice, an X.509 entry with `kid` or without exactly one certificate, a certificate that
//! is no root of the trust domain, members that contradict the certificate. Entries of other uses and kinds are
//! passed over, as the standard asks (SPIFFE Trust Domain and Bundle §4).

use std::fmt;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use crate::base64;
use crate::bundle::{Bundle, BundleError};
use crate::der::{self, Reader};
use crate::id::TrustDomain;
use crate::json;
use crate::key::{KeyKind, PublicKey};
use crate::x509;

/// A bundle with what the document says about it.
#[derive(Clone, Debug)]
pub struct BundleDocument {
    /// The roots; `None` when the document has none, which means that nobody is trusted any more.
    pub bundle: Option<Bundle>,
    /// `spiffe_sequence`: grows with every change of the content.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`: how often to look, in whole seconds.
    pub refresh_hint: Option<Duration>,
}

impl BundleDocument {
    /// The document as JSON.
    pub fn to_json(&self) -> String {
        let roots = self.bundle.iter().flat_map(|bundle| bundle.roots());
        let keys: Vec<Value> = roots.map(|root| Value::Object(jwk(root))).collect();
        let mut document = Map::new();
        document.insert("keys".into(), keys.into());
        if let Some(sequence) = self.sequence {
            document.insert("spiffe_sequence".into(), sequence.into());
        }
        if let Some(hint) = self.refresh_hint {
            document.insert("spiffe_refresh_hint".into(), hint.as_secs().into());
        }
        Value::Object(document).to_string()
    }

    /// Reads a document of `trust_domain`.
    pub fn from_json(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, DocumentError> {
        if text.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLarge);
        }
        let document = json::read(text).map_err(|error| DocumentError::Json(error.to_string()))?;
        let document = document.as_object().ok_or(DocumentError::NotAnObject)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(DocumentError::NoKeys)?;
        let mut roots = Vec::new();
        for (index, entry) in keys.iter().enumerate() {
            let root = read_entry(entry).map_err(|fault| DocumentError::Entry { index: index + 1, fault })?;
            roots.extend(root);
        }
        Ok(Self {
            bundle: Bundle::from_roots(trust_domain, roots).map_err(DocumentError::Roots)?,
            sequence: number(document, "spiffe_sequence")?,
            refresh_hint: number(document, "spiffe_refresh_hint")?.map(Duration::from_secs),
        })
    }

    /// Whether this document may follow one of the number `known`: numbers never go back. A document without a
    /// number follows any, since the number is no duty.
    pub fn check_follows(&self, known: Option<u64>) -> Result<(), DocumentError> {
        match (known, self.sequence) {
            (Some(known), Some(sequence)) if sequence < known => Err(DocumentError::Backwards { known, sequence }),
            _ => Ok(()),
        }
    }
}

/// An entry's certificate; `None` for an entry that is not for us to read.
fn read_entry(entry: &Value) -> Result<Option<CertificateDer<'static>>, &'static str> {
    let entry = entry.as_object().ok_or("is not an object")?;
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    if !matches!(text("kty"), Some("EC" | "RSA" | "OKP")) {
        return Ok(None);
    }
    match text("use") {
        Some("x509-svid") => {}
        // Another reader refuses the whole document (JWT-SVID entries are told apart by `kid` alone).
        Some("jwt-svid") if text("kid").is_none_or(str::is_empty) => return Err("is for JWT-SVIDs and has no `kid`"),
        _ => return Ok(None),
    }
    if entry.contains_key("kid") {
        return Err("is for X.509-SVIDs and has a `kid`");
    }
    let chain = entry.get("x5c").and_then(Value::as_array).ok_or("has no `x5c`")?;
    let [certificate] = chain.as_slice() else {
        return Err("does not have exactly one certificate in `x5c`");
    };
    let der = certificate.as_str().and_then(base64::read_standard).ok_or("has an `x5c` that is not base64")?;
    let der = CertificateDer::from(der);
    // RFC 7517 §4.7: what else the entry says about the key must be what the certificate says.
    let expected = jwk(&der);
    let contradicts = |name: &&str| entry.get(*name).is_some_and(|value| Some(value) != expected.get(*name));
    match ["kty", "crv", "x", "y", "n", "e"].iter().find(|name| contradicts(name)) {
        Some(_) if !expected.contains_key("kty") => Err("has a key of an unknown kind"),
        Some(_) => Err("contradicts its own certificate (RFC 7517 §4.7)"),
        None => Ok(Some(der)),
    }
}

/// A root as JWK. The members of a key that cannot be read are left out.
fn jwk(root: &CertificateDer<'_>) -> Map<String, Value> {
    let mut members =
        x509::parse(root).ok().and_then(|certificate| key_members(certificate.public_key().raw)).unwrap_or_default();
    members.insert("use".into(), "x509-svid".into());
    members.insert("x5c".into(), json!([base64::standard(root)]));
    members
}

/// The members of a public key (RFC 7518 §6, RFC 8037 §2).
fn key_members(spki: &[u8]) -> Option<Map<String, Value>> {
    let key = PublicKey::from_spki(spki).ok()?;
    let curve = |name: &str| {
        let point = key.bits().strip_prefix(&[4])?;
        let (x, y) = point.split_at(point.len() / 2);
        Some(json!({ "kty": "EC", "crv": name, "x": base64::url(x), "y": base64::url(y) }))
    };
    let members = match key.kind() {
        KeyKind::P256 => curve("P-256")?,
        KeyKind::P384 => curve("P-384")?,
        KeyKind::P521 => curve("P-521")?,
        KeyKind::Ed25519 => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64::url(key.bits()) }),
        KeyKind::Rsa => {
            let mut fields = Reader::new(der::whole(der::SEQUENCE, key.bits())?);
            let mut number = || {
                let octets = fields.expect(der::INTEGER)?;
                Some(base64::url(octets.strip_prefix(&[0]).unwrap_or(octets)))
            };
            json!({ "kty": "RSA", "n": number()?, "e": number()? })
        }
    };
    match members {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

fn number(document: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, DocumentError> {
    match document.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(DocumentError::NotANumber(name)),
    }
}

/// Why a bundle document was refused. Displays as the end of a sentence that begins with the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// Above 1 MiB.
    TooLarge,
    /// Not JSON, or a key stands twice.
    Json(String),
    /// Not a JSON object.
    NotAnObject,
    /// `keys` is missing or not an array.
    NoKeys,
    /// A number that is none.
    NotANumber(&'static str),
    /// An entry that cannot be read in one way.
    Entry {
        /// Which entry, from 1.
        index: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A certificate that is no root of the trust domain.
    Roots(BundleError),
    /// The number went back.
    Backwards {
        /// The highest number seen.
        known: u64,
        /// The number of the document.
        sequence: u64,
    },
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "is larger than {MAX_DOCUMENT} bytes"),
            Self::Json(detail) => write!(f, "is not JSON with one reading: {detail}"),
            Self::NotAnObject => f.write_str("is not a JSON object (RFC 7517 §5)"),
            Self::NoKeys => f.write_str("has no array `keys` (RFC 7517 §5.1)"),
            Self::NotANumber(name) => write!(f, "has a `{name}` that is not a number from 0 to 2^64-1"),
            Self::Entry { index, fault } => write!(f, "entry {index} {fault}"),
            Self::Roots(error) => error.fmt(f),
            Self::Backwards { known, sequence } => {
                write!(f, "has the sequence {sequence}, and {known} was seen before: an older bundle")
            }
        }
    }
}

impl std::error::Error for DocumentError {}

/// A bundle of a hundred roots is a tenth of it.
const MAX_DOCUMENT: usize = 1 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn domain() -> TrustDomain {
        TrustDomain::parse("example.org").unwrap()
    }

    fn document(roots: &[&Ca], sequence: u64) -> BundleDocument {
        let roots = roots.iter().map(|root| root.der.clone());
        BundleDocument {
            bundle: Bundle::from_roots(domain(), roots).unwrap(),
            sequence: Some(sequence),
            refresh_hint: Some(Duration::from_secs(300)),
        }
    }

    fn read(text: &str) -> Result<BundleDocument, DocumentError> {
        BundleDocument::from_json(domain(), text.as_bytes())
    }

    /// The document of one root with its entry changed.
    fn changed(change: impl FnOnce(&mut Map<String, Value>)) -> Result<BundleDocument, DocumentError> {
        let mut value: Value = serde_json::from_str(&document(&[&Ca::root("a")], 1).to_json()).unwrap();
        change(value["keys"][0].as_object_mut().unwrap());
        read(&value.to_string())
    }

    fn fault(change: impl FnOnce(&mut Map<String, Value>)) -> &'static str {
        match changed(change) {
            Err(DocumentError::Entry { index: 1, fault }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_written_is_read_in_order_with_every_bit_of_the_number() {
        let (a, b) = (Ca::root("a"), Ca::root("b"));
        for sequence in [0, 1, (1 << 53) + 1, u64::MAX] {
            let back = read(&document(&[&b, &a], sequence).to_json()).unwrap();
            assert_eq!(back.sequence, Some(sequence));
            assert_eq!(back.refresh_hint, Some(Duration::from_secs(300)));
            assert_eq!(back.bundle.unwrap().roots(), [b.der.clone(), a.der.clone()]);
        }
    }

    #[test]
    fn an_entry_has_the_members_of_the_standard_and_no_other() {
        let value: Value = serde_json::from_str(&document(&[&Ca::root("a")], 7).to_json()).unwrap();
        let entry = value["keys"][0].as_object().unwrap();
        let mut names: Vec<_> = entry.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["crv", "kty", "use", "x", "x5c", "y"]);
        assert_eq!((&entry["kty"], &entry["crv"], &entry["use"]), (&json!("EC"), &json!("P-256"), &json!("x509-svid")));
        assert_eq!(entry["x"].as_str().unwrap().len(), 43);
    }

    /// Row 40 of the list of what must be refused.
    #[test]
    fn documents_that_two_readers_could_take_differently_are_refused() {
        assert_eq!(read("{}").unwrap_err(), DocumentError::NoKeys);
        assert_eq!(read(r#"{"keys":{}}"#).unwrap_err(), DocumentError::NoKeys);
        assert_eq!(read("[]").unwrap_err(), DocumentError::NotAnObject);
        assert!(matches!(read(r#"{"keys":[],"keys":[]}"#), Err(DocumentError::Json(why)) if why.contains("twice")));
        assert!(matches!(read(r#"{"keys":[{"kty":"EC","kty":"EC"}]}"#), Err(DocumentError::Json(_))));
        assert!(fault(|entry| drop(entry.insert("kid".into(), "x".into()))).contains("has a `kid`"));
        assert!(fault(|entry| drop(entry.remove("x5c"))).contains("no `x5c`"));
        assert!(fault(|entry| drop(entry.insert("x5c".into(), json!([])))).contains("exactly one"));
        let two = |entry: &mut Map<String, Value>| {
            let one = entry["x5c"][0].clone();
            entry.insert("x5c".into(), json!([one, one]));
        };
        assert!(fault(two).contains("exactly one"));
        assert!(fault(|entry| drop(entry.insert("x5c".into(), json!(["!"])))).contains("base64"));
        assert!(fault(|entry| drop(entry.insert("x".into(), "AAAA".into()))).contains("contradicts"));
        assert!(fault(|entry| drop(entry.insert("kty".into(), "RSA".into()))).contains("contradicts"));
        let (leaf, _) = Ca::root("a").leaf("spiffe://example.org/x");
        let leaf = changed(|entry| {
            *entry = jwk(&leaf);
        });
        assert!(matches!(leaf, Err(DocumentError::Roots(BundleError::Root { index: 1, .. }))), "a leaf in x5c");
        assert!(matches!(
            read(r#"{"keys":[{"kty":"EC","use":"jwt-svid"}]}"#),
            Err(DocumentError::Entry { index: 1, .. })
        ));
        for wrong in ["-1", "1.0", "1e3", "\"1\"", "18446744073709551616", "null"] {
            let text = format!(r#"{{"keys":[],"spiffe_sequence":{wrong}}}"#);
            assert_eq!(read(&text).unwrap_err(), DocumentError::NotANumber("spiffe_sequence"), "{wrong}");
        }
        let large = format!(r#"{{"keys":[]{}}}"#, " ".repeat(MAX_DOCUMENT));
        assert_eq!(read(&large).unwrap_err(), DocumentError::TooLarge);
    }

    #[test]
    fn no_keys_mean_that_nobody_is_trusted() {
        let none = read(r#"{"keys":[]}"#).unwrap();
        assert!(none.bundle.is_none());
        assert_eq!(none.sequence, None);
        assert_eq!(none.to_json(), r#"{"keys":[]}"#);
    }

    #[test]
    fn entries_that_are_not_ours_to_read_are_passed_over() {
        let root = Ca::root("a");
        let mut value: Value = serde_json::from_str(&document(&[&root], 1).to_json()).unwrap();
        let keys = value["keys"].as_array_mut().unwrap();
        keys.insert(0, json!({ "kty": "EC", "use": "jwt-svid", "kid": "x" }));
        keys.insert(0, json!({ "kty": "EC", "use": "wit-svid" }));
        keys.insert(0, json!({ "kty": "EC" }));
        keys.insert(0, json!({ "kty": "new", "use": "x509-svid" }));
        keys.insert(0, json!({ "use": "x509-svid" }));
        value["another"] = json!(1);
        assert_eq!(read(&value.to_string()).unwrap().bundle.unwrap().roots(), [root.der]);
    }

    #[test]
    fn a_number_that_goes_back_is_an_older_bundle() {
        let document = document(&[&Ca::root("a")], 7);
        document.check_follows(None).unwrap();
        document.check_follows(Some(7)).unwrap();
        assert_eq!(document.check_follows(Some(8)), Err(DocumentError::Backwards { known: 8, sequence: 7 }));
    }
}

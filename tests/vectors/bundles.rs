//! Bundle documents: 40.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::{BundleDocument, TrustDomain};
use serde_json::{Value, json};
use support::x509::{Authority, SAN, sequence, uri};

use crate::Vector;

pub(crate) fn vectors() -> Vec<Vector> {
    let root = Authority::root("root");
    let leaf = root.leaf("spiffe://example.org/x", |leaf| leaf).chain[0].clone();
    let foreign = root.below("foreign", |ca| ca.and(SAN, false, sequence(&[uri("spiffe://partner.example")]))).der;
    let good = entry(&root.der);
    let changed = |change: fn(&mut Value)| {
        let mut entry = entry(&root.der);
        change(&mut entry);
        document(&[entry])
    };
    let rows: Vec<(&str, &'static str, String)> = vec![
        ("no keys", "no array `keys`", json!({ "spiffe_sequence": 1 }).to_string()),
        ("keys that are no array", "no array `keys`", json!({ "keys": {} }).to_string()),
        ("a root with a key ID", "for X.509-SVIDs and has a `kid`", changed(|entry| entry["kid"] = json!("a"))),
        ("no certificate", "exactly one certificate in `x5c`", changed(|entry| entry["x5c"] = json!([]))),
        ("two certificates", "exactly one certificate in `x5c`", {
            document(&[
                json!({ "kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(&root.der), STANDARD.encode(&root.der)] }),
            ])
        }),
        ("a leaf", "is not a CA certificate", document(&[entry(&leaf)])),
        ("a member twice", "JSON with one reading", format!("{{\"keys\":[{good}],\"keys\":[]}}")),
        ("a member of an entry twice", "JSON with one reading", {
            document(std::slice::from_ref(&good)).replace("\"kty\":\"EC\"", "\"kty\":\"EC\",\"kty\":\"RSA\"")
        }),
        ("a JWT-SVID's key without a key ID", "is for JWT-SVIDs and has no `kid`", {
            document(&[json!({ "kty": "EC", "use": "jwt-svid", "crv": "P-256", "x": "", "y": "" })])
        }),
        (
            "the root of another trust domain",
            "is a root of trust domain `partner.example`",
            document(&[entry(&foreign)]),
        ),
        ("a certificate that is no base64", "is not base64", changed(|entry| entry["x5c"] = json!(["!"]))),
        (
            "a key that is not the certificate's",
            "contradicts its own certificate",
            changed(|entry| entry["x"] = json!("AAAA")),
        ),
        (
            "a sequence above 2^64",
            "not a number from 0 to 2^64-1",
            r#"{"keys":[],"spiffe_sequence":18446744073709551616}"#.into(),
        ),
        (
            "a sequence that is a fraction",
            "not a number from 0 to 2^64-1",
            r#"{"keys":[],"spiffe_sequence":1.5}"#.into(),
        ),
    ];
    let mut vectors: Vec<_> = rows
        .into_iter()
        .map(|(name, words, text)| Vector::new(40, name, ("bundle", words), read(&text).map(|_| ())))
        .collect();

    // One above 2^53, where readers that take numbers for floating-point ones lose count.
    let of = |sequence: u64| read(&json!({ "keys": [good], "spiffe_sequence": sequence }).to_string()).unwrap();
    let newer = 9_007_199_254_740_993;
    let back = of(newer - 1).check_follows(of(newer).sequence).map_err(of_bundle);
    vectors.push(Vector::new(
        40,
        "a sequence that goes back by one, above 2^53",
        ("bundle", "9007199254740993 was seen"),
        back,
    ));
    assert_eq!(of(newer).check_follows(Some(newer - 1)), Ok(()));
    vectors
}

fn of_bundle(error: impl std::fmt::Display) -> (String, String) {
    ("bundle".to_owned(), error.to_string())
}

fn read(text: &str) -> Result<BundleDocument, (String, String)> {
    BundleDocument::from_json(TrustDomain::parse("example.org").unwrap(), text.as_bytes()).map_err(of_bundle)
}

fn entry(certificate: &[u8]) -> Value {
    json!({ "kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(certificate)] })
}

fn document(entries: &[Value]) -> String {
    json!({ "keys": entries, "spiffe_sequence": 1 }).to_string()
}

#[test]
fn entries_of_other_kinds_are_passed_over_and_no_keys_mean_that_nobody_is_trusted() {
    let root = Authority::root("root");
    let text = document(&[
        json!({ "kty": "oct", "use": "x509-svid", "k": "AA" }),
        json!({ "kty": "EC", "use": "wit-svid" }),
        json!({ "kty": "EC" }),
        json!({ "use": "x509-svid" }),
        json!({ "kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "", "y": "" }),
        entry(&root.der),
    ]);
    let read_back = read(&text).unwrap();
    assert_eq!(read_back.bundle.unwrap().roots(), [root.der.clone().into()]);
    assert_eq!(read_back.sequence, Some(1));
    assert!(read(r#"{"keys":[],"spiffe_sequence":2}"#).unwrap().bundle.is_none());
    assert_eq!(
        read(r#"{"keys":[],"spiffe_sequence":9007199254740993}"#).unwrap().sequence,
        Some(9_007_199_254_740_993)
    );
    assert_eq!(read(r#"{"keys":[],"spiffe_sequence":18446744073709551615}"#).unwrap().sequence, Some(u64::MAX));
}

//! What the CA reads back from its folder, and bundles as documents of others: of what is accepted, what is written anew is read
//! as the same, and once more as the same text.

use ca::denied::{Denied, DenyList};
use ca::rotation::Rotation;
use identity::{BundleDocument, SpiffeId, TrustDomain};
use std::time::{Duration, SystemTime};

pub(super) const STATES: &[&[u8]] = &[
    b"{\"schema\":1,\"phase\":\"steady\",\"sequence\":1,\"published\":1,",
    b"\"issuing\":{\"id\":\"0123456789abcdef\",\"not_after\":2000000000}",
    b",\"next\":{\"id\":\"fedcba9876543210\",\"not_after\":2000000000}",
    b",\"retiring\":[{\"id\":\"00000000000000aa\",\"not_after\":2000000000,\"stopped\":1}]",
    b",\"stopped\":1",
    b",\"leave_by\":1",
    b"\"prepared\"",
    b"\"activated\"",
    b",\"renew\":{\"since\":1,\"splay\":600}",
    b",\"passed\":{\"by\":\"override\",\"left_out\":[\"a\"],\"left_out_total\":1}",
    b"\"gate\"",
    b"\"compromise\"",
    b"null",
    b"18446744073709551615",
    b"}",
    b"]",
];

pub(super) const DENIED: &[&[u8]] = &[
    b"{\"schema\":1,\"version\":1,\"entries\":[",
    b"{\"kind\":\"id\",\"value\":\"spiffe://example.org/a\",\"reason\":\"lost\",\"since\":1,\"until\":2}",
    b"{\"kind\":\"serial\",\"value\":\"0a1b\",\"reason\":\"lost\",\"since\":1,\"until\":2}",
    b"{\"kind\":\"key\",\"value\":\"",
    b"\"until\":18446744073709551615",
    b"253402300799",
    b",",
    b"]}",
];

pub(super) const DOCUMENTS: &[&[u8]] = &[
    b"{\"keys\":[",
    b"{\"kty\":\"EC\",\"use\":\"x509-svid\",\"x5c\":[\"",
    b"\"use\":\"jwt-svid\",\"kid\":\"a\"",
    b"\"crv\":\"P-256\"",
    b"\"spiffe_sequence\":9007199254740993",
    b"\"spiffe_refresh_hint\":300",
    b"\"kid\":\"\"",
    b"18446744073709551616",
    b"-1",
    b"1e3",
    b"\\u006b",
    b"\"]}",
    b"]}",
];

/// `state.json`.
pub(super) fn state(input: &[u8]) {
    let Ok(rotation) = Rotation::from_json(input) else { return };
    let text = rotation.to_json();
    let again = Rotation::from_json(text.as_bytes()).expect("what was written is read");
    assert_eq!(again, rotation);
    assert_eq!(again.to_json(), text);
    // Whatever was read is a state that the machine could be in.
    let bundle = rotation.bundle();
    assert!(bundle.contains(&rotation.issuing()));
    assert!(bundle.iter().all(|root| rotation.not_after(*root).is_some()));
    let mut distinct = bundle.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), bundle.len(), "a root stands twice");
}

/// `denied.json`.
pub(super) fn denied(input: &[u8]) {
    let Ok(list) = DenyList::from_json(input) else { return };
    let text = list.to_json();
    let again = DenyList::from_json(text.as_bytes()).expect("what was written is read");
    assert_eq!(again, list);
    assert_eq!(again.to_json(), text);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let nobody = SpiffeId::parse("spiffe://example.org/nobody/at/all").unwrap();
    for entry in list.entries(now) {
        let found = match &entry.denied {
            Denied::Id(id) => list.find(id, None, None, now),
            Denied::Serial(serial) => list.find(&nobody, Some(serial), None, now),
            Denied::Key(key) => list.find(&nobody, None, Some(key), now),
        };
        assert!(found.is_some(), "{:?} is listed and not denied", entry.denied);
    }
}

/// A SPIFFE bundle of somebody else.
pub(super) fn document(input: &[u8]) {
    let domain = || TrustDomain::parse("example.org").unwrap();
    let Ok(document) = BundleDocument::from_json(domain(), input) else { return };
    let text = document.to_json();
    let again = BundleDocument::from_json(domain(), text.as_bytes()).expect("what was written is read");
    let roots = |document: &BundleDocument| document.bundle.as_ref().map(|bundle| bundle.roots().to_vec());
    assert_eq!(roots(&again), roots(&document));
    assert_eq!((again.sequence, again.refresh_hint), (document.sequence, document.refresh_hint));
    assert_eq!(again.to_json(), text);
    if let Some(sequence) = document.sequence {
        assert!(document.check_follows(Some(sequence)).is_ok());
        assert!(sequence == u64::MAX || document.check_follows(Some(sequence + 1)).is_err());
    }
}

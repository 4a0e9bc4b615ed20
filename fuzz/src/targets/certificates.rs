//! Certificates: arbitrary DER is read without panic, and of chains made from good ones only the good ones are believed.
//!
//! The root and the chains it signed stand in `papers/`; their keys are gone, so no input can be a chain that ought to pass and
//! is not one of them.

use identity::{Bundle, CertificateDer, SpiffeId, Svid, TrustDomain, Usage, verify};
use std::{
    collections::HashSet,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

pub(super) const DER: &[&[u8]] = &[
    b"\x30\x80",
    b"\x30\x81\x80",
    b"\x30\x82\x01\x00",
    b"\x02\x01\x00",
    b"\x05\x00",
    b"\x01\x01\xff",
    b"\x01\x01\x00",
    b"\x03\x02\x07\x80",
    b"\x03\x02\x01\x06",
    b"\x06\x03\x55\x1d\x11",
    b"\x06\x03\x55\x1d\x13",
    b"\x06\x03\x55\x1d\x0f",
    b"\x06\x03\x55\x1d\x25",
    b"\x06\x03\x55\x1d\x1e",
    b"\x06\x03\x55\x04\x03",
    b"\x86\x23spiffe://example.org/ns/shop/sa/web",
    b"\x82\x03a.b",
    b"\x87\x04\x7f\0\0\x01",
    b"\x17\x0d270115080000Z",
    b"\x18\x0f20270115080000Z",
    b"\x30\x00",
    b"\x31\x00",
    b"\xa0\x03\x02\x01\x02",
    b"\xa3",
    b"\x0c\x01a",
    b"\x13\x01a",
    b"\x1e\x02\0a",
    b"\x1c\x04\0\0\0a",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05",
];

/// At which everything in `papers/` is valid.
const NOW: Duration = Duration::from_secs(1_800_000_000);

static ROOT: LazyLock<Bundle> = LazyLock::new(|| {
    let domain = TrustDomain::parse("example.org").unwrap();
    Bundle::from_pem(domain, include_bytes!("../../papers/root.pem")).unwrap()
});

/// The hashes of the good leaves.
static GOOD: LazyLock<HashSet<[u8; 32]>> = LazyLock::new(|| {
    [&include_bytes!("../../papers/leaf.der")[..], include_bytes!("../../papers/leaf-of-intermediate.der")]
        .iter()
        .map(|der| Svid::hash_of(der))
        .collect()
});

/// Certificates one behind the other, leaf first.
pub(super) fn chain(input: &[u8]) {
    let chain: Vec<CertificateDer<'_>> = split(input).into_iter().map(CertificateDer::from).collect();
    for der in &chain {
        if let Ok(svid) = Svid::from_leaf(der) {
            is_sound(&svid, der);
        }
    }
    let now = SystemTime::UNIX_EPOCH + NOW;
    let [client, server] = [Usage::Client, Usage::Server].map(|usage| verify(&chain, &ROOT, usage, now));
    assert_eq!(client.is_ok(), server.is_ok());
    let _ = identity::expiry(&chain);
    if let Ok(svid) = client {
        // A root that signs itself is no leaf, and of no other certificate has anybody the signature.
        assert!(GOOD.contains(svid.hash()), "a forged leaf is believed");
        assert_eq!(svid.id().as_str(), "spiffe://example.org/ns/shop/sa/web");
        for usage in [Usage::Client, Usage::Server] {
            assert!(verify(&chain, &ROOT, usage, svid.not_after() + Duration::from_secs(1)).is_err());
            assert!(verify(&chain, &ROOT, usage, svid.not_before() - Duration::from_secs(1)).is_err());
        }
    }
}

/// Facts that go into headers and logs are such that they can.
fn is_sound(svid: &Svid, der: &[u8]) {
    assert_eq!(*svid.hash(), Svid::hash_of(der));
    assert!(!svid.id().path().is_empty());
    assert_eq!(SpiffeId::parse(svid.id().as_str()).as_ref(), Ok(svid.id()));
    assert!(svid.subject().bytes().all(|byte| matches!(byte, b' '..=b'~')), "{:?}", svid.subject());
    assert!(svid.serial().len() <= 40 && svid.serial().bytes().all(|byte| byte.is_ascii_hexdigit()));
    for name in svid.dns_names() {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte)));
    }
}

/// Cuts by the lengths that the DER says; what has none is one piece.
fn split(mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while !input.is_empty() && pieces.len() < 10 {
        let length = match *input {
            [_, short @ ..=0x7f, ..] => 2 + usize::from(short),
            [_, 0x81, length, ..] => 3 + usize::from(length),
            [_, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
            _ => input.len(),
        };
        let (piece, rest) = input.split_at(length.min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

pub(super) const PEM: &[&[u8]] = &[
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"-----END PRIVATE KEY-----\n",
    b"-----BEGIN ",
    b"-----",
    b"\r\n",
    b"\n",
    b"=",
    b"==",
    b"# ",
    b"MIIB",
];

/// A bundle as PEM. What is accepted has a root that is one, each with its dates.
pub(super) fn bundle(input: &[u8]) {
    let domain = TrustDomain::parse("example.org").unwrap();
    match Bundle::from_pem(domain.clone(), input) {
        Ok(bundle) => {
            assert!(!bundle.roots().is_empty());
            assert_eq!(bundle.expiries().count(), bundle.roots().len());
            assert!(verify(bundle.roots(), &bundle, Usage::Client, SystemTime::UNIX_EPOCH + NOW).is_err());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
    // The same bytes as a certificate with its key, and as the roots: never a whole set of credentials.
    let whole = identity::Credentials::from_pem(input, input, input, &id, SystemTime::UNIX_EPOCH + NOW);
    assert!(whole.is_err());
}

/// A signing request, DER or PEM: what is taken from it is a key that stands in it.
pub(super) fn request(input: &[u8]) {
    let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
    if let Ok(requested) = ca::parse_csr(input, &id)
        && !input.windows(10).any(|window| window == b"-----BEGIN")
    {
        let key = requested.spki();
        assert!(input.windows(key.len()).any(|window| window == key));
        assert!(identity::PublicKey::from_spki(key).is_ok());
    }
}

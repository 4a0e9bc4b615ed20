//! TLS: a handshake with whatever comes, and records after a real one.

use crate::given::{Given, pieces};
use identity::{Credentials, SpiffeId, TrustDomain};
use proxy::fuzzing::tls::{self, Accepting, Ends, Said};
use std::{
    cell::RefCell,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

/// Credentials of a CA that lives as long as the process.
static CREDENTIALS: LazyLock<[Arc<Credentials>; 2]> = LazyLock::new(|| {
    let domain = TrustDomain::parse("example.org").unwrap();
    let now = SystemTime::now();
    let authority = ca::Authority::init(&domain, now).unwrap();
    let issuer = authority.intermediate(now).unwrap();
    [WEB, ORDERS].map(|id| {
        let id = SpiffeId::parse(id).unwrap();
        let (issued, key) = issuer
            .issue_with_new_key(&ca::attest::Attested::by_operator(id.clone()), Duration::from_secs(24 * 3600), now)
            .unwrap();
        let (chain, root) = (issued.chain_pem(), authority.root_pem());
        Credentials::from_pem(chain.as_bytes(), key.as_bytes(), root.as_bytes(), &id, now).unwrap()
    })
});

const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
const ORDERS: &str = "spiffe://example.org/ns/shop/sa/orders";

pub(super) const HELLO: &[&[u8]] = &[
    b"\x16\x03\x01",
    b"\x16\x03\x03",
    b"\x14\x03\x03\0\x01\x01",
    b"\x15\x03\x03\0\x02\x02\x28",
    b"\x17\x03\x03",
    b"\x01\0\0",
    b"\x03\x03",
    b"\x13\x01\x13\x02\x13\x03",
    b"\xc0\x2b\xc0\x2f",
    b"\0\xff",
    b"\x01\0",
    b"\0\0\0\x0e\0\x0c\0\0\x09localhost",
    b"\0\x0a\0\x04\0\x02\0\x1d",
    b"\0\x0a\0\x04\0\x02\x11\xec",
    b"\0\x0d\0\x04\0\x02\x04\x03",
    b"\0\x2b\0\x03\x02\x03\x04",
    b"\0\x2b\0\x03\x02\x03\x03",
    b"\0\x10\0\x05\0\x03\x02h2",
    b"\0\x33\0\x26\0\x24\0\x1d\0\x20",
    b"\0\x2d\0\x02\x01\x01",
    b"\0\x29",
    b"\0\x2a\0\0",
    b"\0\x17\0\0",
    b"\0\x23\0\0",
];

/// A server is sent these bytes: in one piece and in many it says the same, holds little, and never believes in a peer.
pub(super) fn hello(input: &[u8]) {
    static SERVER: LazyLock<Arc<Server>> =
        LazyLock::new(|| tls::server(&CREDENTIALS[1]).map(|config| Arc::new(Server(config))).unwrap());
    let whole = accept(&SERVER, std::iter::once(input));
    let in_pieces = accept(&SERVER, pieces(input));
    assert_eq!(whole, in_pieces);
}

/// The configuration, whose type belongs to rustls.
struct Server(Arc<tls::ServerConfig>);

fn accept<'a>(server: &Server, pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), String> {
    let mut accepting = Accepting::new(Arc::clone(&server.0)).unwrap();
    let mut sent = 0;
    for piece in pieces {
        match accepting.take(piece) {
            Ok(complete) => assert!(!complete, "a handshake without a certificate"),
            Err(error) => return Err(error),
        }
        let (held, output) = accepting.held();
        // A record and a half, and one flight.
        assert!(held <= 32 * 1024, "{held} bytes held");
        sent = output;
    }
    assert!(sent <= 16 * 1024, "{sent} bytes to send");
    Ok(())
}

pub(super) const RECORDS: &[&[u8]] = &[
    b"\0\x04\x18\0\0\x01\0\x16",
    b"\0\x06\x18\0\0\x01\0\x16",
    b"\0\x06\x18\0\0\x01\x01\x16",
    b"\0\x06hello\x17",
    b"\0\x01\x17",
    b"\0\x03\x01\0\x15",
    b"\0\x03\x02\x28\x15",
    b"\0\x03\x01\x5a\x15",
    b"\0\x01\0",
    b"\0\x02\0\0",
    b"\x04\0\0",
    b"\x16",
    b"\x15",
    b"\x14",
    b"\x17\x03\x03\0\x11",
];

/// Inner plaintexts, each behind its length, sealed and opened: the data of records is what was sealed, whatever else is in the
/// row, and nothing follows what ends it.
pub(super) fn records(input: &[u8]) {
    thread_local! {
        static ENDS: RefCell<Ends> = RefCell::new({
            let [web, orders] = &*CREDENTIALS;
            let client = tls::client(web, SpiffeId::parse(ORDERS).unwrap()).unwrap();
            Ends::new(client, tls::server(orders).unwrap()).unwrap()
        });
    }
    if let Ok(Some(length)) = tls::record_length(input) {
        assert!((5 + 17..=5 + (1 << 14) + 256).contains(&length) && input.starts_with(&[23, 3, 3]));
    }
    let mut given = Given::new(input);
    let by_client = given.flag();
    let inners: Vec<&[u8]> = std::iter::from_fn(|| given.piece()).collect();
    let said = ENDS.with_borrow_mut(|ends| ends.open(by_client, inners.iter().copied()));
    for (index, (inner, what)) in inners.iter().zip(&said).enumerate() {
        let end = inner.iter().rposition(|octet| *octet != 0);
        let (content, kind) = end.map_or((&[][..], 0), |end| (&inner[..end], inner[end]));
        match what {
            Said::Data(data) => assert!(kind == 23 && data == content && !data.is_empty()),
            Said::Nothing => assert!(matches!(kind, 21 | 22) || (kind == 23 && content.is_empty())),
            Said::Closed => assert!(kind == 21 && content[1] == 0),
            // Only a key that has gone astray, in this room or in that one, opens nothing.
            Said::Misbehaved(why) => assert!(!why.contains("did not seal"), "{why}"),
        }
        let ends = matches!(what, Said::Closed | Said::Misbehaved(_));
        assert!(!ends || index + 1 == said.len(), "goes on after the end");
    }
    let ended = said.last().is_some_and(|last| matches!(last, Said::Closed | Said::Misbehaved(_)));
    assert!(ended || said.len() == inners.len());
}

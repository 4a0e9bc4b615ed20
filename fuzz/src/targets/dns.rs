//! Answers of name servers: what counts is the answer to our question, and only addresses that stand in it.

use crate::given::text;
use proxy::fuzzing::dns::{self, ID};
use std::net::IpAddr;

pub(super) const WORDS: &[&[u8]] = &[
    b"\x5e\x15\x81\x80\0\x01\0\x01\0\0\0\0",
    b"\x06ledger\x04shop\x03svc\0",
    b"\0\x01\0\x01",
    b"\0\x1c\0\x01",
    b"\0\x05\0\x01",
    b"\xc0\x0c",
    b"\0\0\0\x3c\0\x04\x0a\0\0\x07",
    b"\0\0\0\x3c\0\x10",
    b"\0\x29\x10\0\0\0\0\0\0\0",
    b"\xc0\0",
    b"\xff\xff",
    b"\0",
    b"\x3f",
    b"\x83",
    b"\x82",
];

pub(super) fn answer(datagram: &[u8]) {
    for v6 in [false, true] {
        let Some(found) = dns::answer(datagram, v6) else { continue };
        assert!(datagram.starts_with(&ID.to_be_bytes()), "an answer to another question");
        assert!(datagram[2] & 0x80 != 0, "a question is no answer");
        let Ok((addresses, ttl)) = found else { continue };
        assert!(ttl.as_secs() <= 60);
        for address in addresses {
            let octets = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            assert!(datagram.windows(octets.len()).any(|window| window == octets), "{address} is not in the answer");
        }
    }
}

pub(super) const FILES: &[&[u8]] = &[
    b"nameserver 10.96.0.10\n",
    b"nameserver ::1\n",
    b"search a b c\n",
    b"domain a.\n",
    b"options ndots:5\n",
    b"options ndots:999999\n",
    b"127.0.0.1 localhost\n",
    b"10.0.0.7 ledger # x\n",
    b"\t",
    b"#",
    b".",
    b"\r\n",
];

/// The files of the system, and a name asked for in the first line.
pub(super) fn files(input: &[u8]) {
    let (name, text) = text(input).split_once('\n').unwrap_or_default();
    let (candidates, servers, found) = dns::files(text, name);
    assert!((1..=3).contains(&servers));
    assert!((1..=7).contains(&candidates.len()) && candidates.iter().any(|candidate| candidate == name));
    assert!(found.len() <= text.lines().count());
}

//! Community ID, version 1: one short name for a flow, by which records of different tools are joined.
//!
//! In: the two ends of a TCP connection. Out: the SHA-1 of both, the same whichever end is named first, and the text that
//! Suricata (`community-id-seed`), Zeek (`CommunityID::seed`) and others write. Source: Corelight's specification, "Community
//! ID Flow Hashing", version 1. SHA-1 is what it is defined over; nothing here rests on its strength.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::packet::Tuple;

/// The SHA-1 behind the Community ID of a TCP connection with seed 0: 20 bytes, the same from either end's side.
#[must_use]
pub fn digest(client: SocketAddr, server: SocketAddr) -> [u8; 20] {
    seeded(client, server, 0)
}

/// The Community ID of a TCP connection: `1:` and 28 characters of base64. The default seed of all tools is 0.
#[must_use]
pub fn id(client: SocketAddr, server: SocketAddr, seed: u16) -> String {
    format!("1:{}", STANDARD.encode(seeded(client, server, seed)))
}

/// `SHA1(seed || A || B || protocol || 0 || port A || port B)`, all numbers in network order; (A, port A) is the smaller pair
/// by bytes.
fn seeded(client: SocketAddr, server: SocketAddr, seed: u16) -> [u8; 20] {
    // Both of one family, as the packets have them.
    let Tuple { client, server } = Tuple::new(client, server);
    let end = |addr: SocketAddr| (Octets::of(addr.ip()), addr.port());
    let (mut a, mut b) = (end(client), end(server));
    if (b.0.as_slice(), b.1) < (a.0.as_slice(), a.1) {
        std::mem::swap(&mut a, &mut b);
    }
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(&seed.to_be_bytes());
    hash.update(a.0.as_slice());
    hash.update(b.0.as_slice());
    hash.update(&[TCP, 0]);
    hash.update(&a.1.to_be_bytes());
    hash.update(&b.1.to_be_bytes());
    let mut out = [0; 20];
    out.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// The bytes of an address: 4, or 16.
enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => Self::V6(ip.octets()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

/// IANA's protocol number of TCP.
const TCP: u8 = 6;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    /// The first is in the specification's own baseline; the others were made by an implementation that passes all of it.
    const VECTORS: [(&str, &str, &str, &str); 5] = [
        (
            "128.232.110.120:34855",
            "66.35.250.204:80",
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            "1:3V71V58M3Ksw/yuFALMcW0LAHvc=",
        ),
        ("10.244.1.7:41234", "10.244.2.9:8080", "1:OyKYsOEYmIArp4k8SzYS9IOfcZw=", "1:mzu5YeAI9ICYNxuHL9VfNxVEYZ8="),
        (
            "[fd00:10:244::7]:41234",
            "[fd00:10:244::9]:8080",
            "1:+uhlvtinXt7/6U6W4Fqu0+4NhkE=",
            "1:RekY5f4iWuQ7Bl84p/lRM2y0uWc=",
        ),
        ("10.1.2.3:40000", "10.1.2.3:8080", "1:azWLumTVMjTgqyLYc12d/feiCI0=", "1:7nJboOWYXEacQkuu0d5FF1WZais="),
        ("10.0.0.1:10", "10.0.0.2:11250", "1:0sVGL4noDpjYNbput2lNpE3wzpM=", "1:XCN8H76MHCAyBiqIt4MLMw3Eyxw="),
    ];

    #[test]
    fn the_known_ids_come_out_from_either_side() {
        for (a, b, zero, one) in VECTORS {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            for (client, server) in [(a, b), (b, a)] {
                assert_eq!(id(client, server, 0), zero);
                assert_eq!(id(client, server, 1), one);
                assert_eq!(format!("1:{}", STANDARD.encode(digest(client, server))), zero);
            }
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4_addresses() {
        let (plain, mapped) = ("10.244.1.7:41234".parse().unwrap(), "[::ffff:10.244.1.7]:41234".parse().unwrap());
        let server = "10.244.2.9:8080".parse().unwrap();
        assert_eq!(digest(mapped, server), digest(plain, server));
    }
}

//! The first bytes of a connection, and where it was going.

use crate::given::{Given, pieces};
use proxy::fuzzing::{self, http1, http2};
use std::net::{IpAddr, SocketAddr};

/// More bytes never change what fewer have decided, and what is read as HTTP is detected as HTTP.
pub(super) fn detect(text: &[u8]) {
    let whole = fuzzing::detect(text);
    let begins = http2::begins(text);
    let mut until = 0;
    for piece in pieces(text) {
        until += piece.len();
        let seen = &text[..until];
        assert!(fuzzing::detect(seen).is_none_or(|decided| Some(decided) == whole), "after {until} bytes");
        assert!(http2::begins(seen).is_none_or(|decided| Some(decided) == begins), "after {until} bytes");
    }
    // A method longer than any that is in use is not taken for one.
    if http1::request(text).is_ok_and(|head| head.is_some_and(|head| head.start.0.len() <= 32)) {
        assert_eq!(whole, Some("http/1.1"));
    }
    if begins == Some(true) {
        assert_eq!(whole, Some("h2"));
    }
}

/// A captured connection is never sent to one of our own listeners, by whatever spelling of an address.
pub(super) fn destination(input: &[u8]) {
    let mut given = Given::new(input);
    let (found, local) = (address(&mut given), address(&mut given));
    let host: Vec<IpAddr> = (0..given.byte() % 4).map(|_| address(&mut given).ip().to_canonical()).collect();
    let own: Vec<SocketAddr> = (0..given.byte() % 4).map(|_| address(&mut given)).collect();
    let Ok(to) = fuzzing::destination(found, local, &own, &host) else { return };
    let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    assert_eq!(plain(to), plain(found));
    assert_eq!(to.ip(), to.ip().to_canonical());
    assert!(to.port() != 0 && !to.ip().is_unspecified() && !to.ip().is_multicast());
    assert_ne!(plain(to), plain(local));
    for own in own {
        let own = plain(own);
        assert!(plain(to) != own || !host.contains(&own.0), "to our own listener {own:?}");
        // A listener on every address is on this one too, if it is one of the host's.
        assert!(
            !own.0.is_unspecified() || own.1 != to.port() || !host.contains(&to.ip()),
            "to our own listener {own:?}"
        );
    }
}

/// An address of few, so that they meet: by kind, last byte and port.
fn address(given: &mut Given<'_>) -> SocketAddr {
    let (kind, last, port) = (given.byte() % 6, given.byte(), given.byte());
    let ip: IpAddr = match kind {
        0 => [10, 0, 0, last].into(),
        1 => [0, 0, 0, 0, 0, 0xffff, 0x0a00, u16::from(last)].into(),
        2 => [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into(),
        3 => [0, 0, 0, last & 1].into(),
        4 => [0, 0, 0, 0, 0, 0, 0, u16::from(last & 1)].into(),
        _ => IpAddr::from(<[u8; 4]>::try_from(given.bytes(4)).unwrap_or([255, 255, 255, 255])),
    };
    SocketAddr::new(ip, [0, 80, 15006, 443][usize::from(port % 4)])
}

//! Community IDs are those of the reference implementation, whatever the flow.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use support::child::run_with_input;
use support::tools;

#[test]
fn ids_are_those_of_the_reference_implementation() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let flows: Vec<_> = (0..500).map(|number| flow(number, &mut random)).collect();
    let mut asked = String::new();
    for (client, server, seed) in &flows {
        writeln!(asked, "{} {} {} {} {seed}", client.ip(), client.port(), server.ip(), server.port()).unwrap();
    }
    let answered = run_with_input(tools::python().arg(tools::script("community_id.py")), &asked);
    let theirs: Vec<_> = answered.lines().collect();
    let ours: Vec<_> = flows.iter().map(|(client, server, seed)| tap::community::id(*client, *server, *seed)).collect();
    assert_eq!(ours, theirs);
}

/// IPv4 and IPv6, addresses that differ in one byte and that do not differ at all, and any ports.
fn flow(number: u32, random: &mut Random) -> (SocketAddr, SocketAddr, u16) {
    let ip = |bits: u128| match number % 2 {
        0 => IpAddr::V4(Ipv4Addr::from((bits | 0x0a00_0000) as u32)),
        _ => IpAddr::V6(Ipv6Addr::from(bits | 0x20 << 120)),
    };
    let one = u128::from(random.next()) << 64 | u128::from(random.next());
    let other = match number % 3 {
        0 => one,
        1 => one ^ 1 << (random.next() % 24),
        _ => u128::from(random.next()) << 64 | u128::from(random.next()),
    };
    let port = |bits: u64| bits as u16;
    let (client, server) = (port(random.next()), port(random.next()));
    (
        SocketAddr::new(ip(one), client),
        SocketAddr::new(ip(other), server),
        if number.is_multiple_of(5) { port(random.next()) } else { 0 },
    )
}

/// xorshift64*, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

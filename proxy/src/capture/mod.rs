//! Captured connections: where the other end really wanted to go, and never back to ourselves.
//!
//! The redirect rules ([`rules`]) change a connection's destination to one of our listeners; the kernel remembers the
//! original one (`SO_ORIGINAL_DST`). A destination that is one of our own listeners is refused: forwarding to it would loop,
//! or open the admin port to other workloads.

pub mod rules;

use crate::worker::Shared;
use socket2::SockRef;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// Why a captured connection has no destination we may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDestination {
    /// The connection was made to our listener itself.
    Direct,
    /// The destination is one of our own listeners.
    Loop,
    /// Port 0, or an address nothing can be connected to.
    Unusable,
}

impl NoDestination {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Direct => "not_redirected",
            Self::Loop => "own_listener",
            Self::Unusable => "unusable_destination",
        }
    }
}

/// The original destination of a redirected connection.
pub(crate) fn original_dst(tcp: &TcpStream, local: SocketAddr, shared: &Shared) -> Result<SocketAddr, NoDestination> {
    let socket = SockRef::from(tcp);
    let found = if is_ipv4(&local) { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Without a redirect rule the kernel has no record of the connection, or answers with the local address.
    let destination = found.ok().and_then(|address| address.as_socket()).ok_or(NoDestination::Direct)?;
    usable(destination, local, |address| is_own(shared, address))
}

/// What the kernel named, if it is a place to go to.
fn usable(
    destination: SocketAddr,
    local: SocketAddr,
    is_own: impl FnOnce(SocketAddr) -> bool,
) -> Result<SocketAddr, NoDestination> {
    let destination = canonical(destination);
    if destination == canonical(local) {
        return Err(NoDestination::Direct);
    }
    let ip = destination.ip();
    if destination.port() == 0 || ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip) {
        return Err(NoDestination::Unusable);
    }
    if is_own(destination) {
        return Err(NoDestination::Loop);
    }
    Ok(destination)
}

/// Whether `address` is one of our own listeners, by whatever local address it is named.
pub(crate) fn is_own(shared: &Shared, address: SocketAddr) -> bool {
    owns(&shared.own, address, |ip| shared.local_addresses.contains(ip))
}

fn owns(own: &[SocketAddr], address: SocketAddr, is_of_host: impl FnOnce(IpAddr) -> bool) -> bool {
    let address = canonical(address);
    let mut same_port = own.iter().map(|own| canonical(*own)).filter(|own| own.port() == address.port()).peekable();
    if same_port.peek().is_none() {
        return false;
    }
    same_port.any(|own| own.ip() == address.ip() || own.ip().is_unspecified() || address.ip().is_unspecified())
        && is_of_host(address.ip())
}

/// For `fuzz/`: the whole judgement, with the addresses of this host as a list.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzzed(
    found: SocketAddr,
    local: SocketAddr,
    own: &[SocketAddr],
    host: &[IpAddr],
) -> Result<SocketAddr, NoDestination> {
    usable(found, local, |address| owns(own, address, |ip| host.contains(&ip)))
}

/// An IPv4 address written as IPv6 is the IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_ipv4(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_ipv4()
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_ours_is_known_by_either_spelling_of_its_address() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for own in ["10.0.0.2:15006", "[::ffff:10.0.0.2]:15006", "0.0.0.0:15006", "[::]:15006"] {
            for address in ["10.0.0.2:15006", "[::ffff:10.0.0.2]:15006"] {
                let found = usable(at(address), at("10.0.0.2:15001"), |address| owns(&[at(own)], address, |_| true));
                assert_eq!(found, Err(NoDestination::Loop), "{address} beside {own}");
            }
            assert_eq!(
                usable(at("10.0.0.2:80"), at("10.0.0.2:15001"), |address| owns(&[at(own)], address, |_| true)),
                Ok(at("10.0.0.2:80"))
            );
        }
    }
}

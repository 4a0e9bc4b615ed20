//! Opening listeners: every one before anything is served, so that a taken port is an error at start and not later.

use config::Listen;
use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr};

/// Connections the kernel may queue before we accept them.
const BACKLOG: i32 = 4096;

/// Opens `address`. `Ok(None)`: the address was a default, and the host lacks its family.
pub(crate) fn open(address: Listen) -> io::Result<Option<std::net::TcpListener>> {
    match bind(address.addr) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if address.defaulted && lacks_family(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Each family has a listener of its own: an address means what it says.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections to leave TIME_WAIT. This does not let two proxies share a port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A family that the kernel does not have, or no interface, loopback included.
fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Addresses for documentation, of both families: no host has them.
    #[test]
    fn a_default_of_an_absent_family_is_left_out_and_a_written_one_is_an_error() {
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            let addr = address.parse().unwrap();
            assert!(open(Listen { addr, defaulted: true }).unwrap().is_none(), "{address}");
            assert!(open(Listen { addr, defaulted: false }).is_err(), "{address}");
        }
    }
}

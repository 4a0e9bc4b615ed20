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
        Err(error) if address.defaulted && lacks_family(&error, address.addr) => Ok(None),
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

fn lacks_family(error: &io::Error, address: SocketAddr) -> bool {
    address.is_ipv6() && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

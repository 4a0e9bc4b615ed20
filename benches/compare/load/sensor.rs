//! The sensor of a tap: takes every packet and throws it away, or takes none.

use std::net::SocketAddr;

/// Receives until the process is killed.
pub(crate) fn serve(address: SocketAddr) {
    let socket = support::wire::roomy_udp(address);
    let mut packet = [0; 65536];
    while socket.recv(&mut packet).is_ok() {}
}

/// Holds the port and reads nothing until the process is killed.
pub(crate) fn ignore(address: SocketAddr) {
    let _socket = support::wire::roomy_udp(address);
    loop {
        std::thread::park();
    }
}

//! The few system calls that no safe interface offers: options of the tap's socket, `sendmmsg`, the error queue,
//! the thread's priority.
//!
//! Every block passes pointers to live local values with their true sizes and keeps none after the call. In and out: plain
//! Rust values; errors are what the system said.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

/// Most datagrams one call sends. A larger burst overruns a sensor's ring or socket buffer.
pub const BATCH: usize = 32;

/// Sets what the tap's socket needs: no outer UDP checksum, errors into the error queue, never fragment.
pub fn prepare(socket: &UdpSocket, v6: bool) -> io::Result<()> {
    if v6 {
        // A zero checksum is allowed for tunnels over IPv6 (RFC 6935, RFC 6936).
        set(socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX, 1)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    } else {
        // RFC 7348 section 5: the outer checksum should be zero. On a veth pair an offloaded one would never be
        // completed, and Zeek drops a packet with a wrong one.
        set(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)?;
        // Without it the kernel accepts datagrams and drops them behind our back; with it the send says ENOBUFS.
        set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    }
}

/// Sets what a receiving socket needs: room for bursts, and zero checksums over IPv6, which the kernel drops
/// otherwise (RFC 6935 section 5).
pub fn prepare_receiver(socket: &UdpSocket, v6: bool) -> io::Result<()> {
    // The kernel cuts this to its own limit (net.core.rmem_max), but not for who has CAP_NET_ADMIN.
    let room = |option| set(socket, libc::SOL_SOCKET, option, 4 * 1024 * 1024);
    room(libc::SO_RCVBUFFORCE).or_else(|_| room(libc::SO_RCVBUF))?;
    if v6 { set(socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1) } else { Ok(()) }
}

/// The path MTU that the routing table knows for a connected socket, in bytes.
pub fn route_mtu(connected: &UdpSocket, v6: bool) -> io::Result<u32> {
    let (level, option) = if v6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU) } else { (libc::IPPROTO_IP, libc::IP_MTU) };
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // Needed: std has no getter for these options. Sound: the descriptor is open for the borrow's time; `value` and
    // `length` are live, and `length` states `value`'s size, so the kernel writes within both.
    let result = unsafe {
        libc::getsockopt(connected.as_raw_fd(), level, option, ptr::from_mut(&mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value.max(0) as u32) } else { Err(io::Error::last_os_error()) }
}

/// Sends up to [`BATCH`] datagrams to one address, each in its own packet. Returns how many the kernel took; the
/// rest was not sent.
pub fn send_batch(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) -> io::Result<usize> {
    // Needed (all three blocks): std sends one datagram per call. Sound: these are C structures of integers and
    // pointers, for which all-zero bytes are a valid value.
    let mut address: libc::sockaddr_storage = unsafe { zeroed() };
    let address_len = write_address(to, &mut address);
    let name = (&raw mut address).cast::<c_void>();
    let mut parts: [libc::iovec; BATCH] = unsafe { zeroed() };
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    for ((datagram, part), header) in datagrams.iter().zip(&mut parts).zip(&mut headers) {
        part.iov_base = datagram.as_ptr().cast_mut().cast();
        part.iov_len = datagram.len();
        header.msg_hdr.msg_name = name;
        header.msg_hdr.msg_namelen = address_len;
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // Sound: the descriptor is open for the borrow's time. `count` headers are filled; each points to `address`, to
    // its element of `parts` and through it to a borrowed buffer with that buffer's length. All of them live until the
    // call returns, none moves in between, and sending only reads them, apart from `msg_len` in `headers`.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Takes every message off the socket's error queue; returns how many there were.
pub fn drain_errors(socket: &UdpSocket) -> u64 {
    let mut scrap = [0u8; 1];
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    let mut drained = 0;
    // Bounded, so that a flood of ICMP cannot hold the thread.
    while drained < 1024 {
        // Needed: std cannot read the error queue. Sound: the descriptor is open for the borrow's time, the buffer is
        // live and its true length is given; a longer message is cut by the kernel.
        let result = unsafe { libc::recv(socket.as_raw_fd(), scrap.as_mut_ptr().cast::<c_void>(), scrap.len(), flags) };
        if result < 0 {
            break;
        }
        drained += 1;
    }
    drained
}

/// Lets every other thread of the process go first. Failing is harmless and not reported.
pub fn lower_priority() {
    // Needed: std knows no priorities. Sound: takes integers only. On Linux `PRIO_PROCESS` with 0 means the calling
    // thread; raising the nice value needs no right.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

fn set(socket: &UdpSocket, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // Needed: std has no setter for these options. Sound: the descriptor is open for the borrow's time, `value` is
    // live, its true size is given, and the kernel only reads it.
    let result = unsafe {
        let length = size_of::<c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(&value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes a socket address as C has it; returns its length.
fn write_address(address: SocketAddr, into: &mut libc::sockaddr_storage) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            let c = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // Needed: C lays one address type over another. Sound: `sockaddr_storage` is at least as large as any
            // socket address and aligned for each; `into` is ours to write.
            unsafe { ptr::from_mut(into).cast::<libc::sockaddr_in>().write(c) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let c = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // Needed and sound as above.
            unsafe { ptr::from_mut(into).cast::<libc::sockaddr_in6>().write(c) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

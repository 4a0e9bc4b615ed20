//! What a TCP stream tells about the bytes given to it, how it is ended at once, and a pipe that does not wait.
//!
//! In and out: plain Rust values; errors are what the system said.

use std::ffi::{c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;

/// Bytes written that the other host has not acknowledged. Still known after the connection has broken.
pub fn unacknowledged(stream: &TcpStream) -> io::Result<u64> {
    let mut value: c_int = 0;
    // Needed: std has no such question. Sound: the descriptor is open for the borrow's time, and SIOCOUTQ (the number
    // of TIOCOUTQ) writes one int, which `value` is.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut value) };
    if result == 0 { Ok(value.max(0) as u64) } else { Err(io::Error::last_os_error()) }
}

/// Bounds what the kernel holds of bytes written. It doubles the number for its own needs.
pub fn set_send_buffer(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    let value = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    set(stream, libc::SO_SNDBUF, &value)
}

/// From now on closing means a reset: what the other host does not have yet it will never get.
pub fn abort_on_close(stream: &TcpStream) -> io::Result<()> {
    set(stream, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Opens a named pipe for writing that never waits. `None`: nobody reads it.
///
/// # Errors
/// What the system said; `InvalidInput` for a file that is no pipe.
pub fn open_pipe(path: &Path) -> io::Result<Option<File>> {
    if !path.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no named pipe"));
    }
    match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

fn set<T>(stream: &TcpStream, option: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let value = ptr::from_ref(value).cast::<c_void>();
    // Needed: std has no setter for these options. Sound: the descriptor is open for the borrow's time; `value` is live,
    // its true size is given, and the kernel only reads it.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, option, value, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn what_a_reader_did_not_take_is_known_after_it_has_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        stream.write_all(b"abc").unwrap();
        reader.read_exact(&mut [0; 3]).unwrap();
        while unacknowledged(&stream).unwrap() > 0 {
            std::thread::yield_now();
        }
        set_send_buffer(&stream, 1 << 20).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut written = 0_u64;
        while let Ok(count) = stream.write(&[0; 65_536]) {
            written += count as u64;
        }
        let before = unacknowledged(&stream).unwrap();
        assert!(before > 0 && before < written);
        abort_on_close(&reader).unwrap();
        drop(reader);
        while stream.write(&[0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            std::thread::yield_now();
        }
        assert_eq!(unacknowledged(&stream).unwrap(), before);
    }
}

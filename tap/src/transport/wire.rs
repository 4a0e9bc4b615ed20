//! A stream in plain TCP, and what any other stands on.
//!
//! The kernel keeps what the receiver has not acknowledged, and says how much that is, even when the connection is broken.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::transport::link::{Connect, Link};
use sys::streams;

/// Dials.
#[derive(Debug)]
pub(crate) struct Dialler;

impl Connect for Dialler {
    fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Link>> {
        Ok(Box::new(Wire::connect(to)?))
    }
}

/// A TCP connection to a receiver. It never waits, unless it is told to. What secures a stream stands on one of these:
/// [`Link::acknowledged`] then counts its own bytes.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    taken: u64,
}

impl Wire {
    /// Dials; waits for three seconds.
    ///
    /// # Errors
    /// What the system said.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect_timeout(&to, CONNECT)?)
    }

    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        streams::set_send_buffer(&stream, SEND_BUFFER)?;
        Ok(Self { stream, taken: 0 })
    }

    /// Reads and writes wait for so long, for a handshake; or not at all.
    ///
    /// # Errors
    /// What the system said.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(limit)?;
        self.stream.set_write_timeout(limit)?;
        self.stream.set_nonblocking(limit.is_none())
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.taken += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Link for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn acknowledged(&mut self) -> u64 {
        // An error cannot be; if it is, nothing is claimed to have arrived.
        let waiting = streams::unacknowledged(&self.stream).unwrap_or(u64::MAX);
        self.taken.saturating_sub(waiting)
    }

    fn listen(&mut self) -> io::Result<()> {
        let mut scrap = [0; 512];
        match self.stream.read(&mut scrap) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if is_for_later(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn close(&mut self, in_order: bool) {
        if !in_order {
            // If it fails, the connection is gone already.
            let _ = streams::abort_on_close(&self.stream);
        }
    }
}

/// It is to be tried again.
pub(crate) fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// How long a receiver may take to answer.
const CONNECT: Duration = Duration::from_secs(3);
/// Bytes of a stream that the kernel holds, before it doubles them: what is lost when a receiver dies, and 2 ms at 1 Gbit/s.
const SEND_BUFFER: u32 = 256 * 1024;

//! A stream in plain TCP.
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
        Ok(Box::new(Plain::new(TcpStream::connect_timeout(&to, CONNECT)?)?))
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Plain {
    stream: TcpStream,
    taken: u64,
}

impl Plain {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        streams::set_send_buffer(&stream, SEND_BUFFER)?;
        Ok(Self { stream, taken: 0 })
    }
}

impl Link for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.taken += count as u64;
        Ok(count)
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

//! One HTTP/1.1 connection of a caller, plain or with mutual TLS, that sends exact bytes and reads whole answers.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;
use support::message::{self, Kind, Message};
use support::pair::HOST;
use support::wire::QUIET;
use support::{tls, wire};

trait Pipe: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Pipe for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Pipe for tls::Stream {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// A connection.
pub(crate) struct Line {
    reader: BufReader<Box<dyn Pipe>>,
}

impl Line {
    /// Plain, to the caller's sidecar.
    pub(crate) fn plain(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, QUIET)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(QUIET))?;
        stream.set_write_timeout(Some(QUIET))?;
        Ok(Self { reader: BufReader::new(Box::new(stream)) })
    }

    /// With mutual TLS, to the callee.
    pub(crate) fn mtls(to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let stream = tls::shake_hands(Arc::clone(config), to)?;
        Ok(Self { reader: BufReader::new(Box::new(stream)) })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)?;
        self.reader.get_mut().flush()
    }

    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        loop {
            let answer = message::read(&mut self.reader, Kind::Response)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if !(102..200).contains(&answer.status()) && answer.status() != 100 {
                return Ok(answer);
            }
        }
    }

    /// One request with these fields and body, and its answer.
    pub(crate) fn ask(&mut self, method: &str, target: &str, fields: &str, body: &[u8]) -> io::Result<Message> {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes)?;
        self.receive()
    }

    /// Reads exactly so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Leaves by a reset.
    pub(crate) fn reset(self) {
        wire::reset_when_closed(self.reader.get_ref().socket());
    }
}

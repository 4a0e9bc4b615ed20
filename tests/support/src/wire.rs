//! Exact bytes over plain TCP: what goes out is what the test wrote, what comes back is all that came.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::message::{self, Kind, Message};

/// How long a raw exchange waits for more.
pub const QUIET: Duration = Duration::from_secs(10);

/// How a connection ended, from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed it in order.
    Closed,
    /// The peer reset it.
    Reset,
    /// Nothing more came for the time given.
    Quiet,
    /// There was nobody to connect to.
    Refused,
}

/// Sends `bytes`, then reads until the peer closes or says nothing for `quiet`.
pub fn exchange(to: SocketAddr, bytes: &[u8], quiet: Duration) -> (Vec<u8>, End) {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, QUIET) else {
        return (Vec::new(), End::Refused);
    };
    stream.set_read_timeout(Some(quiet)).unwrap();
    stream.set_nodelay(true).unwrap();
    if stream.write_all(bytes).is_err() {
        return (Vec::new(), End::Reset);
    }
    let mut received = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (received, End::Closed),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if is_timeout(&error) => return (received, End::Quiet),
            Err(_) => return (received, End::Reset),
        }
    }
}

/// A UDP socket with as much room as the kernel gives: its default holds some ninety full packets, and one body at the
/// tap's limit is more than that.
#[must_use]
pub fn roomy_udp(addr: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20).unwrap();
    socket
}

/// A TCP socket that will connect from `source`: another address of the loopback network is another host to a peer.
#[must_use]
pub fn bound(source: SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&source.into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket
}

/// Makes the close of this socket a reset.
pub fn reset_when_closed(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends one request as raw bytes and reads one whole response.
pub fn request(to: SocketAddr, bytes: &[u8]) -> io::Result<Message> {
    let mut connection = Connection::open(to)?;
    let head = bytes.starts_with(b"HEAD ");
    connection.send(bytes)?;
    connection.receive_as(if head { Kind::HeadResponse } else { Kind::Response })
}

/// `GET path` with a Host, on a connection of its own.
pub fn get(to: SocketAddr, host: &str, path: &str) -> io::Result<Message> {
    request(to, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
}

/// One kept connection that sends exact bytes and reads whole responses.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; reads and writes give up after [`QUIET`].
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, QUIET)?;
        stream.set_read_timeout(Some(QUIET))?;
        stream.set_write_timeout(Some(QUIET))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one response, interim or final.
    pub fn receive_any(&mut self) -> io::Result<Message> {
        message::read(&mut self.reader, Kind::Response)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed before an answer"))
    }

    /// Reads the response to a HEAD request.
    pub fn receive_head(&mut self) -> io::Result<Message> {
        self.receive_as(Kind::HeadResponse)
    }

    /// Reads all that still comes, until the peer closes or says nothing for [`QUIET`].
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut received = Vec::new();
        match self.reader.read_to_end(&mut received) {
            Ok(_) => (received, End::Closed),
            Err(error) if is_timeout(&error) => (received, End::Quiet),
            Err(_) => (received, End::Reset),
        }
    }

    /// The same with another patience.
    pub fn rest_within(&mut self, limit: Duration) -> (Vec<u8>, End) {
        self.reader.get_mut().set_read_timeout(Some(limit)).unwrap();
        self.rest()
    }

    /// The socket, for a thread that writes while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.reader.get_ref().try_clone().unwrap()
    }

    /// Reads one response, with its body; interim 1xx answers are skipped.
    pub fn receive(&mut self) -> io::Result<Message> {
        self.receive_as(Kind::Response)
    }

    /// Whether the peer has closed this connection, waiting up to `limit` for that.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.reader.get_mut().set_read_timeout(Some(limit)).unwrap();
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !is_timeout(&error),
        }
    }

    fn receive_as(&mut self, kind: Kind) -> io::Result<Message> {
        loop {
            let message = message::read(&mut self.reader, kind)?
                .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed before an answer"))?;
            if !(100..200).contains(&message.status()) {
                return Ok(message);
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

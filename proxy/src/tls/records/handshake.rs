//! A handshake: carries bytes between a socket and rustls until both sides have agreed on keys.
//!
//! rustls is given the peer's records one at a time. So when it says that the handshake is complete, it has seen nothing that
//! follows, and every byte after the last handshake record is still here for whoever reads next.

use super::{HEADER, Records, Tls12, source::Source};
use rustls::{
    ClientConfig, CommonState, Error, ExtractedSecrets, ProtocolVersion, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A handshake under way, or just completed.
pub(in crate::tls) struct Handshake {
    tcp: TcpStream,
    exchange: Exchange,
}

/// A connection after its handshake, by the version it speaks.
pub(in crate::tls) enum Established {
    Tls13(Box<Records>),
    Tls12(Box<Tls12>),
}

impl Handshake {
    /// Accepts: the peer is the client.
    pub(in crate::tls) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(invalid)?;
        Self::run(tcp, Connection::Server(Box::new(connection))).await
    }

    /// Connects: the peer is the server.
    pub(in crate::tls) async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        Self::run(tcp, Connection::Client(Box::new(connection))).await
    }

    /// What was agreed. To be read now: a connection does not keep it.
    pub(in crate::tls) fn facts(&self) -> &CommonState {
        self.exchange.connection.facts()
    }

    /// Ends rustls' part.
    pub(in crate::tls) fn finish(self) -> Result<Established, Error> {
        let is_tls13 = self.is_tls13();
        let Exchange { connection, input, output, .. } = self.exchange;
        if !is_tls13 {
            return Ok(Established::Tls12(Box::new(Tls12::new(self.tcp, connection, input))));
        }
        let (secrets, source) = connection.into_source()?;
        // What the peer has sent already keeps its bytes, not the room they were read into.
        let received = if input.is_empty() { Vec::new() } else { input.as_slice().to_vec() };
        Ok(Established::Tls13(Box::new(Records::new(self.tcp, secrets, source, received, output)?)))
    }

    fn is_tls13(&self) -> bool {
        self.facts().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    async fn run(tcp: TcpStream, connection: Connection) -> io::Result<Self> {
        let mut handshake = Self { tcp, exchange: Exchange::new(connection) };
        loop {
            match handshake.exchange.go_on() {
                // The end of a client's handshake, or a server's tickets, go with the first data.
                Ok(Waiting::Nothing) if handshake.is_tls13() => return Ok(handshake),
                Ok(Waiting::Nothing) => {
                    handshake.tcp.write_all(&handshake.exchange.output).await?;
                    handshake.exchange.output.clear();
                    return Ok(handshake);
                }
                Ok(Waiting::Peer) => {}
                Err(error) => {
                    // A last word, which is not waited for and must not hide the reason.
                    let _ = handshake.tcp.try_write(&handshake.exchange.output);
                    return Err(invalid(error));
                }
            }
            handshake.tcp.write_all(&handshake.exchange.output).await?;
            handshake.exchange.output.clear();
            handshake.exchange.input.reserve(READ);
            if handshake.tcp.read_buf(&mut handshake.exchange.input).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
            }
        }
    }
}

/// The handshake without the socket.
pub(super) struct Exchange {
    connection: Connection,
    /// Received, and not yet discarded by rustls.
    pub(super) input: Vec<u8>,
    /// How much of `input` is whole records that rustls has been shown. Invariant: `shown <= input.len()`.
    shown: usize,
    /// To be sent.
    pub(super) output: Vec<u8>,
}

/// What a handshake waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It is complete.
    Nothing,
    /// More bytes of the peer, who may be waiting for our output.
    Peer,
}

impl Exchange {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, input: Vec::new(), shown: 0, output: Vec::new() }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn into_parts(self) -> (Connection, Vec<u8>, Vec<u8>) {
        (self.connection, self.input, self.output)
    }

    /// Goes as far as the input allows. After an error `output` ends with the alert that says so.
    pub(super) fn go_on(&mut self) -> Result<Waiting, Error> {
        loop {
            match self.step() {
                Ok(Next::Again) => {}
                Ok(Next::Ready) if !self.connection.facts().is_handshaking() => return Ok(Waiting::Nothing),
                Ok(Next::Ready | Next::NeedsInput) => match first_record(self.not_shown()) {
                    Some(length) => self.shown += length,
                    None => return Ok(Waiting::Peer),
                },
                Ok(Next::PeerClosed | Next::Closed) => return Err(Error::HandshakeNotComplete),
                Err(error) => {
                    self.connection.last_words(&mut self.input, &mut self.output);
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self) -> Result<Next, Error> {
        // The beginning of a record is shown too: nothing is done with it, but a bad header is refused at once.
        let show = if first_record(self.not_shown()).is_some() { self.shown } else { self.input.len() };
        let input = self.input.get_mut(..show).unwrap_or_default();
        let (discard, next) = self.connection.process(input, &mut self.output, None, &mut Act::Nothing);
        self.input.drain(..discard.min(show));
        self.shown = self.shown.saturating_sub(discard);
        next
    }

    fn not_shown(&self) -> &[u8] {
        self.input.get(self.shown..).unwrap_or_default()
    }
}

/// The length of the record at the front of `bytes`, if all of it is there. Of its header only the length is read.
fn first_record(bytes: &[u8]) -> Option<usize> {
    let &[_, _, _, high, low] = bytes.first_chunk::<HEADER>()?;
    let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
    (bytes.len() >= length).then_some(length)
}

/// rustls' connection by our role in it.
pub(super) enum Connection {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// Where rustls stands.
pub(super) enum Next {
    /// It has done something and may do more with the same input.
    Again,
    /// It needs more input for its handshake.
    NeedsInput,
    /// It can take data to send, and needs more input to receive any.
    Ready,
    /// The peer has said all.
    PeerClosed,
    /// Both have.
    Closed,
}

/// What to do when data can be sent.
pub(super) enum Act<'a> {
    Nothing,
    /// Seal this; it fits one record.
    Seal(&'a [u8]),
    /// Seal a close.
    Close,
}

impl Connection {
    pub(super) fn facts(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }

    /// One step of rustls: takes from the front of `input`, and says how much of it to discard; appends to `output` what is to
    /// be sent, and to `plain` what was received. Without `plain` data is refused. `act` is done, and becomes nothing, when
    /// data can be sent.
    pub(super) fn process(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
        plain: Option<&mut Vec<u8>>,
        act: &mut Act<'_>,
    ) -> (usize, Result<Next, Error>) {
        match self {
            Self::Server(connection) => step(connection.process_tls_records(input), output, plain, act),
            Self::Client(connection) => step(connection.process_tls_records(input), output, plain, act),
        }
    }

    /// Appends to `output` what rustls has to say after an error of [`process`](Self::process): its alert.
    pub(super) fn last_words(&mut self, input: &mut [u8], output: &mut Vec<u8>) {
        // A step with something to send does only that; any other would meet the same fault again.
        for _ in 0..LAST_WORDS {
            if !self.facts().wants_write() {
                break;
            }
            let _ = self.process(input, output, Some(&mut Vec::new()), &mut Act::Nothing);
        }
    }

    /// The secrets in use and what makes the next ones. Everything else of the handshake is dropped.
    pub(super) fn into_source(self) -> Result<(ExtractedSecrets, Source), Error> {
        match self {
            Self::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Ok((secrets, Source::Server(Box::new(kernel))))
            }
            Self::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Ok((secrets, Source::Client(Box::new(kernel))))
            }
        }
    }
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    output: &mut Vec<u8>,
    plain: Option<&mut Vec<u8>>,
    act: &mut Act<'_>,
) -> (usize, Result<Next, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let next = state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(mut data) => {
            append(output, |room| match data.encode(room) {
                Err(EncodeError::InsufficientSize(short)) => Ok(Err(short.required_size)),
                Err(error) => Err(Error::General(error.to_string())),
                Ok(length) => Ok(Ok(length)),
            })?;
            Ok(Next::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Next::Again)
        }
        ConnectionState::ReadTraffic(mut data) => {
            let plain = plain.ok_or(Error::HandshakeNotComplete)?;
            while let Some(record) = data.next_record() {
                plain.extend_from_slice(record?.payload);
            }
            Ok(Next::Again)
        }
        ConnectionState::WriteTraffic(mut traffic) => {
            let act = std::mem::replace(act, Act::Nothing);
            let mut seal = |room: &mut [u8]| match act {
                Act::Nothing => Ok(0),
                Act::Seal(data) => traffic.encrypt(data, room),
                Act::Close => traffic.queue_close_notify(room),
            };
            append(output, |room| match seal(room) {
                Err(EncryptError::InsufficientSize(short)) => Ok(Err(short.required_size)),
                Err(error) => Err(Error::General(error.to_string())),
                Ok(length) => Ok(Ok(length)),
            })?;
            Ok(Next::Ready)
        }
        ConnectionState::BlockedHandshake => Ok(Next::NeedsInput),
        ConnectionState::PeerClosed => Ok(Next::PeerClosed),
        ConnectionState::Closed => Ok(Next::Closed),
        // Early data is off on both sides.
        _ => Err(Error::HandshakeNotComplete),
    });
    (discard, next)
}

/// Appends what `write` writes: it is asked once how much room it needs, and once to write.
fn append(
    output: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<Result<usize, usize>, Error>,
) -> Result<(), Error> {
    let Err(needed) = write(&mut [])? else {
        return Ok(());
    };
    let begin = output.len();
    output.resize(begin + needed, 0);
    let written = write(output.get_mut(begin..).unwrap_or_default())?;
    output.truncate(begin + written.unwrap_or(0));
    Ok(())
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Bytes asked for with one read: more than any flight but one with a very long chain.
const READ: usize = 4096;

/// Messages sent after a fault, at most: what was queued before it, and the alert.
const LAST_WORDS: usize = 16;

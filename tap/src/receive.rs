//! The other end of the tap: what an IDS would read out of the datagrams.
//!
//! In: VXLAN datagrams as they come off a UDP socket. Out: whole HTTP/1.1 messages, told from the bytes alone; this
//! room shares no code with the one that builds packets. Refuses, per datagram, what a strict receiver would drop:
//! reserved bits, wrong lengths, wrong checksums. Memory is bounded: [`MAX_FLOWS`] connections, the longest unheard
//! goes first, and 2 MiB for each direction.

mod frame;
mod stream;
mod text;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};

pub use frame::Unreadable;

use crate::record::Side;
use frame::Frame;
use stream::Stream;
use sys::datagrams;
use text::{Expect, Step};

/// Puts connections together from datagrams.
#[derive(Debug, Default)]
pub struct Receiver {
    flows: HashMap<Key, Flow>,
    /// Datagrams heard so far, the clock of "longest unheard".
    heard: u64,
}

/// One HTTP/1.1 message as it was read off the tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// VXLAN network identifier.
    pub vni: u32,
    /// Who opened the connection.
    pub client: SocketAddr,
    /// Who was called.
    pub server: SocketAddr,
    /// Who sent this message.
    pub side: Side,
    /// First line and headers, lines ended by `\n`, without the empty line. Bytes that are not UTF-8 are replaced.
    pub head: String,
    /// The body, transfer coding removed.
    pub body: Vec<u8>,
    /// Trailers, written like the headers.
    pub trailers: String,
    /// The message's end was seen; false where the connection ended first.
    pub complete: bool,
}

/// Opens a UDP socket fit for receiving a tap: large buffer, IPv6 datagrams without checksum accepted.
///
/// # Errors
/// What the system said; a taken port among it.
pub fn listen(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    datagrams::prepare_receiver(&socket, address.is_ipv6())?;
    Ok(socket)
}

impl Receiver {
    /// A receiver that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one datagram; gives back the messages that it completed.
    ///
    /// # Errors
    /// What makes the datagram unreadable. The receiver stays usable.
    pub fn datagram(&mut self, datagram: &[u8]) -> Result<Vec<Heard>, Unreadable> {
        let frame = match Frame::parse(datagram) {
            // A notice of the tap, that something was lost: no fault, and no message.
            Err(Unreadable::NotTcp) => return Ok(Vec::new()),
            parsed => parsed?,
        };
        self.heard += 1;
        let key = Key::of(&frame);
        if frame.syn && !frame.has_ack {
            self.make_room();
            self.flows.insert(key, Flow::new(&frame));
        }
        let Some(flow) = self.flows.get_mut(&key) else {
            // No SYN was heard: like Suricata, nothing is guessed.
            return Ok(Vec::new());
        };
        flow.last_heard = self.heard;
        let messages = flow.take(&frame);
        if flow.is_over() {
            self.flows.remove(&key);
        }
        Ok(messages)
    }

    fn make_room(&mut self) {
        if self.flows.len() < MAX_FLOWS {
            return;
        }
        let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.last_heard).map(|(key, _)| *key);
        oldest.and_then(|key| self.flows.remove(&key));
    }
}

impl Heard {
    /// The request or status line.
    pub fn start_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl fmt::Display for Heard {
    /// The message as text; a body that is no text is told by its length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head.trim_end())?;
        match str::from_utf8(&self.body) {
            Ok("") => {}
            Ok(text) if !text.contains(|c: char| c.is_control() && !c.is_whitespace()) => writeln!(f, "\n{text}")?,
            _ => writeln!(f, "\n[{} bytes]", self.body.len())?,
        }
        if !self.trailers.is_empty() {
            writeln!(f, "\n{}", self.trailers.trim_end())?;
        }
        if !self.complete {
            writeln!(f, "[cut short]")?;
        }
        Ok(())
    }
}

/// One connection, whichever way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    vni: u32,
    low: SocketAddr,
    high: SocketAddr,
}

impl Key {
    fn of(frame: &Frame<'_>) -> Self {
        let (a, b) = (frame.source, frame.destination);
        Self { vni: frame.vni, low: a.min(b), high: a.max(b) }
    }
}

#[derive(Debug)]
struct Flow {
    vni: u32,
    client: SocketAddr,
    server: SocketAddr,
    from_client: Stream,
    from_server: Stream,
    /// What the requests not yet answered say about their responses.
    pending: VecDeque<Expect>,
    /// Not HTTP, or not HTTP any more.
    deaf: bool,
    over: bool,
    last_heard: u64,
}

impl Flow {
    fn new(syn: &Frame<'_>) -> Self {
        Self {
            vni: syn.vni,
            client: syn.source,
            server: syn.destination,
            from_client: Stream::default(),
            from_server: Stream::default(),
            pending: VecDeque::new(),
            deaf: false,
            over: false,
            last_heard: 0,
        }
    }

    fn take(&mut self, frame: &Frame<'_>) -> Vec<Heard> {
        let side = if frame.source == self.client { Side::Client } else { Side::Server };
        let stream = self.stream(side);
        stream.take(frame.seq, frame.syn, frame.fin, frame.payload);
        if stream.is_lost() {
            self.deaf = true;
        }
        let mut messages = Vec::new();
        // A response can only be read once its request was.
        for side in [Side::Client, Side::Server] {
            self.read(side, &mut messages);
        }
        if frame.rst {
            for side in [Side::Client, Side::Server] {
                self.stream(side).cut_off();
                self.read(side, &mut messages);
            }
            self.over = true;
        }
        messages
    }

    fn read(&mut self, side: Side, messages: &mut Vec<Heard>) {
        while !self.deaf {
            let expect = match side {
                Side::Client => Expect::Request,
                Side::Server => match self.pending.front() {
                    Some(expect) => *expect,
                    None => return,
                },
            };
            let stream = self.stream(side);
            match text::next(stream.ready(), stream.has_ended(), expect) {
                Step::More => return,
                Step::NotHttp => self.deaf = true,
                Step::Message { used, message } => {
                    stream.consume(used);
                    self.follow(side, &message);
                    messages.push(Heard {
                        vni: self.vni,
                        client: self.client,
                        server: self.server,
                        side,
                        head: message.head,
                        body: message.body,
                        trailers: message.trailers,
                        complete: message.complete,
                    });
                }
            }
        }
    }

    /// Keeps requests and responses paired.
    fn follow(&mut self, side: Side, message: &text::Message) {
        match (side, message.then) {
            (Side::Client, then) => self.pending.push_back(then),
            (Side::Server, Expect::AnotherResponse) => {}
            (Side::Server, Expect::NoMoreHttp) => self.deaf = true,
            (Side::Server, _) => {
                self.pending.pop_front();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over || (self.from_client.has_ended() && self.from_server.has_ended())
    }

    fn stream(&mut self, side: Side) -> &mut Stream {
        match side {
            Side::Client => &mut self.from_client,
            Side::Server => &mut self.from_server,
        }
    }
}

/// Connections held at once.
pub const MAX_FLOWS: usize = 1024;

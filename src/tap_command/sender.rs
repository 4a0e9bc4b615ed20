//! One sender: who it is, and its frames.
//!
//! Refused, and counted by reason: one too many, a handshake that fails, an identity that is not asked for, and a stream that is no
//! capture of a tap. A sender waits for the outputs; nothing of it is kept beyond one frame and one read.

use crate::{say, tap_command::merge::Merge};
use identity::{Credentials, Svid};
use policy::IdPattern;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tap::pcap::Reader;

/// What a sender has to prove.
#[derive(Clone)]
pub(super) enum Guard {
    /// Nothing.
    Plain,
    /// One of these identities.
    Mutual(Arc<ServerConfig>, Arc<[IdPattern]>),
}

impl Guard {
    pub(super) fn mutual(credentials: &Credentials, patterns: Vec<IdPattern>) -> Result<Self, String> {
        let config = credentials.server_config(&[]).map_err(|error| error.to_string())?;
        let mut config = ServerConfig::clone(&config);
        // Our first word is that the sender is welcome; a ticket before that would be taken for it.
        config.send_tls13_tickets = 0;
        Ok(Self::Mutual(Arc::new(config), patterns.into()))
    }
}

/// Where senders come in.
pub(super) struct Door {
    guard: Mutex<Guard>,
    most: usize,
    merge: Arc<Merge>,
    inside: Mutex<HashMap<u64, TcpStream>>,
    leaving: AtomicBool,
    accepted: AtomicU64,
    refused: [AtomicU64; REASONS.len()],
    cut: AtomicU64,
}

/// Why a sender is refused.
#[derive(Clone, Copy)]
enum Reason {
    TooMany,
    Tls,
    Identity,
    Malformed,
}

const REASONS: [(Reason, &str); 4] = [
    (Reason::TooMany, "refused_too_many"),
    (Reason::Tls, "refused_tls"),
    (Reason::Identity, "refused_identity"),
    (Reason::Malformed, "refused_malformed"),
];

impl Door {
    pub(super) fn new(guard: Guard, most: usize, merge: Arc<Merge>) -> Self {
        Self {
            guard: Mutex::new(guard),
            most,
            merge,
            inside: Mutex::default(),
            leaving: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refused: Default::default(),
            cut: AtomicU64::new(0),
        }
    }

    /// Newer credentials, for those who come from now on.
    pub(super) fn renew(&self, guard: Guard) {
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = guard;
    }

    /// Senders at work.
    pub(super) fn senders(&self) -> usize {
        self.inside().len()
    }

    /// Tells every sender that we leave; each ends when it has been read.
    pub(super) fn leave(&self) {
        let inside = self.inside();
        self.leaving.store(true, Relaxed);
        for stream in inside.values() {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    pub(super) fn counters(&self) -> Value {
        let mut counters = json!({
            "now": self.senders(),
            "accepted": self.accepted.load(Relaxed),
            "cut": self.cut.load(Relaxed),
        });
        for ((_, name), count) in REASONS.iter().zip(&self.refused) {
            if let Some(object) = counters.as_object_mut() {
                object.insert((*name).to_owned(), count.load(Relaxed).into());
            }
        }
        counters
    }

    /// Lets senders in, for ever.
    pub(super) fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut number = 0;
        loop {
            let Ok((stream, peer)) = listener.accept() else {
                // Mostly no descriptor is left; some may be given back soon.
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            number += 1;
            if !self.let_in(number, &stream) {
                continue;
            }
            let door = Arc::clone(&self);
            let begun = thread::Builder::new().name(format!("sender-{number}")).stack_size(STACK).spawn(move || {
                door.serve(stream, peer);
                door.inside().remove(&number);
            });
            if begun.is_err() {
                self.inside().remove(&number);
            }
        }
    }

    fn let_in(&self, number: u64, stream: &TcpStream) -> bool {
        let mut inside = self.inside();
        if self.leaving.load(Relaxed) {
            return false;
        }
        let handle = if inside.len() < self.most { stream.try_clone().ok() } else { None };
        match handle {
            Some(handle) => inside.insert(number, handle).is_none(),
            None => {
                self.count(Reason::TooMany);
                false
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let prepared = stream.set_nodelay(true).and_then(|()| keep_alive(&stream));
        let done = match guard {
            _ if prepared.is_err() => return,
            Guard::Plain => self.read(stream, "-", peer),
            Guard::Mutual(config, patterns) => match welcome(stream, config, &patterns) {
                Ok((stream, id)) => self.read(stream, &id, peer),
                Err(refusal) => Err(refusal),
            },
        };
        if let Err((reason, detail)) = done {
            self.count(reason);
            let name = REASONS.get(reason as usize).map_or("", |(_, name)| *name);
            say::event("sender_refused", json!({ "peer": peer.to_string(), "reason": name, "detail": detail }));
        }
    }

    /// Reads to the end.
    fn read(&self, mut stream: impl Read, id: &str, peer: SocketAddr) -> Result<(), (Reason, String)> {
        self.accepted.fetch_add(1, Relaxed);
        say::event("sender", json!({ "peer": peer.to_string(), "id": id }));
        let mut reader = Reader::new();
        let mut buffer = vec![0; READ];
        let mut malformed = None;
        while malformed.is_none() {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => reader.push(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // However it ended: what came before is good.
                Err(_) => break,
            }
            let mut frames = Vec::new();
            loop {
                match reader.next_frame() {
                    Ok(Some((nanos, frame))) => frames.push((nanos, frame.to_vec())),
                    Ok(None) => break,
                    Err(error) => {
                        malformed = Some(error);
                        break;
                    }
                }
            }
            self.merge.take(frames.iter().map(|(nanos, frame)| (*nanos, &**frame)), SystemTime::now());
        }
        if let Some(error) = malformed {
            return Err((Reason::Malformed, error.to_string()));
        }
        self.cut.fetch_add(u64::from(!reader.is_between_frames()), Relaxed);
        say::event("sender_gone", json!({ "peer": peer.to_string(), "id": id }));
        Ok(())
    }

    fn count(&self, reason: Reason) {
        if let Some(cell) = self.refused.get(reason as usize) {
            cell.fetch_add(1, Relaxed);
        }
    }

    fn inside(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sender that is who it should be, told so.
type Welcome = (StreamOwned<ServerConnection, TcpStream>, String);

fn welcome(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    patterns: &[IdPattern],
) -> Result<Welcome, (Reason, String)> {
    let tls = |error: io::Error| (Reason::Tls, error.to_string());
    let until = Instant::now() + HANDSHAKE;
    stream.set_read_timeout(Some(HANDSHAKE)).map_err(tls)?;
    stream.set_write_timeout(Some(HANDSHAKE)).map_err(tls)?;
    let mut connection = ServerConnection::new(config).map_err(|error| (Reason::Tls, error.to_string()))?;
    while connection.is_handshaking() {
        if Instant::now() > until {
            return Err((Reason::Tls, "the handshake took too long".to_owned()));
        }
        // One flight at a time, so that the limit holds for all of them together.
        if connection.wants_write() {
            connection.write_tls(&mut stream).map_err(tls)?;
        } else {
            if connection.read_tls(&mut stream).map_err(tls)? == 0 {
                return Err((Reason::Tls, "it left amid the handshake".to_owned()));
            }
            if let Err(error) = connection.process_new_packets() {
                // The alert says why; it may not arrive.
                let _ = connection.write_tls(&mut stream);
                return Err((Reason::Tls, error.to_string()));
            }
        }
    }
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| (Reason::Identity, "no certificate".to_owned()))?;
    let svid = Svid::from_leaf(leaf).map_err(|error| (Reason::Identity, error.to_string()))?;
    if !patterns.iter().any(|pattern| pattern.matches(svid.id())) {
        return Err((Reason::Identity, format!("`{}` is not among --from", svid.id())));
    }
    let id = svid.id().to_string();
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(WELCOME).and_then(|()| stream.flush()).map_err(tls)?;
    stream.sock.set_read_timeout(None).map_err(tls)?;
    Ok((stream, id))
}

/// A tap may have nothing to say for hours; a host that vanished would keep its place for ever.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let often = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
    socket2::SockRef::from(stream).set_tcp_keepalive(&often)
}

/// The first and last thing a sender hears.
const WELCOME: &[u8] = b"\n";
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ: usize = 64 * 1024;
/// TLS of one sender needs far less.
const STACK: usize = 512 * 1024;

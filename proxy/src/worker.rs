//! One worker: a thread with its own runtime, and everything that its connections share without a lock.
//!
//! Nothing here is `Send`. Other threads reach a worker only through what is published ([`Shared`]) and through the channel on
//! which it receives accepted connections.

use crate::{
    buffer::Buffers,
    descriptors::Descriptors,
    http::h1::Lists,
    limits,
    live::{Current, Live, Published},
    observe::{
        access_log::Answered,
        clock::Clock,
        metrics::{DirectionCells, Names, WorkerMetrics},
        sink::{Lines, Sink},
        status::Failures,
    },
    overload::{Level, Overload, Promise},
    parties::Parties,
    shares::{Places, Shares},
    tls::{Crowd, Identity, IdentityCache, Peers},
    upstream::{Diallings, Pool},
    watch::Watches,
};
use http::HeaderValue;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// What all workers and the control side see.
pub(crate) struct Shared {
    /// Gives the operating system back what the calling thread's allocator has free.
    pub(crate) release_memory: fn(),
    pub(crate) descriptors: Descriptors,
    pub(crate) overload: Overload,
    pub(crate) shares: Shares,
    pub(crate) live: Current<Published>,
    pub(crate) identity: Current<Identity>,
    pub(crate) names: Names,
    pub(crate) sink: Sink,
    pub(crate) metrics: Vec<Arc<WorkerMetrics>>,
    pub(crate) draining: AtomicBool,
    /// Every listener is open and has a worker.
    pub(crate) serving: AtomicBool,
    /// Connections open now, over all workers.
    pub(crate) connections: AtomicUsize,
    /// Accepts that had to pause because the kernel refused a descriptor, and connections over the bound.
    pub(crate) accept_pauses: AtomicU64,
    /// Addresses of our own listeners: no connection is ever forwarded to one of them.
    pub(crate) own: Vec<SocketAddr>,
    pub(crate) started: Instant,
    pub(crate) local_addresses: LocalAddresses,
    pub(crate) failures: Failures,
}

/// Answers whether an address belongs to this host, by trying to bind it: the kernel's own answer, never stale.
#[derive(Default)]
pub(crate) struct LocalAddresses;

impl LocalAddresses {
    pub(crate) fn contains(&self, ip: std::net::IpAddr) -> bool {
        ip.is_loopback() || ip.is_unspecified() || std::net::UdpSocket::bind((ip, 0)).is_ok()
    }
}

type InForce = (u64, u64);

/// One worker.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access: Lines,
    pub(crate) refusals: Lines,
    pub(crate) clock: Clock,
    /// What its last access-log line in JSON said of its answer.
    pub(crate) answered: Answered,
    pub(crate) pool: Pool,
    pub(crate) diallings: Diallings,
    pub(crate) peers: Peers,
    pub(crate) parties: Parties,
    /// Inbound handshakes under way.
    pub(crate) handshakes: Rc<Crowd>,
    pub(crate) buffers: Buffers,
    pub(crate) lists: Lists,
    /// Streams that wait for bytes.
    pub(crate) watches: Watches,
    /// Connections that wait for their next request.
    pub(crate) connections: Watches,
    pub(crate) resolver: crate::dns::Resolver,
    live: RefCell<(u64, Rc<Live>)>,
    identity: RefCell<(u64, Rc<IdentityCache>)>,
    random: Cell<u64>,
    date: RefCell<(u64, HeaderValue)>,
    next_connection: Cell<u64>,
    turn: Cell<usize>,
    /// Bytes that were put aside since this worker last looked at how much memory there is.
    grown: Cell<usize>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        let live = (shared.live.version(), Rc::new(Live::new(shared.live.load())));
        let version = shared.identity.version();
        let identity = (version, Rc::new(IdentityCache::new(shared.identity.load(), version)));
        let mut seed = [0; 8];
        // Request ids need to be unlikely to meet, not unguessable; a failing generator leaves the clock.
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            seed = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos())
                .unwrap_or(1)
                .to_ne_bytes();
        }
        Rc::new(Self {
            access: shared.sink.access(),
            refusals: shared.sink.events(),
            clock: Clock::default(),
            answered: Answered::default(),
            shared,
            index,
            metrics,
            pool: Pool::default(),
            diallings: Diallings::default(),
            peers: Peers::default(),
            parties: Parties::default(),
            handshakes: Crowd::new(limits::HANDSHAKES),
            buffers: Buffers::default(),
            lists: Lists::default(),
            watches: Watches::default(),
            connections: Watches::default(),
            resolver: crate::dns::Resolver::default(),
            live: RefCell::new(live),
            identity: RefCell::new(identity),
            random: Cell::new(u64::from_ne_bytes(seed) | 1),
            date: RefCell::new((0, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))),
            next_connection: Cell::new(0),
            turn: Cell::new(0),
            grown: Cell::new(0),
        })
    }

    /// The snapshot in force. Costs one load unless a new one was published.
    pub(crate) fn live(&self) -> Rc<Live> {
        let version = self.shared.live.version();
        let mut live = self.live.borrow_mut();
        if live.0 != version {
            *live = (version, Rc::new(Live::new(self.shared.live.load())));
        }
        Rc::clone(&live.1)
    }

    /// The credentials in force.
    pub(crate) fn identity(&self) -> Rc<IdentityCache> {
        let version = self.shared.identity.version();
        let mut identity = self.identity.borrow_mut();
        if identity.0 != version {
            *identity = (version, Rc::new(IdentityCache::new(self.shared.identity.load(), version)));
        }
        Rc::clone(&identity.1)
    }

    /// Numbers that tell one state of rules and credentials from another.
    fn in_force(&self) -> InForce {
        (self.shared.live.version(), self.shared.identity.version())
    }

    /// The number of the credentials in force.
    pub(crate) fn identity_version(&self) -> u64 {
        self.shared.identity.version()
    }

    /// Memory for `bytes` is about to be held by somebody who has to wait. A flood can fill memory faster than the control
    /// thread gets to look, so a worker that puts much aside looks for itself.
    pub(crate) fn grows(&self, bytes: usize) {
        let grown = self.grown.get().saturating_add(bytes);
        if grown < limits::LOOK_BYTES {
            return self.grown.set(grown);
        }
        self.grown.set(0);
        if self.shared.overload.limit().is_some() {
            self.shared.overload.look(self.live().snapshot.proxy.memory_limit);
        }
    }

    /// A handshake begins.
    pub(crate) fn shakes_hands(&self) -> Promise {
        self.grows(usize::try_from(limits::HANDSHAKE_BYTES).unwrap_or(0));
        Promise::of_handshake(&self.shared)
    }

    /// How many downstream connections there may be.
    pub(crate) fn places(&self) -> Places {
        Places::new(self.live().snapshot.proxy.max_connections)
    }

    /// Connections without a request under way are not kept: the process is to end, or memory runs short.
    pub(crate) fn keeps_no_idle(&self) -> bool {
        self.is_draining() || self.shared.overload.refuses()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// The next of `count` endpoints, in turn.
    pub(crate) fn turn(&self, count: usize) -> usize {
        if count <= 1 {
            return 0;
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn % count
    }

    /// An id for a new connection, unique in this process.
    pub(crate) fn connection_id(&self) -> u64 {
        let id = self.next_connection.get() + 1;
        self.next_connection.set(id);
        (u64::try_from(self.index).unwrap_or(0) << 48) | id
    }

    /// A version 4 UUID (RFC 9562 §5.4) for `x-request-id`.
    pub(crate) fn uuid(&self) -> [u8; 36] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let high = self.random_u64() & !0xf000 | 0x4000;
        let low = self.random_u64() & !(0b11 << 62) | 0b10 << 62;
        let mut bits = u128::from(high) << 64 | u128::from(low);
        let mut text = [b'-'; 36];
        for (at, place) in text.iter_mut().enumerate().rev() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                let digit = usize::try_from(bits & 15).unwrap_or(0);
                *place = DIGITS.get(digit).copied().unwrap_or(b'0');
                bits >>= 4;
            }
        }
        text
    }

    /// xorshift64*.
    fn random_u64(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The `date` of a local reply (RFC 9110 §5.6.7), formatted once a second.
    pub(crate) fn date(&self) -> Option<HeaderValue> {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut date = self.date.borrow_mut();
        if date.0 != second
            && let Ok(value) = HeaderValue::try_from(crate::observe::clock::http_date(now))
        {
            *date = (second, value);
        }
        Some(date.1.clone())
    }

    /// What every worker does besides connections: expire idle things, and follow the rules when they change.
    pub(crate) async fn housekeeping(self: Rc<Self>) {
        let mut tick = tokio::time::interval(crate::watch::TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        // What open streams were last judged under, and since when something newer is in force.
        let mut judged = self.in_force();
        let mut newer: Option<(InForce, Instant)> = None;
        let mut tide = Tide::default();
        let mut shrunk = Instant::now();
        loop {
            tick.tick().await;
            self.metrics.alive_ms.set(u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX));
            self.watches.sweep();
            self.connections.sweep();
            let live = self.live();
            let in_force = self.in_force();
            if in_force != judged && newer.is_none() {
                newer = Some((in_force, Instant::now()));
            }
            if let Some((_, since)) = newer
                && since.elapsed() >= grace(live.snapshot.proxy.timeouts.revoke_within)
            {
                judged = in_force;
                newer = None;
                self.watches.raise();
                self.connections.wake_all();
            }
            let level = self.shared.overload.level();
            self.watches.hurry(level == Level::Cut);
            self.connections.hurry(level == Level::Cut);
            if self.keeps_no_idle() {
                // Idle connections end once they have been idle for a moment; each looks at that itself.
                self.connections.wake_all();
            }
            let short = level >= Level::Shrink && shrunk.elapsed() >= limits::SHRINK;
            if tide.is_out(self.ended_connections()) || short {
                shrunk = Instant::now();
                self.buffers.shrink();
                self.watches.shrink();
                self.connections.shrink();
                (self.shared.release_memory)();
            }
            if swept.elapsed() >= limits::SWEEP {
                swept = Instant::now();
                self.pool.sweep(live.snapshot.proxy.timeouts.pool_idle);
                self.peers.sweep();
                self.parties.sweep();
            }
        }
    }
}

impl Worker {
    /// Connections of this worker that have ended, up and down.
    fn ended_connections(&self) -> u64 {
        let ended = |cells: &DirectionCells| cells.connections.get().saturating_sub(cells.connections_active.get());
        ended(&self.metrics.inbound) + ended(&self.metrics.outbound) + self.pool.closed()
    }
}

/// Tells when a burst of connections is over, so that its memory can be given back: what an idle allocator keeps, it keeps for
/// ever.
#[derive(Default)]
struct Tide {
    /// Connections that had ended when memory was last given back.
    settled: u64,
    last: u64,
    /// Once after the start, whose memory is not needed again either.
    begun: bool,
}

impl Tide {
    /// `ended` counts the connections that have ended, of all time: a burst may begin and end between two looks.
    fn is_out(&mut self, ended: u64) -> bool {
        let falling = ended != self.last;
        self.last = ended;
        let out = !self.begun || (!falling && ended.saturating_sub(self.settled) >= limits::BURST);
        if out {
            self.begun = true;
            self.settled = ended;
        }
        out
    }
}

/// Short requests may finish under the rules they were permitted by; what is still open after half of `revoke_within` is
/// judged again, so that it has ended when `revoke_within` is over.
fn grace(revoke_within: Duration) -> Duration {
    revoke_within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_a_burst_is_over() {
        let mut tide = Tide::default();
        assert!(tide.is_out(0), "what the start has left");
        assert!(!tide.is_out(0));
        assert!(!tide.is_out(500), "still falling");
        assert!(!tide.is_out(1000));
        assert!(tide.is_out(1000));
        assert!(!tide.is_out(1000));
        assert!(!tide.is_out(1050));
        assert!(!tide.is_out(1050), "a few more or less are no burst");
        assert!(!tide.is_out(1064));
        assert!(tide.is_out(1064), "unless they add up");
    }
}

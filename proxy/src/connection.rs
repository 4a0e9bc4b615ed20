//! One downstream connection: who is at the other end, where it came in, and what it is doing now.
//!
//! The peer, if there is one, is proved before this is made, and never changes during the connection's life.

use crate::{
    detect::Detected,
    http::Total,
    live::Live,
    observe::{access_log::Ending, metrics::DirectionCells},
    parties::{Name, Remembered},
    shares::Share,
    stream::Stream,
    tap_selection::{Callee, Opening, Sampled},
    tls::{Peer, TlsFacts},
    upstream::Route,
    watch::Place,
    worker::Worker,
};
use http::HeaderValue;
use identity::SpiffeId;
use policy::{Direction, Party};
use std::{
    cell::{Cell, OnceCell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

/// A connection whose peer and protocol are known.
pub(crate) struct Opened {
    pub(crate) connection: Rc<Connection>,
    pub(crate) stream: Stream,
    pub(crate) detected: Detected,
}

/// What a handshake proved, and under which credentials.
pub(crate) struct Proved {
    pub(crate) peer: Peer,
    pub(crate) facts: TlsFacts,
    /// The credentials that the handshake began with.
    pub(crate) version: u64,
    /// Its place among the connections of its identity.
    pub(crate) share: Share,
}

/// By which door it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// From other workloads, for our application.
    Inbound,
    /// From our application, by the captured or explicit outbound listener.
    Outbound,
    /// From our application, by the local listener of one service.
    Service(SocketAddr),
}

/// The taps that may copy something of a connection, one bit for each, by their places in the file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Picked {
    /// Of the rules; 0 is none.
    generation: u64,
    pub(crate) selected: u64,
    /// Of these, the ones whose sample leaves this connection out.
    pub(crate) sampled_out: u64,
}

/// What an HTTP/1.1 connection is doing, for the timer that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between requests.
    Idle,
    /// The first bytes of a request head have come.
    Head,
    /// A request is being served.
    Busy,
}

/// A downstream connection.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) id: u64,
    pub(crate) entry: Entry,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) original_dst: Option<SocketAddr>,
    pub(crate) peer: Option<Peer>,
    pub(crate) tls: Option<TlsFacts>,
    /// The `x-forwarded-client-cert` element of this peer; the same for all its requests.
    pub(crate) xfcc: Option<HeaderValue>,
    pub(crate) started: Instant,
    pub(crate) phase: Cell<Phase>,
    pub(crate) active: Cell<usize>,
    pub(crate) place: Place,
    /// What all its log lines have in common, and for which generation of the rules.
    log_prefix: RefCell<(u64, Box<[u8]>)>,
    /// How its last log line ended.
    pub(crate) log_ending: RefCell<Option<Box<Ending>>>,
    /// The route to where this connection wants to go, and for which generation of the rules and which name it was made.
    route: RefCell<Option<(u64, u32, Arc<Route>)>>,
    party: Remembered,
    /// What waits of its responses, when it is HTTP/2.
    pub(crate) waiting: OnceCell<Total>,
    /// Under which credentials the peer was last checked, and with what result.
    trusted: Cell<(u64, bool)>,
    /// When the peer's certificate ends.
    peer_ends: Option<Instant>,
    /// A request began after that.
    outlived: Cell<bool>,
    picked: Cell<Picked>,
    copied: Cell<bool>,
    /// Exchanges begun.
    exchanges: Cell<u32>,
    /// Held for the connection's life.
    _share: Option<Share>,
}

impl Connection {
    pub(crate) fn new(
        worker: Rc<Worker>,
        entry: Entry,
        remote: SocketAddr,
        local: SocketAddr,
        original_dst: Option<SocketAddr>,
        proved: Option<Proved>,
    ) -> Rc<Self> {
        // The handshake has checked the peer under the credentials it began with, which may not be the newest any more.
        let version = proved.as_ref().map_or_else(|| worker.identity_version(), |proved| proved.version);
        let own = worker.identity();
        let xfcc = proved.as_ref().and_then(|proved| proved.peer.xfcc(own.id()));
        let (peer, tls, share) = match proved {
            None => (None, None, None),
            Some(Proved { peer, facts, share, .. }) => (Some(peer), Some(facts), Some(share)),
        };
        let started = Instant::now();
        let peer_ends = peer.as_ref().and_then(|peer: &Peer| started.checked_add(peer.left(SystemTime::now())));
        let connection = Rc::new(Self {
            id: worker.connection_id(),
            worker,
            entry,
            remote,
            local,
            original_dst,
            peer,
            tls,
            xfcc,
            started,
            phase: Cell::new(Phase::Idle),
            active: Cell::new(0),
            place: Place::default(),
            route: RefCell::new(None),
            log_prefix: RefCell::default(),
            log_ending: RefCell::default(),
            party: Remembered::default(),
            waiting: OnceCell::new(),
            trusted: Cell::new((version, true)),
            peer_ends,
            outlived: Cell::new(false),
            picked: Cell::default(),
            copied: Cell::default(),
            exchanges: Cell::default(),
            _share: share,
        });
        connection.cells().connections.inc();
        connection.cells().connections_active.inc();
        connection
    }

    pub(crate) fn is_inbound(&self) -> bool {
        self.entry == Entry::Inbound
    }

    pub(crate) fn direction(&self) -> Direction {
        if self.is_inbound() { Direction::Inbound } else { Direction::Outbound }
    }

    pub(crate) fn cells(&self) -> &DirectionCells {
        self.worker.metrics.direction(self.is_inbound())
    }

    /// The port as rules see it. Inbound: the application's. Outbound: the one the application dialled.
    pub(crate) fn rule_port(&self) -> u16 {
        match (self.entry, self.original_dst) {
            (_, Some(destination)) => destination.port(),
            (Entry::Inbound, None) => self.worker.live().snapshot.app.as_ref().map_or(0, |app| app.address.port()),
            (Entry::Outbound | Entry::Service(_), None) => self.local.port(),
        }
    }

    /// The server end of the copied conversation. Inbound: our own address with the application's port, so that an IDS can
    /// apply its rules by port. Outbound: what the application dialled, or the first known address of the one service that
    /// a local listener stands for.
    pub(crate) fn server_for_tap(&self, live: &Live) -> SocketAddr {
        if let (Entry::Service(bind), None) = (self.entry, self.original_dst)
            && let Some(service) = live.service_by_bind(bind).and_then(|at| live.snapshot.services.get(at))
        {
            let endpoints = service.endpoints.iter().filter_map(|endpoint| match endpoint {
                config::Endpoint::Socket(address) => Some(*address),
                config::Endpoint::Name { .. } => None,
            });
            if let Some(known) = service.addresses.iter().copied().chain(endpoints).next() {
                return known;
            }
        }
        let ip: IpAddr = self.original_dst.map_or(self.local.ip(), |destination| destination.ip());
        SocketAddr::new(ip, self.rule_port())
    }

    /// The ends of this connection on the wire, as both of them know it.
    pub(crate) fn wire(&self) -> (SocketAddr, SocketAddr) {
        (self.remote, self.original_dst.unwrap_or(self.local))
    }

    /// Which taps may copy something of this connection, as far as could be told when it opened. Found once for each
    /// generation of the rules.
    pub(crate) fn picked(&self, live: &Live) -> Picked {
        let kept = self.picked.get();
        if kept.generation == live.generation {
            return kept;
        }
        let opening = Opening {
            direction: self.direction(),
            caller: if self.is_inbound() { self.peer.as_ref().map(Peer::id) } else { Some(&live.snapshot.workload) },
            callee: self.callee(live),
            port: self.rule_port(),
            wire: self.is_inbound().then(|| self.wire()),
        };
        let mut picked = Picked { generation: live.generation, selected: 0, sampled_out: 0 };
        for (place, tapped) in live.taps.iter().enumerate().take(64) {
            if tapped.selection.of_connection(&opening) {
                picked.selected |= 1 << place;
                if tapped.selection.sample_of_connection(&opening) == Sampled::Out {
                    picked.sampled_out |= 1 << place;
                }
            }
        }
        self.picked.set(picked);
        picked
    }

    /// Who is called by this connection, if that is known before any request.
    pub(crate) fn callee<'a>(&self, live: &'a Live) -> Callee<'a> {
        let service = match (self.entry, self.original_dst) {
            (Entry::Inbound, _) => return Callee::Is(Some(&live.snapshot.workload)),
            (Entry::Service(bind), _) => live.service_by_bind(bind),
            (Entry::Outbound, Some(destination)) => live.service_by_address(destination),
            (Entry::Outbound, None) => None,
        };
        let service = service.and_then(|at| live.snapshot.services.get(at));
        service.map_or(Callee::Late, |service| Callee::Is(Some(&service.identity)))
    }

    /// A tap got something of this connection, and is to hear of its end.
    pub(crate) fn is_copied(&self) {
        self.copied.set(true);
    }

    /// Whether the bundle in force still trusts the peer. Costs one comparison unless the credentials have changed.
    pub(crate) fn is_trusted(&self) -> bool {
        let version = self.worker.identity_version();
        let (checked, trusted) = self.trusted.get();
        if checked == version {
            return trusted;
        }
        let trusted = self
            .peer
            .as_ref()
            .is_none_or(|peer| peer.is_trusted_by(self.worker.identity().bundle(), identity::Usage::Client));
        self.trusted.set((version, trusted));
        trusted
    }

    /// A request began at this time.
    pub(crate) fn serves(&self, at: Instant) {
        if self.peer_ends.is_some_and(|end| at >= end) {
            self.outlived.set(true);
        }
    }

    /// Whether it ends in order once what is under way is over: the process is to end, or the peer's certificate has ended. That is
    /// not held against the connection; but its root may leave the bundle now that nobody should need it, and then
    /// [`is_trusted`](Self::is_trusted) would refuse a request. A caller told in time comes again with its next certificate.
    pub(crate) fn says_goodbye(&self) -> bool {
        self.outlived.get() || self.worker.is_draining()
    }

    /// Whom a judgement under `live` is about: the caller, or who must answer.
    pub(crate) fn party(&self, live: &Live, peer: Option<&SpiffeId>, ip: Option<IpAddr>) -> Rc<Party> {
        let name = Name { direction: self.direction(), peer, ip };
        self.party.party(&self.worker.parties, &live.snapshot.rules, name)
    }

    /// Gives `with` what all log lines of this connection have in common, made by `make` once for each generation of the rules.
    pub(crate) fn log_prefix(&self, live: &Live, make: impl FnOnce(&mut Vec<u8>), with: impl FnOnce(&[u8])) {
        let mut kept = self.log_prefix.borrow_mut();
        if kept.0 != live.generation {
            let mut prefix = Vec::with_capacity(512);
            make(&mut prefix);
            *kept = (live.generation, prefix.into());
        }
        with(&kept.1);
    }

    /// The route of this name to this connection's original destination. Nearly all requests of a connection have the same
    /// one, so the last is kept.
    pub(crate) fn route_of(&self, live: &Live, name: u32, make: impl FnOnce() -> Route) -> Arc<Route> {
        let mut kept = self.route.borrow_mut();
        match &*kept {
            Some((generation, of, route)) if (*generation, *of) == (live.generation, name) => Arc::clone(route),
            _ => {
                let route = Arc::new(make());
                *kept = Some((live.generation, name, Arc::clone(&route)));
                route
            }
        }
    }

    /// The number of an exchange that begins, from 1.
    pub(crate) fn number(&self) -> u32 {
        let number = self.exchanges.get().wrapping_add(1);
        self.exchanges.set(number);
        number
    }

    /// An exchange began.
    pub(crate) fn begin(&self) {
        self.active.set(self.active.get() + 1);
        self.enter(Phase::Busy);
    }

    /// An exchange is over.
    pub(crate) fn end(&self) {
        let active = self.active.get().saturating_sub(1);
        self.active.set(active);
        if active == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// Bytes moved: the connection's timer starts again.
    pub(crate) fn moved(&self) {
        self.worker.connections.moved(&self.place);
    }

    /// The phase changed: the connection's timer starts again.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.worker.connections.moved(&self.place);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.connections.leave(&self.place);
        self.cells().connections_active.dec();
        if self.copied.get() {
            for tapped in &self.worker.live().taps {
                tapped.tap.closed(self.id);
            }
        }
    }
}

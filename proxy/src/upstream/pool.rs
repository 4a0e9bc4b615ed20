//! Idle upstream connections of one worker, and the lease under which one is used.
//!
//! No other worker sees them, so there is no lock. HTTP/1.1 connections are taken out for one request at a time; an HTTP/2
//! connection stays in the pool and is shared. A connection is only used again under the credentials, the expected identity
//! and the route it was made for.

use super::{connection::Upstream, dial::Opened};
use crate::{
    http::{Http, h1},
    limits,
    observe::metrics::Mix,
    tls::{Negotiated, Peer},
    worker::Worker,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    net::SocketAddr,
    rc::Rc,
    task::Context,
    time::Duration,
};

/// What must be the same for a connection to be used again.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) route: u32,
    pub(crate) address: SocketAddr,
    pub(crate) http: Http,
}

impl Hash for Key {
    /// Routes are few and numbered by us, and endpoints of one route differ by port or are few: no peer chooses a key, so the
    /// hash need not withstand one.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.route);
        state.write_u32(u32::from(self.address.port()));
    }
}

/// The pool.
#[derive(Default)]
pub(crate) struct Pool {
    places: RefCell<HashMap<Key, Vec<Idle>, BuildHasherDefault<Mix>>>,
    open: RefCell<HashMap<u32, usize>>,
    closed: Cell<u64>,
    /// The pool's clock, which ticks once every [`limits::SWEEP`]: reading it costs nothing.
    sweeps: Cell<u32>,
}

struct Idle {
    upstream: Upstream,
    made: Rc<Made>,
    /// By the pool's clock.
    since: u32,
}

/// How a connection was made. It counts as open for as long as anything holds this.
pub(crate) struct Made {
    pub(crate) worker: Rc<Worker>,
    pub(crate) key: Key,
    /// The address of the other end, as logs have it.
    pub(crate) address: Box<str>,
    pub(crate) peer: Option<Peer>,
    _opened: Opened,
    _open: Open,
    /// The credentials it was made with, and who the callee had to be.
    pub(crate) stamp: u64,
    pub(crate) expected: Option<identity::SpiffeId>,
    pub(crate) tls: Option<Negotiated>,
    /// Its ends, where a tap has to know them.
    pub(crate) wire: Option<(SocketAddr, SocketAddr)>,
}

/// One of the bounded number of connections of a route, from before it is dialled until it is closed.
pub(crate) struct Open {
    worker: Rc<Worker>,
    route: u32,
}

impl Open {
    /// `None` when the bound is reached.
    pub(crate) fn take(worker: &Rc<Worker>, route: u32) -> Option<Self> {
        let mut open = worker.pool.open.borrow_mut();
        let count = open.entry(route).or_default();
        if *count >= limits::UPSTREAM_CONNECTIONS {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Self { worker: Rc::clone(worker), route })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let closed = &self.worker.pool.closed;
        closed.set(closed.get() + 1);
        if let Some(open) = self.worker.pool.open.borrow_mut().get_mut(&self.route) {
            *open = open.saturating_sub(1);
        }
    }
}

impl Made {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        key: Key,
        (peer, tls, opened, open): (Option<Peer>, Option<Negotiated>, Opened, Open),
        stamp: u64,
        expected: Option<identity::SpiffeId>,
        wire: Option<(SocketAddr, SocketAddr)>,
    ) -> Rc<Self> {
        let address = key.address.to_string().into();
        let worker = Rc::clone(worker);
        Rc::new(Self { worker, _open: open, key, address, peer, tls, _opened: opened, stamp, expected, wire })
    }
}

/// The use of one upstream connection for one request.
pub(crate) struct Lease {
    pub(crate) upstream: Upstream,
    pub(crate) made: Rc<Made>,
    /// It has carried a request before: the other end may close it at the very moment it is used again.
    pub(crate) reused: bool,
}

impl Pool {
    /// Upstream connections of this worker that have been closed, of all time.
    pub(crate) fn closed(&self) -> u64 {
        self.closed.get()
    }

    /// An idle connection that still stands, or a share of an HTTP/2 one.
    pub(crate) fn take(
        &self,
        key: &Key,
        stamp: u64,
        expected: Option<&identity::SpiffeId>,
        cx: &mut Context<'_>,
    ) -> Option<Lease> {
        loop {
            // Taken out while it is looked at: driving it may end up here again.
            let mut idle = {
                let mut places = self.places.borrow_mut();
                let list = places.get_mut(key)?;
                match key.http {
                    Http::One => list.pop()?,
                    Http::Two => {
                        let mut roomy = list.iter().enumerate().filter(|(_, idle)| idle.upstream.has_room());
                        // The wide one first, if it is there and has room.
                        let (at, _) =
                            roomy.clone().find(|(_, idle)| idle.upstream.is_wide()).or_else(|| roomy.next())?;
                        list.swap_remove(at)
                    }
                }
            };
            let fits = idle.made.stamp == stamp && idle.made.expected.as_ref() == expected;
            // Looks at what the other end may have sent meanwhile: its close, above all.
            if !fits || !idle.upstream.is_ready(cx) {
                continue;
            }
            let made = Rc::clone(&idle.made);
            return Some(match idle.upstream.share() {
                Some(upstream) => {
                    idle.since = self.sweeps.get();
                    self.put(idle);
                    Lease { upstream, made, reused: true }
                }
                None => Lease { upstream: idle.upstream, made, reused: true },
            });
        }
    }

    /// Whether there is a wide connection, full or not.
    pub(super) fn has_wide(&self, key: &Key, stamp: u64) -> bool {
        let places = self.places.borrow();
        places.get(key).is_some_and(|list| list.iter().any(|idle| idle.upstream.is_wide() && idle.made.stamp == stamp))
    }

    /// Keeps a fresh HTTP/2 connection for others to share.
    pub(crate) fn keep_shared(&self, lease: &Lease) {
        if let Some(upstream) = lease.upstream.share() {
            self.put(Idle { upstream, made: Rc::clone(&lease.made), since: self.sweeps.get() });
        }
    }

    fn put(&self, idle: Idle) {
        let mut places = self.places.borrow_mut();
        let list = places.entry(idle.made.key.clone()).or_default();
        if list.len() < limits::POOL_IDLE_PER_KEY {
            list.push(idle);
        } else {
            drop(places);
            drop(idle);
        }
    }

    /// Drops connections that were idle for longer than `patience`, and those the other end has closed.
    pub(crate) fn sweep(&self, patience: Duration) {
        self.sweeps.set(self.sweeps.get().wrapping_add(1));
        let now = self.sweeps.get();
        // A whole tick early rather than late: the other end has a time of its own.
        let patience = u32::try_from(patience.as_millis() / limits::SWEEP.as_millis()).unwrap_or(u32::MAX);
        let mut gone = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        {
            let mut places = self.places.borrow_mut();
            for list in places.values_mut() {
                let mut at = 0;
                while let Some(idle) = list.get_mut(at) {
                    let ready = idle.upstream.is_ready(&mut cx);
                    let busy = idle.upstream.in_flight() > 0;
                    let old = !busy && now.wrapping_sub(idle.since) >= patience.max(1);
                    if old || !(ready || busy) {
                        gone.push(list.swap_remove(at));
                    } else {
                        at += 1;
                    }
                }
            }
            places.retain(|_, list| !list.is_empty());
        }
        drop(gone);
    }
}

impl Made {
    /// The response is over, and the connection can carry another request.
    pub(crate) fn give_back(self: Rc<Self>, client: Box<h1::Client>) {
        let worker = Rc::clone(&self.worker);
        let since = worker.pool.sweeps.get();
        worker.pool.put(Idle { upstream: Upstream::One(client), made: self, since });
    }
}

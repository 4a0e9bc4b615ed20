//! Accepting connections, within bounds, and handing each to a worker.
//!
//! One acceptor per listener runs on the first worker. With several workers a connection goes to the one that has the fewest;
//! it stays there for its life.

use crate::{
    connection::{Entry, Opened},
    detect::Detected,
    http, inbound, limits, outbound,
    worker::{Shared, Worker},
};
use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A connection on its way to its worker.
pub(crate) struct Accepted {
    tcp: std::net::TcpStream,
    entry: Entry,
    remote: SocketAddr,
    local: SocketAddr,
    slot: Slot,
}

/// The way to one worker, and how many connections it has.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) send: mpsc::UnboundedSender<Accepted>,
    pub(crate) load: Arc<AtomicUsize>,
}

/// One of the bounded places for connections; free again when dropped.
struct Slot {
    shared: Arc<Shared>,
    load: Arc<AtomicUsize>,
}

impl Slot {
    fn take(shared: &Arc<Shared>, load: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= limit {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        load.fetch_add(1, Ordering::Relaxed);
        Some(Self { shared: Arc::clone(shared), load: Arc::clone(load) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until the listener is dropped.
pub(crate) async fn accept(worker: Rc<Worker>, listener: TcpListener, entry: Entry, doors: Vec<Door>) {
    let inbound = entry == Entry::Inbound;
    loop {
        let (tcp, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: the connection stays in the kernel's queue, so asking again at once would
                // spin. Anything else concerns one connection only.
                let full = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
                if error.raw_os_error().is_some_and(|code| full.contains(&code)) {
                    worker.shared.accept_pauses.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Ok(local) = tcp.local_addr() else {
            continue;
        };
        let Some(door) = doors.iter().min_by_key(|door| door.load.load(Ordering::Relaxed)) else {
            return;
        };
        if worker.shared.overload.refuses() {
            worker.shared.overload.shed_connection();
            worker.metrics.direction(inbound).overflow.inc();
            let detail = "memory runs short";
            crate::observe::refusal::connection(&worker, inbound, remote, None, "memory_limit", detail);
            continue;
        }
        if !worker.shared.descriptors.admit_downstream(&tcp) {
            worker.metrics.direction(inbound).overflow.inc();
            let detail = "descriptors run short";
            crate::observe::refusal::connection(&worker, inbound, remote, None, "descriptors", detail);
            continue;
        }
        let places = worker.places();
        // Who comes in by mutual TLS is known only after the handshake.
        let limit = if inbound { places.all } else { places.open };
        let Some(slot) = Slot::take(&worker.shared, &door.load, limit) else {
            worker.metrics.direction(inbound).overflow.inc();
            let detail = "the bound on connections is reached";
            crate::observe::refusal::connection(&worker, inbound, remote, None, "max_connections", detail);
            continue;
        };
        // Small messages must not wait for each other's acknowledgement; a kernel that refuses is only slower.
        let _ = tcp.set_nodelay(true);
        if doors.len() == 1 {
            serve(&worker, tcp, entry, remote, local, slot);
        } else if let Ok(tcp) = tcp.into_std() {
            // The receiver lives as long as its worker; if that is gone, the process is ending.
            let _ = door.send.send(Accepted { tcp, entry, remote, local, slot });
        }
    }
}

/// Serves what other workers' acceptors hand over.
pub(crate) async fn receive(worker: Rc<Worker>, mut handed: mpsc::UnboundedReceiver<Accepted>) {
    while let Some(Accepted { tcp, entry, remote, local, slot }) = handed.recv().await {
        if let Ok(tcp) = TcpStream::from_std(tcp) {
            serve(&worker, tcp, entry, remote, local, slot);
        }
    }
}

fn serve(worker: &Rc<Worker>, tcp: TcpStream, entry: Entry, remote: SocketAddr, local: SocketAddr, slot: Slot) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        // Boxed, and gone before the first request: an idle connection's task holds only what serving needs.
        let opened = match entry {
            Entry::Inbound => Box::pin(inbound::open(worker, tcp, remote, local)).await,
            Entry::Outbound | Entry::Service(_) => Box::pin(outbound::open(worker, tcp, entry, remote, local)).await,
        };
        let _slot = slot;
        let Some(Opened { connection, stream, detected }) = opened else { return };
        match detected {
            Detected::Http(http) => http::serve(stream, http, connection).await,
            Detected::Opaque if entry == Entry::Inbound => Box::pin(inbound::carry(connection, stream)).await,
            Detected::Opaque => Box::pin(outbound::carry(connection, stream)).await,
        }
    });
}

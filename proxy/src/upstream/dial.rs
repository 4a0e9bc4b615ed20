//! Opening one connection: TCP, then mutual TLS if the route asks for it, each within its deadline.

use super::{
    pool::Open,
    route::{Expect, Route, Security},
};
use crate::{
    http::Failure,
    live::Live,
    observe::metrics::WorkerMetrics,
    stream::Stream,
    tls::{self, Alpn, NamedByRules, Negotiated, Peer},
    worker::Worker,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};
use tokio::net::{TcpSocket, TcpStream};

/// An open connection.
pub(crate) struct Dialled {
    pub(crate) stream: Stream,
    pub(crate) peer: Option<Peer>,
    pub(crate) tls: Option<Negotiated>,
    pub(crate) opened: Opened,
    pub(crate) open: Open,
}

impl Dialled {
    /// Its ends, if a tap has to know them: asking the kernel costs a call.
    pub(crate) fn wire(&self, live: &Live) -> Option<(SocketAddr, SocketAddr)> {
        if live.names_outbound { self.stream.ends() } else { None }
    }
}

/// Counts a connection as open until it is dropped.
pub(crate) struct Opened {
    metrics: Arc<WorkerMetrics>,
    route: u32,
}

impl Opened {
    fn count(worker: &Worker, route: &Route) -> Self {
        worker.metrics.upstream(route.name_id, |upstream| upstream.connections += 1);
        Self { metrics: Arc::clone(&worker.metrics), route: route.name_id }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.metrics.upstream(self.route, |upstream| upstream.connections_closed += 1);
    }
}

/// Connects to `address` as `route` says, if the bound on its connections allows one more.
pub(crate) async fn dial(
    worker: &Rc<Worker>,
    live: &Rc<Live>,
    route: &Route,
    address: SocketAddr,
    alpn: Alpn,
) -> Result<Dialled, Failure> {
    if let Security::Plain = route.security
        && is_own_listener(worker, address)
    {
        return Err(Failure::Connect("the address is one of the proxy's own listeners".to_owned()));
    }
    take_on(worker)?;
    let open = Open::take(worker, route.name_id).ok_or(Failure::Overflow)?;
    let opened = Opened::count(worker, route);
    match dial_inner(worker, live, route, address, alpn).await {
        Ok((stream, proved)) => {
            let (peer, tls) = proved.unzip();
            Ok(Dialled { stream, peer, tls, opened, open })
        }
        Err(failure) => {
            worker.metrics.upstream(route.name_id, |upstream| upstream.connect_failures += 1);
            Err(failure)
        }
    }
}

async fn dial_inner(
    worker: &Worker,
    live: &Rc<Live>,
    route: &Route,
    address: SocketAddr,
    alpn: Alpn,
) -> Result<(Stream, Option<(Peer, Negotiated)>), Failure> {
    let tcp = match tokio::time::timeout(route.connect_timeout, connect(address, route.source)).await {
        Err(_elapsed) => return Err(Failure::Connect("connection timeout".to_owned())),
        Ok(Err(error)) => return Err(Failure::Connect(words(&error))),
        Ok(Ok(tcp)) => tcp,
    };
    if !worker.shared.descriptors.admit_upstream(&tcp) {
        return Err(Failure::Overflow);
    }
    // A handshake takes more memory than all the rest of a connection, and many may have waited for the network together.
    let _promise = worker.shakes_hands();
    take_on(worker)?;
    let identity = worker.identity();
    let config = match &route.security {
        Security::Plain => {
            return Ok((Stream::plain(tcp), None));
        }
        Security::Mtls(Expect::Identity(expected)) => identity.client(expected, alpn),
        Security::Mtls(Expect::NamedByRules(port)) => {
            identity.client_named_by_rules(NamedByRules::new(live, *port), alpn)
        }
    }
    .map_err(|error| Failure::Tls(format!("TLS error: {error}")))?;
    let handshake = live.snapshot.proxy.timeouts.handshake;
    let (stream, peer, tls) = tls::connect(tcp, address, config, handshake, &worker.peers).await?;
    Ok((Stream::tls(stream), Some((peer, tls))))
}

/// Nothing new while memory runs short.
fn take_on(worker: &Worker) -> Result<(), Failure> {
    if !worker.shared.overload.refuses() {
        return Ok(());
    }
    worker.shared.overload.shed_request();
    Err(Failure::Overloaded)
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match source {
        Some(source) => from_source(address, source)?,
        None if address.is_ipv4() => TcpSocket::new_v4()?,
        None => TcpSocket::new_v6()?,
    };
    let tcp = socket.connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn from_source(address: SocketAddr, source: IpAddr) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    // The source port is chosen now, before the destination is known; ports in TIME_WAIT may be used again.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// A plain connection to one of our own listeners would be a loop, or a way round the rules into the admin port.
fn is_own_listener(worker: &Worker, address: SocketAddr) -> bool {
    crate::capture::is_own(&worker.shared, address)
}

/// The operating system's words without the error number, as Envoy prints them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

//! A connection for a request: an idle one of the worker's pool, or a new one to the next endpoint that answers.

use super::{
    connection::Upstream,
    dial::dial,
    dialling::Wanted,
    pool::{Key, Lease, Made},
    route::{Route, Security, Target},
};
use crate::{
    http::{
        Exchange, Failure, Http, h1,
        h2::{self, Width},
    },
    limits,
    live::Live,
    stream::Stream,
    tls::Alpn,
    worker::Worker,
};
use config::Protocol;
use http::Version;
use std::{future::poll_fn, net::SocketAddr, pin::Pin, rc::Rc, sync::Arc, task::Poll};
use tokio::time::Sleep;

/// H1 to H1 and H2 to H2, unless the file says what the other side speaks.
pub(crate) fn upstream_http(route: &Route, downstream: Version) -> Http {
    match route.protocol {
        Protocol::Http1 => Http::One,
        Protocol::Http2 => Http::Two,
        Protocol::Auto | Protocol::Tcp if downstream == Version::HTTP_2 => Http::Two,
        Protocol::Auto | Protocol::Tcp => Http::One,
    }
}

/// A connection along `route`: an idle one, or a new one to the next endpoint that answers.
pub(crate) async fn acquire(
    exchange: &Exchange,
    route: &Arc<Route>,
    http: Http,
    fresh_only: bool,
) -> Result<Lease, Failure> {
    let worker = &exchange.connection.worker;
    // The usual case, without looking further: one endpoint, and a connection to it that waits.
    if let ([Target::Socket(address)], false) = (route.targets.as_slice(), fresh_only) {
        let key = Key { route: route.name_id, address: *address, http };
        if let Some(lease) = idle(worker, route, &key).await {
            return Ok(lease);
        }
    }
    // Boxed: the futures of resolving, dialling and handshakes are large, and every request's future would hold them.
    Box::pin(find(exchange, route, http, fresh_only)).await
}

/// The same, but not for longer than the whole request may take.
pub(crate) async fn acquire_until(
    exchange: &Exchange,
    route: &Arc<Route>,
    http: Http,
    fresh_only: bool,
    deadline: Option<&mut Pin<Box<Sleep>>>,
) -> Result<Lease, Failure> {
    let Some(deadline) = deadline else {
        return acquire(exchange, route, http, fresh_only).await;
    };
    tokio::select! {
        biased;
        lease = acquire(exchange, route, http, fresh_only) => lease,
        () = deadline => Err(Failure::RequestTimeout),
    }
}

/// Tries the endpoints in turn.
async fn find(exchange: &Exchange, route: &Arc<Route>, http: Http, fresh_only: bool) -> Result<Lease, Failure> {
    let worker = &exchange.connection.worker;
    let addresses = addresses(worker, route).await?;
    let first = worker.turn(addresses.len());
    let mut last = Failure::NoEndpoint;
    for attempt in 0..addresses.len().min(limits::CONNECT_ATTEMPTS) {
        let Some(address) = addresses.get((first + attempt) % addresses.len()).copied() else { break };
        let key = Key { route: route.name_id, address, http };
        if !fresh_only && let Some(lease) = idle(worker, route, &key).await {
            return Ok(lease);
        }
        match make(exchange, route, key).await {
            Ok(lease) => return Ok(lease),
            // Not who we expect: asking another endpoint would hide it.
            Err(failure @ (Failure::Tls(_) | Failure::Overflow)) => return Err(failure),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn idle(worker: &Worker, route: &Route, key: &Key) -> Option<Lease> {
    let stamp = worker.identity_version();
    poll_fn(|cx| Poll::Ready(worker.pool.take(key, stamp, route.expected(), cx))).await
}

/// A new connection: for this request alone, or a share of one that several wait for.
async fn make(exchange: &Exchange, route: &Arc<Route>, key: Key) -> Result<Lease, Failure> {
    let (worker, live) = (&exchange.connection.worker, &exchange.live);
    if key.http == Http::One {
        return open(worker, live, route, key, Width::Narrow).await;
    }
    let (expected, stamp, generation) = (route.expected().cloned(), worker.identity_version(), live.generation);
    let mut wanted = Wanted { key: key.clone(), expected, stamp, generation, width: Width::Wide };
    if worker.pool.has_wide(&key, stamp) || worker.diallings.is_full(&wanted) {
        wanted.width = Width::Narrow;
    }
    let width = wanted.width;
    let making = || {
        let (worker, live, route) = (Rc::clone(worker), Rc::clone(live), Arc::clone(route));
        async move { open(&worker, &live, &route, key, width).await }
    };
    worker.diallings.join(wanted, making).await
}

async fn open(worker: &Rc<Worker>, live: &Rc<Live>, route: &Route, key: Key, width: Width) -> Result<Lease, Failure> {
    let alpn = match (&route.security, key.http) {
        (Security::Plain, _) => Alpn::None,
        (Security::Mtls(_), Http::One) => Alpn::Http1,
        (Security::Mtls(_), Http::Two) => Alpn::Http2,
    };
    let stamp = worker.identity().version();
    let dialled = dial(worker, live, route, key.address, alpn).await?;
    let http = key.http;
    let wire = dialled.wire(live);
    let expected = route.expected().cloned();
    let made = Made::new(worker, key, (dialled.peer, dialled.tls, dialled.opened, dialled.open), stamp, expected, wire);
    let upstream = start(dialled.stream, http, width).await?;
    let lease = Lease { upstream, made, reused: false };
    worker.pool.keep_shared(&lease);
    Ok(lease)
}

async fn start(stream: Stream, http: Http, width: Width) -> Result<Upstream, Failure> {
    Ok(match http {
        Http::One => Upstream::One(Box::new(h1::Client::new(stream))),
        Http::Two => Upstream::Two(h2::Client::start(stream, width).await?),
    })
}

/// The route's endpoints as addresses, names resolved.
pub(crate) async fn addresses(worker: &Worker, route: &Route) -> Result<Vec<SocketAddr>, Failure> {
    if let [Target::Socket(only)] = route.targets.as_slice() {
        return Ok(vec![*only]);
    }
    let mut all = Vec::with_capacity(route.targets.len());
    let mut unresolved = None;
    for target in &route.targets {
        match target {
            Target::Socket(address) => all.push(*address),
            Target::Name(name, port) => match worker.resolver.resolve(name).await {
                Ok(found) => all.extend(found.iter().map(|ip| SocketAddr::new(*ip, *port))),
                Err(error) => unresolved = Some(error),
            },
        }
    }
    match (all.is_empty(), unresolved) {
        (true, Some(error)) => Err(Failure::Resolve(error)),
        (true, None) => Err(Failure::NoEndpoint),
        (false, _) => Ok(all),
    }
}

//! Sending a permitted request and waiting for the head of its response.
//!
//! Consumes the [`Permit`]: what was not judged cannot be sent. A request is sent a second time only if no byte of it was
//! written the first time, or if it is safe to repeat and its connection was closed as it was taken from the pool.

use super::{
    dial::dial,
    pool::{Key, Lease, Made, Open},
    route::{Route, Security, Target},
};
use crate::{
    http::{
        Body, Chosen, End, Engine, Exchange, Failure, Http, Incoming, SendError, Side, UpstreamConnection, is_number,
        response_headers,
    },
    limits,
    tls::Alpn,
    worker::Worker,
};
use config::Protocol;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, uri};
use policy::Permit;
use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

/// Sends `request` along `route`, on `lease` if the connection had to be made before the judgement.
pub(crate) async fn forward(
    exchange: &Rc<Exchange>,
    permit: Permit,
    route: &Route,
    request: Request<Body>,
    lease: Option<Lease>,
) -> Result<Response<Body>, Failure> {
    // The proof has done its work: the request it stands for is the one in hand.
    let _spent = permit;
    // Boxed: the caller's future is copied when a request begins, and this would be most of it.
    let mut attempt = Box::pin(attempt(exchange, route, request, lease));
    let result = match route.timeout {
        None => attempt.await,
        Some(limit) => tokio::time::timeout(limit, &mut attempt).await.unwrap_or(Err(Failure::RequestTimeout)),
    };
    // A request body that was cut looks like a broken upstream; why it was cut is known better here.
    result.map_err(|failure| exchange.end().map_or(failure, |end| ended(exchange, end)))
}

async fn attempt(
    exchange: &Rc<Exchange>,
    route: &Route,
    mut request: Request<Body>,
    mut lease: Option<Lease>,
) -> Result<Response<Body>, Failure> {
    let http = upstream_http(route, exchange.version);
    prepare(&mut request, http, route)?;
    let mut fresh_only = false;
    loop {
        let mut used = match lease.take() {
            Some(lease) => lease,
            None => acquire(exchange, route, http, fresh_only).await?,
        };
        {
            let mut facts = exchange.facts.borrow_mut();
            facts.upstream_address = Some(used.made.key.address);
            facts.callee = Some(Rc::clone(&used.made));
        }
        let sent = Instant::now();
        let copy = if fresh_only { None } else { copy_for_race(&used, &request) };
        match or_end(exchange, used.upstream.send(request)).await? {
            Ok(response) => return received(exchange, route, response, used, sent.elapsed()).await,
            Err(SendError::Unsent(back)) if used.idle.is_some() && !fresh_only => request = *back,
            Err(SendError::Unsent(_)) => return Err(Failure::UpstreamClosed),
            Err(SendError::Failed(Failure::UpstreamClosed)) if copy.is_some() => {
                let Some(copy) = copy else { return Err(Failure::UpstreamClosed) };
                request = copy;
            }
            Err(SendError::Failed(failure)) => return Err(failure),
        }
        fresh_only = true;
    }
}

/// A connection that was idle for a while may be closed by the other end at the very moment we use it. A request that may be
/// repeated (RFC 9110 §9.2.2: idempotent, here: safe and without a body) is kept for that case, so that the race costs nobody
/// an error. A connection in steady use does not pay for it.
fn copy_for_race(lease: &Lease, request: &Request<Body>) -> Option<Request<Body>> {
    let raced = lease.idle.is_some_and(|idle| idle > limits::RACE_IDLE);
    if !raced || !request.method().is_safe() || !http_body::Body::is_end_stream(request.body()) {
        return None;
    }
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Waits for the upstream, but not past the stream's idle time, nor past the moment the rules forbid it.
async fn or_end<F: Future>(exchange: &Rc<Exchange>, future: F) -> Result<F::Output, Failure> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => match exchange.waits(Side::Response, cx) {
            None => Poll::Pending,
            Some(end) => Poll::Ready(Err(ended(exchange, end))),
        },
    })
    .await
}

fn ended(exchange: &Exchange, end: End) -> Failure {
    match end {
        End::Idle => Failure::IdleTimeout(exchange.facts.borrow().request_complete),
        End::Revoked => Failure::Revoked,
        End::Deadline => Failure::RequestTimeout,
    }
}

async fn received(
    exchange: &Rc<Exchange>,
    route: &Route,
    response: Response<Incoming>,
    lease: Lease,
    time: Duration,
) -> Result<Response<Body>, Failure> {
    let status = response.status();
    // 101 would hand the connection over to another protocol that nobody asked for; above 599 is not HTTP (RFC 9110 §15).
    if status == StatusCode::SWITCHING_PROTOCOLS || status.as_u16() > 599 {
        return Err(Failure::UpstreamProtocol);
    }
    if !framing_is_clear(response.headers()) {
        return Err(Failure::UpstreamProtocol);
    }
    let (mut parts, incoming) = response.into_parts();
    response_headers(&mut parts.headers, time.as_millis());
    parts.version = Version::HTTP_11;
    exchange.facts.borrow_mut().upstream_time = Some(time);
    let until = route.timeout.and_then(|timeout| exchange.started.checked_add(timeout));
    if http_body::Body::is_end_stream(&incoming) {
        // No body, and no empty one either: gRPC tells a trailers-only response by the end on its head.
        exchange.ended(Side::Response);
        let mut lease = Some(lease);
        poll_fn(|cx| {
            if let Some(lease) = lease.take() {
                lease.give_back(cx);
            }
            Poll::Ready(())
        })
        .await;
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    Ok(Response::from_parts(parts, Body::response(incoming, Rc::clone(exchange), lease, until)))
}

/// A response whose length can be read in two ways is not passed on (RFC 9112 §6.3): a `Content-Length` that is one number,
/// or a `Transfer-Encoding` that is exactly `chunked`, or neither.
fn framing_is_clear(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lengths.next(), codings.next()) {
        (Some(_), Some(_)) => false,
        (Some(length), None) => lengths.next().is_none() && is_number(length),
        (None, Some(coding)) => codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (None, None) => true,
    }
}

/// H1 to H1 and H2 to H2, unless the file says what the other side speaks.
pub(crate) fn upstream_http(route: &Route, downstream: Version) -> Http {
    match route.protocol {
        Protocol::Http1 => Http::One,
        Protocol::Http2 => Http::Two,
        Protocol::Auto | Protocol::Tcp if downstream == Version::HTTP_2 => Http::Two,
        Protocol::Auto | Protocol::Tcp => Http::One,
    }
}

/// HTTP/1.1 wants origin-form and a `host`; HTTP/2 wants scheme and authority in the target and no `host`.
fn prepare(request: &mut Request<Body>, http: Http, route: &Route) -> Result<(), Failure> {
    match http {
        Http::One => {
            let from_http2 = request.version() == Version::HTTP_2;
            *request.version_mut() = Version::HTTP_11;
            let body = !http_body::Body::is_end_stream(request.body());
            let headers = request.headers_mut();
            if body && !headers.contains_key(header::CONTENT_LENGTH) {
                // Said outright: the engine would take a GET without a length for one without a body.
                headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            if from_http2 {
                join_cookies(headers);
            }
        }
        Http::Two => {
            *request.version_mut() = Version::HTTP_2;
            let Some(authority) = request.headers_mut().remove(header::HOST) else { return Ok(()) };
            let mut parts = uri::Parts::default();
            parts.scheme = Some(match route.security {
                Security::Plain => uri::Scheme::HTTP,
                Security::Mtls(_) => uri::Scheme::HTTPS,
            });
            parts.authority = uri::Authority::try_from(authority.as_bytes()).ok();
            parts.path_and_query = request.uri().path_and_query().cloned();
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Failure::NotForwardable)?;
        }
    }
    Ok(())
}

/// HTTP/2 may split the cookies; HTTP/1.1 has one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(_)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in headers.get_all(header::COOKIE).iter().skip(1) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// A connection along `route`: an idle one, or a new one to the next endpoint that answers.
pub(crate) async fn acquire(
    exchange: &Exchange,
    route: &Route,
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

/// Tries the endpoints in turn.
async fn find(exchange: &Exchange, route: &Route, http: Http, fresh_only: bool) -> Result<Lease, Failure> {
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
        match open(exchange, route, key).await {
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

async fn open(exchange: &Exchange, route: &Route, key: Key) -> Result<Lease, Failure> {
    let worker = &exchange.connection.worker;
    let alpn = match (&route.security, key.http) {
        (Security::Plain, _) => Alpn::None,
        (Security::Mtls(_), Http::One) => Alpn::Http1,
        (Security::Mtls(_), Http::Two) => Alpn::Http2,
    };
    let counted = Open::take(worker, route.name_id).ok_or(Failure::Overflow)?;
    let stamp = worker.identity().version();
    let dialled = dial(worker, &exchange.live, route, key.address, alpn).await?;
    let http = key.http;
    let made = Made::new(worker, counted, key, (dialled.peer, dialled.opened), stamp, route.expected().cloned());
    let upstream = Chosen::start(dialled.stream, http).await?;
    let lease = Lease { upstream, made, idle: None };
    worker.pool.keep_shared(&lease);
    Ok(lease)
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

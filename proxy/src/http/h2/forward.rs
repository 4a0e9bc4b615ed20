//! Sending a permitted HTTP/2 request on and waiting for the head of its response.
//!
//! Consumes the [`Passage`]: what was not judged cannot be sent. A request is sent a second time only if no byte of it was
//! written the first time.

use super::client::SendError;
use crate::{
    http::{Body, End, Exchange, Failure, Http, Side, h1, headers},
    passage::Passage,
    upstream::{self, Lease, Route, Security, Upstream},
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts, uri};
use hyper::body::Incoming;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

/// Sends a request along its passage.
pub(super) async fn forward(
    exchange: &Rc<Exchange>,
    passage: Passage,
    parts: Parts,
    body: Body,
) -> Result<Response<Body>, Failure> {
    let limit = passage.route.timeout;
    let mut attempt = pin!(attempt(exchange, passage, parts, body));
    let result = match limit {
        None => attempt.await,
        Some(limit) => tokio::time::timeout(limit, &mut attempt).await.unwrap_or(Err(Failure::RequestTimeout)),
    };
    // A request body that was cut looks like a broken upstream; why it was cut is known better here.
    result.map_err(|failure| exchange.end().map_or(failure, |end| ended(exchange, end)))
}

async fn attempt(
    exchange: &Rc<Exchange>,
    mut passage: Passage,
    mut parts: Parts,
    body: Body,
) -> Result<Response<Body>, Failure> {
    let asked = &exchange.asked;
    let http = upstream::upstream_http(&passage.route, asked.version);
    let mut lease = passage.lease.take();
    if http == Http::One {
        let lease = match lease {
            Some(lease) => lease,
            // A connection that was just closed by the other end would lose the body: it is read only once.
            None => upstream::acquire(exchange, &passage.route, http, !http_body::Body::is_end_stream(&body)).await?,
        };
        exchange.sending_on(&lease.made);
        let carrying = h1::carry(exchange, &passage, &mut parts.headers, body, lease);
        return or_end(exchange, carrying).await?;
    }
    prepare(&mut parts, passage.target(asked), passage.authority(asked), &passage.route)?;
    let mut request = Request::from_parts(parts, body);
    let mut fresh_only = false;
    loop {
        let mut used = match lease.take() {
            Some(lease) => lease,
            None => upstream::acquire(exchange, &passage.route, http, fresh_only).await?,
        };
        exchange.sending_on(&used.made);
        let Upstream::Two(client) = &mut used.upstream else { return Err(Failure::UpstreamProtocol) };
        let sent = Instant::now();
        match or_end(exchange, client.send(request)).await? {
            Ok(response) => return received(exchange, &passage.route, response, used, sent.elapsed()),
            Err(SendError::Unsent(back)) if used.reused && !fresh_only => request = *back,
            Err(SendError::Unsent(_)) => return Err(Failure::UpstreamClosed),
            Err(SendError::Failed(failure)) => return Err(failure),
        }
        fresh_only = true;
    }
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

/// A response head from an HTTP/2 upstream, made ready to go down.
pub(crate) fn received(
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
    if !crate::http::asked::has_clear_length(response.headers()) {
        return Err(Failure::UpstreamProtocol);
    }
    let (mut parts, incoming) = response.into_parts();
    headers::downstream(&mut parts.headers, time.as_millis());
    exchange.facts.borrow_mut().upstream_time = Some(time);
    let until = route.timeout.and_then(|timeout| exchange.started.checked_add(timeout));
    if http_body::Body::is_end_stream(&incoming) {
        // No body, and no empty one either: gRPC tells a trailers-only response by the end on its head.
        exchange.ended(Side::Response);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    Ok(Response::from_parts(parts, Body::response(incoming, Rc::clone(exchange), lease, until)))
}

/// HTTP/2 wants scheme and authority in the target and no `host` (RFC 9113 §8.3.1).
pub(crate) fn prepare(parts: &mut Parts, target: &[u8], authority: &[u8], route: &Route) -> Result<(), Failure> {
    parts.headers.remove(header::HOST);
    parts.version = Version::HTTP_2;
    let mut of = uri::Parts::default();
    of.scheme = Some(match route.security {
        Security::Plain => uri::Scheme::HTTP,
        Security::Mtls(_) => uri::Scheme::HTTPS,
    });
    of.authority = uri::Authority::try_from(authority).ok();
    of.path_and_query = Some(match parts.uri.path_and_query() {
        Some(same) if same.as_str().as_bytes() == target => same.clone(),
        _ => uri::PathAndQuery::try_from(target).map_err(|_| Failure::NotForwardable)?,
    });
    parts.uri = Uri::from_parts(of).map_err(|_| Failure::NotForwardable)?;
    Ok(())
}

/// HTTP/2 may split the cookies; HTTP/1.1 has one field (RFC 9113 §8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
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

//! Making the forwarded head from the reading that was judged: what was judged is what is sent.

use super::{Body, Exchange, Failure, Refused};
use crate::{connection::Connection, observe::access_log, upstream::Route};
use http::{HeaderValue, Method, Response, Uri, Version, header, request::Parts, uri::PathAndQuery};
use policy::Target;
use std::borrow::Cow;

/// Replaces the request's target and host by the canonical ones. When nothing differs, the bytes that came in stay.
pub(crate) fn write_target(parts: &mut Parts, target: &Target<'_>) -> Result<(), Failure> {
    let authority = target.authority();
    let kept = parts.headers.get(header::HOST).is_some_and(|host| host.as_bytes() == authority.as_bytes());
    if !kept {
        let host = HeaderValue::from_str(&authority).map_err(|_| Failure::NotForwardable)?;
        parts.headers.insert(header::HOST, host);
    }
    let path = match (target.is_verbatim(), parts.uri.path_and_query()) {
        (true, Some(path)) => Ok(path.clone()),
        _ => match target.path_and_query() {
            Cow::Borrowed(path) => PathAndQuery::try_from(path),
            Cow::Owned(path) => PathAndQuery::try_from(path),
        },
    };
    parts.uri = Uri::from(path.map_err(|_| Failure::NotForwardable)?);
    Ok(())
}

/// CONNECT and protocol upgrades need a rule that allows them; there is no such rule yet. An `Upgrade` without the matching
/// `Connection` token is an ordinary field, removed like any hop-by-hop one (RFC 9110 §7.8).
pub(crate) fn refuse_tunnels(parts: &Parts) -> Result<(), Failure> {
    if parts.method == Method::CONNECT {
        return Err(Failure::NoRoute);
    }
    let asks = parts.version < Version::HTTP_2
        && parts.headers.contains_key(header::UPGRADE)
        && parts.headers.get_all(header::CONNECTION).iter().any(|value| {
            value.to_str().is_ok_and(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
        });
    if asks { Err(Failure::Upgrade) } else { Ok(()) }
}

/// Answers in the place of a request that could not be read, if the one at hand stands for such a one.
pub(crate) fn unreadable(connection: &Connection) -> Option<Response<Body>> {
    let refused = connection.refused.take()?;
    connection.end();
    let cells = connection.cells();
    if refused == Refused::Timeout {
        cells.idle_timeouts.inc()
    } else {
        cells.protocol_errors.inc()
    }
    let reply = Failure::Unreadable(refused).reply();
    access_log::unread(connection, reply.status.as_u16(), refused.flag(), refused.details());
    Some(reply.into_response(false, connection.worker.date()))
}

/// The value of `x-envoy-expected-rq-timeout-ms`, when the route has a timeout.
pub(crate) fn timeout_ms(route: &Route) -> Option<u64> {
    route.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

/// During a drain every HTTP/1.1 response asks the other end to come back on a new connection.
pub(crate) fn close_when_draining<B>(exchange: &Exchange, response: &mut Response<B>) {
    if exchange.connection.worker.is_draining() && exchange.version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

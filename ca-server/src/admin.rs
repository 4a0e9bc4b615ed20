//! Plain HTTP for operators: readiness, metrics, state, and what changes it.
//!
//! Three doors: what a probe and a scraper may see; what stays on the host; and a socket in the CA's folder, for whoever may
//! write that folder anyway. A browser on the host is no operator: the door on the host wants to be called by an address or as
//! `localhost`, which no name that an attacker rebinds is, takes nothing from a page, and changes nothing for a request that a
//! page can send unasked (WHATWG Fetch, "CORS-safelisted request-header": its content types are not `application/json`).

use crate::acts::Deed;
use crate::server::Server;
use crate::steps::{Step, Undone};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// What a door shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// `/healthz/ready` and `/stats/prometheus`.
    Health,
    /// Those, the state, and the rotation.
    Admin,
    /// Those, the deny list and join tokens.
    Operator,
}

/// Answers until `stop` becomes true.
pub(crate) async fn serve(listener: TcpListener, face: Face, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((tcp, _)) => drop(tokio::spawn(converse(tcp, face, "admin".to_owned(), Arc::clone(&server), place))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The same on a socket, for processes of `user` and of root.
pub(crate) async fn serve_unix(
    listener: UnixListener,
    user: u32,
    server: Arc<Server>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // The mode of the file says so too, from a moment after it is there.
        match stream.peer_cred().map(|who| who.uid()) {
            Ok(uid) if uid == 0 || uid == user => {
                tokio::spawn(converse(stream, Face::Operator, format!("uid {uid}"), Arc::clone(&server), place));
            }
            _ => {}
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    face: Face,
    by: String,
    server: Arc<Server>,
    _place: OwnedSemaphorePermit,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (server, by) = (Arc::clone(&server), by.clone());
        async move { Ok::<_, Infallible>(answer(request, face, &by, &server).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever is slow, or leaves, loses the connection and nothing else happens.
    let _ = tokio::time::timeout(PATIENCE, connection).await;
}

async fn answer(request: Request<Incoming>, face: Face, by: &str, server: &Arc<Server>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    if face == Face::Admin
        && let Err(why) = is_no_page(&head.headers)
    {
        return refuse(StatusCode::FORBIDDEN, why);
    }
    match (&head.method, path) {
        (&Method::GET, "/healthz/ready") => match server.readiness() {
            Ok(()) => text(StatusCode::OK, "LIVE\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        (&Method::GET, "/stats/prometheus") => text(StatusCode::OK, server.metrics()),
        (_, "/healthz/ready" | "/stats/prometheus") => text(StatusCode::METHOD_NOT_ALLOWED, "GET\n".to_owned()),
        (&Method::GET, "/status") if face != Face::Health => document(StatusCode::OK, &server.status()),
        (_, "/status") if face != Face::Health => text(StatusCode::METHOD_NOT_ALLOWED, "GET\n".to_owned()),
        (&Method::POST, path) if face != Face::Health => {
            if !is_json(&head.headers) {
                return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json");
            }
            let Ok(body) = Limited::new(body, MOST_BODY).collect().await else {
                return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off");
            };
            change(path, query, &body.to_bytes(), face, by, server).await
        }
        _ => text(StatusCode::NOT_FOUND, PATHS.to_owned()),
    }
}

/// Takes a step of the rotation, or does what else an operator may.
async fn change(
    path: &str,
    query: &str,
    body: &[u8],
    face: Face,
    by: &str,
    server: &Arc<Server>,
) -> Response<Full<Bytes>> {
    enum Change {
        Step(Step),
        Deed(Deed),
    }
    let read = match path.strip_prefix("/rotation/") {
        Some(step) => Step::parse(step, query).map(Change::Step),
        None => match Deed::parse(path, body) {
            Some(deed) if face == Face::Operator => deed.map(Change::Deed),
            _ => return text(StatusCode::NOT_FOUND, PATHS.to_owned()),
        },
    };
    let change = match read {
        Ok(change) => change,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    let (doer, by) = (Arc::clone(server), by.to_owned());
    // It waits for the disk.
    let done = tokio::task::spawn_blocking(move || match change {
        Change::Step(step) => doer.step(step, &by).map(|()| doer.status()),
        Change::Deed(deed) => doer.deed(deed, &by),
    });
    match done.await {
        Ok(Ok(value)) => document(StatusCode::OK, &value),
        Ok(Err(Undone::NotNow(why))) => refuse(StatusCode::CONFLICT, &why),
        Ok(Err(Undone::Wrong(why))) => refuse(StatusCode::BAD_REQUEST, &why),
        Ok(Err(Undone::Failed(why))) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "it did not end\n".to_owned()),
    }
}

/// Whether a request cannot come from a page in a browser that was led here: by a name of its own (DNS rebinding), or by a
/// script of another site, which names its origin (RFC 6454 §7).
fn is_no_page(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let direct = match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) => is_direct(host),
        _ => false,
    };
    if !direct {
        return Err("ask for an address, or for `localhost`: other names can be made to lead here");
    }
    match headers.contains_key(header::ORIGIN) {
        true => Err("pages of browsers are not answered"),
        false => Ok(()),
    }
}

/// An address or `localhost`, with a port or without.
fn is_direct(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let address = match name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse().is_ok_and(|address: IpAddr| address.is_ipv6()),
        None => name.parse().is_ok_and(|address: IpAddr| address.is_ipv4()),
    };
    (address || name.eq_ignore_ascii_case("localhost")) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    match (kinds.next().and_then(|kind| kind.to_str().ok()), kinds.next()) {
        (Some(kind), None) => kind.eq_ignore_ascii_case("application/json"),
        _ => false,
    }
}

fn refuse(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    document(status, &json!({ "error": why }))
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", body)
}

fn document(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    reply(status, "application/json", format!("{value:#}\n"))
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

const PATHS: &str = "GET /healthz/ready, /stats/prometheus, /status; POST /rotation/STEP\n";
const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);
/// After an accept that failed, for want of a descriptor above all.
const PAUSE: Duration = Duration::from_millis(50);
/// A reason of 512 bytes and a name of 2048 are the most that a document holds.
const MOST_BODY: usize = 16 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_rebound_are_not_answered() {
        for host in
            ["localhost", "LOCALHOST:15000", "127.0.0.1", "127.0.0.1:15000", "10.1.2.3:1", "[::1]", "[::1]:15000"]
        {
            assert!(is_direct(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:15000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "[127.0.0.1]",
        ] {
            assert!(!is_direct(host), "{host}");
        }
        assert!(!is_direct("localhost:evil") && !is_direct("127.0.0.1:"));
    }

    #[test]
    fn pages_are_known_by_what_browsers_add() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        assert_eq!(is_no_page(&headers(&[("host", "127.0.0.1:15000")])), Ok(()));
        assert!(is_no_page(&headers(&[])).is_err());
        assert!(is_no_page(&headers(&[("host", "evil.example:15000")])).is_err());
        assert!(is_no_page(&headers(&[("host", "localhost"), ("origin", "null")])).is_err());
        assert!(is_json(&headers(&[("content-type", "application/json")])));
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json, text/plain"] {
            assert!(!is_json(&headers(&[("content-type", kind)])), "{kind}");
        }
    }
}

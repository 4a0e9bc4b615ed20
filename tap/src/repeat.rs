//! A request sent once more, to somebody who only wants requests: what Envoy calls a shadow (`request_mirror_policies`).
//!
//! In: a copied exchange. Out: its request, with the marks Envoy puts on a shadow, for a [`Repeat`] that knows how to speak
//! HTTP; how that went comes back by [`Repeated::sent`] or [`Repeated::failed`], exactly once. Nobody waits for the answer.
//! Refuses what is no whole request: one that was cut, broken off, or turned its connection into something else.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::counters::Reason;
use crate::exchange::Exchange;
use crate::tap::{Admission, Shared};

/// Sends requests again.
pub trait Repeat: Debug + Send + Sync {
    /// Sends `request` to this address, some time soon. Called on the tap's thread; does not wait.
    fn repeat(&self, to: SocketAddr, request: Repeated);
}

/// A request to be sent again. Dropped untold, its exchange counts as dropped `shutdown`.
#[derive(Debug)]
pub struct Repeated {
    /// Its method; never CONNECT.
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    /// Fields without those of the framing; secrets are masked.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// Its trailers, if any.
    pub trailers: HeaderMap,
    fate: Option<(Admission, Arc<Shared>, Amounts)>,
    flying: Arc<AtomicUsize>,
}

/// What is counted when it was sent.
#[derive(Debug)]
pub(crate) struct Amounts {
    body: u64,
    length_conflicts: u64,
}

impl Repeated {
    /// The request of this exchange, or why it has none that could be repeated.
    pub(crate) fn of(
        exchange: Exchange,
        admission: Admission,
        shared: &Arc<Shared>,
        flying: &Arc<AtomicUsize>,
    ) -> Result<Self, (Admission, Reason)> {
        let amounts =
            Amounts { body: exchange.request.body.len() as u64, length_conflicts: exchange.length_conflicts() };
        let Some(parts) = parts(exchange) else {
            return Err((admission, Reason::Unsuitable));
        };
        flying.fetch_add(1, Relaxed);
        let (method, target, headers, body, trailers) = parts;
        let fate = Some((admission, Arc::clone(shared), amounts));
        Ok(Self { method, target, headers, body, trailers, fate, flying: Arc::clone(flying) })
    }

    /// It was sent and something answered.
    pub fn sent(mut self) {
        if let Some(shared) = self.built() {
            shared.tally.packets_sent.fetch_add(1, Relaxed);
        }
    }

    /// It was not, for this reason.
    pub fn failed(mut self, error: &io::Error) {
        if let Some(shared) = self.built() {
            shared.tally.send_error(error.raw_os_error().unwrap_or(0));
        }
    }

    fn built(&mut self) -> Option<Arc<Shared>> {
        let (admission, shared, amounts) = self.fate.take()?;
        shared.tally.packets_built.fetch_add(1, Relaxed);
        admission.repeated(amounts.body, amounts.length_conflicts);
        Some(shared)
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        if let Some((admission, _, _)) = self.fate.take() {
            admission.refuse(Reason::Shutdown);
        }
        self.flying.fetch_sub(1, Relaxed);
    }
}

type Parts = (Method, Uri, HeaderMap, Vec<u8>, HeaderMap);

/// Reads back what this crate has written itself: no line of it is anything but `name: value`.
fn parts(exchange: Exchange) -> Option<Parts> {
    let upgraded = exchange.status == Some(StatusCode::SWITCHING_PROTOCOLS);
    let request = exchange.request;
    if request.cut || request.open_ended || upgraded {
        return None;
    }
    let mut lines = request.head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut first = lines.next()?.split(|byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let target = Uri::try_from(first.next()?).ok()?;
    if method == Method::CONNECT || target.path_and_query().is_none() {
        return None;
    }
    let mut headers = fields(lines);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    mark(&mut headers, exchange.tuple.server.ip())?;
    let tail = request.tail.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let last_chunk = tail.skip_while(|line| *line != b"0").skip(1);
    Some((method, target, headers, request.body, fields(last_chunk)))
}

/// Header lines up to the first empty one.
fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// The marks by which a service knows a shadow, as Envoy sets them: the host's name, who passed it on, and that it was us.
fn mark(headers: &mut HeaderMap, proxy: IpAddr) -> Option<()> {
    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let host = shadow_of(headers.get(HOST)?.to_str().ok()?);
    headers.insert(HOST, HeaderValue::from_str(&host).ok()?);
    let before = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let chain: Vec<String> = before.map(str::to_owned).chain([proxy.to_string()]).collect();
    headers.insert(FORWARDED_FOR, HeaderValue::from_str(&chain.join(",")).ok()?);
    headers.insert(HeaderName::from_static("x-envoy-internal"), HeaderValue::from_static("true"));
    Some(())
}

/// `-shadow` after the host's name, before its port.
fn shadow_of(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{name}-shadow:{port}")
        }
        _ => format!("{host}-shadow"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn shadow_goes_before_the_port_as_in_envoy() {
        for (host, expected) in [
            ("orders.shop", "orders.shop-shadow"),
            ("127.0.0.1:21001", "127.0.0.1-shadow:21001"),
            ("[::1]:80", "[::1]-shadow:80"),
            ("[::1]", "[::1]-shadow"),
            ("orders:", "orders:-shadow"),
        ] {
            assert_eq!(shadow_of(host), expected);
        }
    }

    #[test]
    fn marks_are_set_and_kept_apart_from_what_was_there() {
        let lines: [&[u8]; 4] = [b"host: a:1", b"x-forwarded-for: 10.0.0.1", b"x-envoy-internal: false", b""];
        let mut headers = fields(lines.into_iter());
        mark(&mut headers, "10.0.0.2".parse().unwrap()).unwrap();
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("host"), "a-shadow:1");
        assert_eq!(text("x-forwarded-for"), "10.0.0.1,10.0.0.2");
        assert_eq!((text("x-envoy-internal"), headers.get_all("x-envoy-internal").iter().count()), ("true".into(), 1));
    }
}

//! The inbound story: another workload wants something of our application.
//!
//! connection → original destination → mutual TLS → protocol → (per request) target → route → judgement → upstream.
//! Each step makes the value the next one needs; an error at any step becomes a refusal, never a skipped check.

use crate::{
    capture,
    connection::{Connection, Entry, Opened, Proved},
    detect::{self, Detected},
    guard::{self, Question},
    http::{Exchange, Failure, Http},
    live::Live,
    observe::{access_log, refusal},
    opaque,
    passage::Passage,
    stream::Stream,
    tls::{self, Peer},
    upstream::{Route, Security, Target},
    worker::Worker,
};
use config::{Capture, Protocol};
use policy::{Direction, canonicalise};
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};
use tokio::net::TcpStream;

/// From an accepted connection to a peer and a protocol. `None`: it was refused, and that has been told.
pub(crate) async fn open(worker: Rc<Worker>, tcp: TcpStream, remote: SocketAddr, local: SocketAddr) -> Option<Opened> {
    let live = worker.live();
    let timeouts = live.snapshot.proxy.timeouts;
    let original_dst = match live.snapshot.proxy.capture {
        Capture::None => None,
        Capture::Redirect => match capture::original_dst(&tcp, local, &worker.shared) {
            Ok(destination) => Some(destination),
            Err(why) => {
                refusal::connection(&worker, true, remote, None, why.reason(), "no original destination");
                return None;
            }
        },
    };
    let port =
        original_dst.map_or_else(|| live.snapshot.app.as_ref().map_or(0, |app| app.address.port()), |to| to.port());
    let mut tcp = tcp;
    // Plain text is looked at only where a rule accepts it; everywhere else the first byte must be TLS.
    if live.snapshot.rules.allows_plaintext(port) && !begins_with_tls(&mut tcp, timeouts.detect).await {
        if worker.shared.connections.load(Ordering::Relaxed) > worker.places().open {
            worker.metrics.direction(true).overflow.inc();
            let detail = "the bound on connections is reached";
            refusal::connection(&worker, true, remote, original_dst, "max_connections", detail);
            return None;
        }
        let connection = Connection::new(worker, Entry::Inbound, remote, local, original_dst, None);
        return detected(connection, Stream::plain(tcp), None).await;
    }
    let promise = worker.shakes_hands();
    let cells = worker.metrics.direction(true);
    let identity = worker.identity();
    let seat = worker.handshakes.enter(remote.ip());
    cells.tls_handshakes_active.set(u64::try_from(worker.handshakes.len()).unwrap_or(u64::MAX));
    let accepted = seat.hold(tls::accept(tcp, identity.server(), timeouts.handshake, &worker.peers)).await;
    cells.tls_handshakes_active.set(u64::try_from(worker.handshakes.len()).unwrap_or(u64::MAX));
    let (stream, peer, facts) = match accepted.unwrap_or(Err(tls::Refused::Crowded)) {
        Ok(accepted) => accepted,
        Err(refused) => {
            match &refused {
                tls::Refused::Certificate(identity::SvidError::NoCertificate) => cells.tls_no_certificate.inc(),
                tls::Refused::Certificate(identity::SvidError::UntrustedDomain { .. }) => cells.tls_verify_san.inc(),
                tls::Refused::Certificate(_) => cells.tls_verify_error.inc(),
                _ => cells.tls_connection_error.inc(),
            }
            refusal::handshake(&worker, true, remote, original_dst, &refused);
            return None;
        }
    };
    drop(promise);
    cells.tls_handshakes.inc();
    if facts.resumed {
        cells.tls_resumed.inc();
    }
    let taken = worker.shared.connections.load(Ordering::Relaxed);
    let limit = worker.places().of_one(taken, live.snapshot.proxy.max_connections_per_identity);
    let Some(share) = worker.shared.shares.take(peer.id(), limit) else {
        cells.overflow.inc();
        refusal::over_share(&worker, remote, original_dst, peer.id());
        return None;
    };
    let alpn = facts.alpn.clone();
    let proved = Proved { peer, facts, version: identity.version(), share };
    let connection = Connection::new(worker, Entry::Inbound, remote, local, original_dst, Some(proved));
    detected(connection, Stream::tls(stream), alpn).await
}

/// Decides the protocol.
async fn detected(connection: Rc<Connection>, mut stream: Stream, alpn: Option<Vec<u8>>) -> Option<Opened> {
    let live = connection.worker.live();
    let detected = if live.snapshot.rules.declares_tcp(Direction::Inbound, connection.rule_port()) {
        Detected::Opaque
    } else {
        match (live.app_protocol(), alpn.as_deref()) {
            (Protocol::Tcp, _) => Detected::Opaque,
            (_, Some(b"h2")) => Detected::Http(Http::Two),
            (_, Some(b"http/1.1")) => Detected::Http(Http::One),
            _ => match detect::detect(&mut stream, live.snapshot.proxy.timeouts.detect).await {
                Ok(detected) => detected,
                Err(_) => {
                    access_log::connection_lost(&connection);
                    return None;
                }
            },
        }
    };
    Some(Opened { connection, stream, detected })
}

/// Carries a connection that is not HTTP.
pub(crate) async fn carry(connection: Rc<Connection>, stream: Stream) {
    let route = route(&connection);
    let question = question(&connection, &connection.worker.live());
    opaque::carry(connection, stream, route, question).await;
}

/// Decides about one request.
pub(crate) fn decide(exchange: &Exchange) -> Result<Passage, Failure> {
    let connection = &exchange.connection;
    let asked = &exchange.asked;
    if !connection.is_trusted() {
        return Err(Failure::Distrusted);
    }
    if connection.worker.shared.overload.refuses() {
        connection.worker.shared.overload.shed_request();
        return Err(Failure::Overloaded);
    }
    asked.refuse_unclear()?;
    let target =
        canonicalise(exchange.live.snapshot.rules.path_options(), &asked.raw()?).map_err(Failure::Malformed)?;
    let (judged, permit) =
        guard::judge(&exchange.live, question(connection, &exchange.live), Some(asked.view(&target)));
    let denied = if permit.is_none() { judged.rule.as_deref().map(str::to_owned) } else { None };
    exchange.judged(judged);
    let Some(permit) = permit else {
        return Err(Failure::Denied(denied));
    };
    let route = route(connection).ok_or(Failure::NoRoute)?;
    exchange.routed(&route);
    Ok(Passage::new(asked, &target, permit, route, None))
}

fn question(connection: &Connection, live: &Live) -> Question {
    Question {
        party: connection.party(live, connection.peer.as_ref().map(Peer::id), None),
        plaintext: connection.tls.is_none(),
        port: connection.rule_port(),
    }
}

/// Our application: where the file says it is, or where the caller wanted to go.
fn route(connection: &Connection) -> Option<Arc<Route>> {
    let live = connection.worker.live();
    let Some(destination) = connection.original_dst else {
        return live.app.clone();
    };
    Some(connection.route_of(&live, live.captured_app_id, || Route {
        name: "InboundPassthroughCluster".into(),
        name_id: live.captured_app_id,
        targets: vec![Target::Socket(destination)],
        security: Security::Plain,
        protocol: live.app_protocol(),
        timeout: live.snapshot.app.as_ref().and_then(|app| app.timeout),
        connect_timeout: live.snapshot.proxy.timeouts.connect,
        // The redirect rules let this source through to the application; from any other the connection would come back.
        source: destination.is_ipv4().then_some(IpAddr::V4(capture::rules::INBOUND_SOURCE)),
    }))
}

/// Whether the first byte is a TLS handshake record (RFC 8446 §5.1). Silence counts as plain: the server may speak first.
async fn begins_with_tls(tcp: &mut TcpStream, deadline: std::time::Duration) -> bool {
    let mut first = [0];
    match tokio::time::timeout(deadline, tcp.peek(&mut first)).await {
        Ok(Ok(1)) => first == [22],
        _ => false,
    }
}

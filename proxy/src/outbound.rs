//! The outbound story: our application wants something of another workload.
//!
//! connection → original destination → protocol → (per request) target → route → judgement → mutual TLS → upstream.
//! Where only the certificate can tell who answers (no `[[service]]` for the address), the connection comes first and the
//! judgement uses the identity it proved; no byte of the request is sent before.

use crate::{
    capture,
    connection::{Connection, Entry, Opened},
    detect::{self, Detected},
    guard::{self, Question},
    http::{Exchange, Failure},
    live::Live,
    observe::{access_log, refusal},
    opaque,
    passage::Passage,
    stream::Stream,
    tls::Peer,
    upstream::{Expect, Route, Security, Target, acquire, upstream_http},
    worker::Worker,
};
use config::{Capture, Protocol};
use identity::SpiffeId;
use policy::{Direction, Mode, canonicalise};
use std::{net::SocketAddr, rc::Rc, sync::Arc};
use tokio::net::TcpStream;

/// From an accepted connection of our application to its protocol. `None`: it was refused, and that has been told.
pub(crate) async fn open(
    worker: Rc<Worker>,
    tcp: TcpStream,
    entry: Entry,
    remote: SocketAddr,
    local: SocketAddr,
) -> Option<Opened> {
    let live = worker.live();
    let original_dst = match (live.snapshot.proxy.capture, entry) {
        (Capture::Redirect, Entry::Outbound) => match capture::original_dst(&tcp, local, &worker.shared) {
            Ok(destination) => Some(destination),
            Err(why) => {
                refusal::connection(&worker, false, remote, None, why.reason(), "no original destination");
                return None;
            }
        },
        _ => None,
    };
    let connection = Connection::new(worker, entry, remote, local, original_dst, None);
    let mut stream = Stream::plain(tcp);
    let protocol = match destination(&connection, &live, None) {
        Destination::Service(index) => live.services.get(index).map_or(Protocol::Auto, |route| route.protocol),
        _ => Protocol::Auto,
    };
    let declared_tcp = live.snapshot.rules.declares_tcp(Direction::Outbound, connection.rule_port());
    let detected = if protocol == Protocol::Tcp || (declared_tcp && protocol == Protocol::Auto) {
        Detected::Opaque
    } else {
        match detect::detect(&mut stream, live.snapshot.proxy.timeouts.detect).await {
            Ok(detected) => detected,
            Err(_) => {
                access_log::connection_lost(&connection);
                return None;
            }
        }
    };
    Some(Opened { connection, stream, detected })
}

/// Carries a connection that is not HTTP.
pub(crate) async fn carry(connection: Rc<Connection>, stream: Stream) {
    let live = connection.worker.live();
    let (route, question) = match destination(&connection, &live, None) {
        Destination::Service(index) => {
            (service(&connection, &live, index), question(&connection, &live, expected(&live, index)))
        }
        Destination::Address(address) => {
            (Some(original_dst_route(&connection, &live, address)), question(&connection, &live, None))
        }
        Destination::Passthrough(address) => {
            (Some(passthrough_route(&connection, &live, address)), question(&connection, &live, None))
        }
        Destination::Unknown => (None, question(&connection, &live, None)),
    };
    opaque::carry(connection, stream, route, question).await;
}

/// Decides about one request.
pub(crate) async fn decide(exchange: &Rc<Exchange>) -> Result<Passage, Failure> {
    let connection = &exchange.connection;
    let asked = &exchange.asked;
    let live = &exchange.live;
    if connection.worker.shared.overload.refuses() {
        connection.worker.shared.overload.shed_request();
        return Err(Failure::Overloaded);
    }
    asked.refuse_unclear()?;
    let target = canonicalise(live.snapshot.rules.path_options(), &asked.raw()?).map_err(Failure::Malformed)?;
    let ask = |expected: Option<&SpiffeId>| question(connection, live, expected);
    let (route, question, lease) = match destination(connection, live, Some(target.host())) {
        Destination::Service(index) => (service(connection, live, index), ask(expected(live, index)), None),
        Destination::Passthrough(address) => (Some(passthrough_route(connection, live, address)), ask(None), None),
        Destination::Address(address) => {
            let route = original_dst_route(connection, live, address);
            exchange.routed(&route);
            match acquire(exchange, &route, upstream_http(&route, asked.version), false).await {
                Ok(lease) => {
                    let proved = ask(lease.made.peer.as_ref().map(Peer::id));
                    (Some(route), proved, Some(lease))
                }
                // `observe` refuses nothing: who does not prove an identity is reached as without the proxy, and noted.
                Err(_) if live.snapshot.mode == Mode::Observe => {
                    (Some(passthrough_route(connection, live, address)), ask(None), None)
                }
                Err(failure) => return Err(failure),
            }
        }
        Destination::Unknown => (None, ask(None), None),
    };
    if let Some(route) = &route {
        exchange.routed(route);
    } else if connection.original_dst.is_none() {
        // An explicit listener and a host that is no service's: there is nothing to judge.
        return Err(Failure::NoRoute);
    }
    let (judged, permit) = guard::judge(live, question, Some(asked.view(&target)));
    let denied = if permit.is_none() { judged.rule.as_deref().map(str::to_owned) } else { None };
    exchange.judged(judged);
    let Some(permit) = permit else {
        return Err(Failure::Denied(denied));
    };
    let route = match (route, connection.original_dst) {
        (Some(route), _) => route,
        // Only `observe` permits what nothing describes: it goes where the application wanted it to go, as it is.
        (None, Some(address)) => passthrough_route(connection, live, address),
        (None, None) => return Err(Failure::NoRoute),
    };
    exchange.routed(&route);
    Ok(Passage::new(asked, &target, permit, route, lease))
}

/// Where an outbound connection or request goes.
enum Destination {
    /// A `[[service]]`, by its index.
    Service(usize),
    /// An address no service has, behind which an identity must answer that a `to` rule names.
    Address(SocketAddr),
    /// An address that a rule names as such (`to_cidr`): no identity is expected.
    Passthrough(SocketAddr),
    Unknown,
}

/// By local bind, by original destination, by host name, in this order: what the application dialled says more than what it
/// wrote.
fn destination(connection: &Connection, live: &Live, host: Option<&str>) -> Destination {
    if let Entry::Service(bind) = connection.entry {
        return live.service_by_bind(bind).map_or(Destination::Unknown, Destination::Service);
    }
    let by_address = connection.original_dst.and_then(|address| live.service_by_address(address));
    if let Some(index) = by_address.or_else(|| host.and_then(|host| live.service_by_host(host))) {
        return Destination::Service(index);
    }
    let Some(address) = connection.original_dst else {
        return Destination::Unknown;
    };
    let rules = &live.snapshot.rules;
    if rules.names_cidr(address.ip(), address.port()) {
        Destination::Passthrough(address)
    } else if rules.has_outbound_to(address.port()) {
        Destination::Address(address)
    } else {
        Destination::Unknown
    }
}

/// The route of a service: to its endpoints, or, where the file lists none, to the address the application dialled.
fn service(connection: &Connection, live: &Live, index: usize) -> Option<Arc<Route>> {
    let route = live.services.get(index)?;
    match connection.original_dst {
        Some(address) if route.targets.is_empty() => {
            Some(connection.route_of(live, route.name_id, || route.at(address)))
        }
        _ => Some(Arc::clone(route)),
    }
}

fn expected(live: &Live, index: usize) -> Option<&SpiffeId> {
    live.snapshot.services.get(index).map(|service| &service.identity)
}

fn question(connection: &Connection, live: &Live, peer: Option<&SpiffeId>) -> Question {
    Question {
        party: connection.party(live, peer, connection.original_dst.map(|address| address.ip())),
        plaintext: false,
        port: connection.rule_port(),
    }
}

fn original_dst_route(connection: &Connection, live: &Live, address: SocketAddr) -> Arc<Route> {
    connection.route_of(live, live.original_dst_id, || Route {
        name: "OriginalDstCluster".into(),
        name_id: live.original_dst_id,
        targets: vec![Target::Socket(address)],
        security: Security::Mtls(Expect::NamedByRules(address.port())),
        protocol: Protocol::Auto,
        timeout: None,
        connect_timeout: live.snapshot.proxy.timeouts.connect,
        source: None,
    })
}

fn passthrough_route(connection: &Connection, live: &Live, address: SocketAddr) -> Arc<Route> {
    connection.route_of(live, live.passthrough_id, || Route {
        name: "PassthroughCluster".into(),
        name_id: live.passthrough_id,
        targets: vec![Target::Socket(address)],
        security: Security::Plain,
        protocol: Protocol::Auto,
        timeout: None,
        connect_timeout: live.snapshot.proxy.timeouts.connect,
        source: None,
    })
}

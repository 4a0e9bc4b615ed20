//! Opaque connections: judged once, by who and where to, then carried as bytes.
//!
//! Only a rule without `requests` and `grpc` allows one (policy B.13: such a rule matches any traffic of its ports).

use crate::{
    connection::Connection,
    guard::{self, Question},
    observe::{access_log, refusal},
    stream::Stream,
    tap_records,
    tap_streams::Streams,
    tls::{Alpn, Negotiated, Peer},
    tunnel,
    upstream::{Dialled, Expect, Route, Security, addresses, dial},
};
use config::Protocol;
use policy::Mode;
use std::{rc::Rc, sync::Arc};

/// What the log line of an opaque connection says.
pub(crate) struct Outcome {
    pub(crate) judged: Option<guard::Judged>,
    pub(crate) upstream: Option<Arc<Route>>,
    pub(crate) upstream_address: Option<std::net::SocketAddr>,
    pub(crate) flag: &'static str,
    pub(crate) details: String,
    pub(crate) passed: tunnel::Passed,
    /// The ends of the connection that carried it on, where a tap has to know them.
    pub(crate) carried: Option<(std::net::SocketAddr, std::net::SocketAddr)>,
    /// Who answered, and what was negotiated with it.
    pub(crate) callee: Option<Peer>,
    pub(crate) callee_tls: Option<Negotiated>,
    /// Where a tap of packets copies it to.
    pub(crate) place: Option<Arc<tap::Place>>,
}

/// Judges and carries one connection. `route` is absent when nothing in the file says where it goes.
pub(crate) async fn carry(
    connection: Rc<Connection>,
    mut stream: Stream,
    route: Option<Arc<Route>>,
    mut question: Question,
) {
    connection.cells().tcp_connections.inc();
    let mut outcome = Outcome {
        judged: None,
        upstream: route.clone(),
        upstream_address: None,
        flag: "-",
        details: "-".to_owned(),
        passed: tunnel::Passed::default(),
        carried: None,
        callee: None,
        callee_tls: None,
        place: None,
    };
    let worker = Rc::clone(&connection.worker);
    if worker.shared.overload.refuses() {
        worker.shared.overload.shed_connection();
        (outcome.flag, outcome.details) = ("OM", "overload".to_owned());
        stream.reset();
        Streams::opaque(&connection, &worker.live(), None, None).refused();
        return over(&connection, &outcome);
    }
    let live = worker.live();
    // Who answers is known only after the handshake: connect, then judge by what was proved.
    let mut early = None;
    let mut route = route;
    if let Some(named) = route.clone()
        && let Security::Mtls(Expect::NamedByRules(_)) = named.security
    {
        match connect(&connection, &named, &mut outcome).await {
            Some(dialled) => {
                let proved = dialled.peer.as_ref().map(Peer::id);
                question.party = connection.party(&live, proved, question.party.ip());
                early = Some(dialled);
            }
            // `observe` refuses nothing: who does not prove an identity is reached as without the proxy, and noted.
            None if live.snapshot.mode == Mode::Observe => route = None,
            None => {
                Streams::opaque(&connection, &live, None, None).refused();
                stream.reset();
                return over(&connection, &outcome);
            }
        }
    }
    let (judged, permit) = guard::judge(&live, question, None);
    let rule = judged.rule.clone();
    outcome.judged = Some(judged.clone());
    let wire = early.as_ref().and_then(|dialled: &Dialled| dialled.wire(&live));
    // With a connection that is still to be made, the copy waits for it only where its ends are looked at.
    let mut copies = None;
    if permit.is_none() || wire.is_some() || !live.samples_outbound || connection.is_inbound() {
        copies = Some(Streams::opaque(&connection, &live, Some(&judged), wire));
    }
    outcome.place = copies.as_ref().and_then(Streams::place);
    let Some(_permit) = permit else {
        copies.unwrap_or_default().refused();
        outcome.details = format!("rbac_access_denied_matched_policy[{}]", rule.as_deref().unwrap_or("none"));
        stream.reset();
        refusal::opaque(&connection, &outcome);
        return over(&connection, &outcome);
    };
    let route = match (route, connection.original_dst) {
        (Some(route), _) => route,
        // Only `observe` permits what nothing describes.
        (None, Some(address)) => Arc::new(Route {
            name: "PassthroughCluster".into(),
            name_id: live.passthrough_id,
            targets: vec![crate::upstream::Target::Socket(address)],
            security: Security::Plain,
            protocol: Protocol::Tcp,
            timeout: None,
            connect_timeout: live.snapshot.proxy.timeouts.connect,
            source: None,
        }),
        (None, None) => {
            outcome.flag = "NR";
            outcome.details = "route_not_found".to_owned();
            copies.unwrap_or_default().refused();
            return over(&connection, &outcome);
        }
    };
    outcome.upstream = Some(Arc::clone(&route));
    let dialled = match early {
        Some(dialled) => Some(dialled),
        None => connect(&connection, &route, &mut outcome).await,
    };
    let wire = dialled.as_ref().and_then(|dialled| dialled.wire(&live));
    outcome.carried = wire;
    let mut copies = copies.unwrap_or_else(|| Streams::opaque(&connection, &live, Some(&judged), wire));
    outcome.place = copies.place();
    let Some(mut dialled) = dialled else {
        copies.refused();
        stream.reset();
        return over(&connection, &outcome);
    };
    let idle = live.snapshot.proxy.timeouts.downstream_idle;
    let (end, passed) = tunnel::run(
        (&mut stream, &mut dialled.stream),
        &mut copies,
        &judged,
        None,
        &connection,
        dialled.peer.as_ref(),
        idle,
    )
    .await;
    outcome.passed = passed;
    (outcome.flag, outcome.details) = match end {
        tunnel::End::Closed => ("-", "-".to_owned()),
        tunnel::End::DownstreamBroke => ("DC", "downstream_remote_disconnect".to_owned()),
        tunnel::End::UpstreamBroke => ("UC", "upstream_remote_disconnect".to_owned()),
        tunnel::End::Idle => ("SI", "idle_timeout".to_owned()),
        tunnel::End::Revoked => {
            outcome.details = "revoked_by_policy".to_owned();
            refusal::opaque(&connection, &outcome);
            ("-", "revoked_by_policy".to_owned())
        }
    };
    connection.cells().bytes_received.add(passed.up);
    connection.cells().bytes_sent.add(passed.down);
    over(&connection, &outcome);
}

/// It is over: who writes it down hears of it.
fn over(connection: &Connection, outcome: &Outcome) {
    tap_records::flow(connection, outcome);
    access_log::opaque(connection, outcome);
}

async fn connect(connection: &Connection, route: &Route, outcome: &mut Outcome) -> Option<Dialled> {
    let worker = &connection.worker;
    let live = worker.live();
    let mut last = crate::http::Failure::NoEndpoint;
    match addresses(worker, route).await {
        Err(failure) => last = failure,
        Ok(addresses) => {
            let first = worker.turn(addresses.len());
            for attempt in 0..addresses.len().min(crate::limits::CONNECT_ATTEMPTS) {
                let Some(address) = addresses.get((first + attempt) % addresses.len()).copied() else {
                    break;
                };
                outcome.upstream_address = Some(address);
                match dial(worker, &live, route, address, Alpn::None).await {
                    Ok(dialled) => {
                        (outcome.callee, outcome.callee_tls) = (dialled.peer.clone(), dialled.tls);
                        return Some(dialled);
                    }
                    Err(failure @ (crate::http::Failure::Tls(_) | crate::http::Failure::Overflow)) => {
                        last = failure;
                        break;
                    }
                    Err(failure) => last = failure,
                }
            }
        }
    }
    let reply = last.reply();
    // Envoy's TCP proxy prints both: the failure, and that its attempts are spent.
    outcome.flag = if reply.flag == "UF" { "UF,URX" } else { reply.flag };
    outcome.details = reply.details.into_owned();
    if last.is_refusal() && live.snapshot.mode == Mode::Enforce {
        refusal::opaque(connection, outcome);
    }
    None
}

//! What only the whole file shows: listeners that collide, traffic in a circle, destinations nobody serves,
//! rules that nothing would ever ask.

use crate::codes;
use crate::problem::Notebook;
use crate::proxy::{Bound, Proxy};
use crate::rules::Rules;
use crate::services::Services;
use crate::snapshot::{App, Capture, Endpoint, Protocol};
use identity::SpiffeId;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::Range;

/// Checks the file as a whole.
pub(crate) fn check(
    proxy: &Proxy,
    app: Option<&(App, Range<usize>)>,
    services: &Services,
    rules: &Rules,
    notes: &mut Notebook,
) {
    let bound: Vec<&Bound> = proxy.bound.iter().chain(&services.bound).collect();
    check_protocol(app, rules, notes);
    check_collisions(&bound, notes);
    check_circles(&bound, app, services, notes);
    if proxy.settings.capture == Capture::None {
        check_app(proxy, notes);
        check_served(services, rules, notes);
        check_asked(proxy, services, rules, notes);
    }
}

/// Two listeners on one address: the second would fail to bind.
fn check_collisions(bound: &[&Bound], notes: &mut Notebook) {
    for (i, second) in bound.iter().enumerate() {
        let Some(first) = bound.iter().take(i).find(|first| overlap(first.address, second.address)) else {
            continue;
        };
        let message = format!("{} and {} both want port {}", first.key, second.key, second.address.port());
        // Point to what is written; a default has no place of its own in the file.
        let (place, other) = if second.written { (second, first) } else { (first, second) };
        let problem = notes.error(&codes::LISTENERS, place.span.clone(), message);
        if other.written && other.span != place.span {
            problem.related(other.span.clone(), "also wanted here");
        } else if !other.written {
            problem.help(format!("{} is not written, so it has its default", other.key));
        }
    }
}

/// Traffic that the sidecar would send to itself.
fn check_circles(bound: &[&Bound], app: Option<&(App, Range<usize>)>, services: &Services, notes: &mut Notebook) {
    let listener = |address| bound.iter().find(|b| reaches(address, b.address));
    if let Some((app, span)) = app
        && let Some(own) = listener(app.address)
    {
        notes
            .error(
                &codes::LISTENERS,
                span.clone(),
                format!("the application's address is the sidecar's own {}", own.key),
            )
            .help("write the address that the application itself listens on");
    }
    for (service, span) in &services.list {
        for endpoint in &service.endpoints {
            if let Endpoint::Socket(address) = endpoint
                && let Some(own) = listener(*address)
                && (own.key.ends_with("bind") || own.key.ends_with("outbound"))
            {
                let message =
                    format!("the endpoint {address} of service `{}` is the sidecar's own {}", service.name, own.key);
                notes.error(&codes::LISTENERS, span.clone(), message).help("traffic would run in a circle");
            }
        }
    }
}

/// Without capture there is no original destination: what comes in goes to the application.
fn check_app(proxy: &Proxy, notes: &mut Notebook) {
    if !proxy.app_written
        && let Some(span) = &proxy.inbound_written
    {
        notes
            .error(&codes::LISTENERS, span.clone(), "inbound traffic has nowhere to go")
            .label("without capture it goes to the application")
            .help("write [app] with its `address`");
    }
}

fn check_served(services: &Services, rules: &Rules, notes: &mut Notebook) {
    let served: HashSet<&SpiffeId> = services.list.iter().map(|(service, _)| &service.identity).collect();
    for destination in &rules.destinations {
        if !destination.is_among(&served) {
            let message = format!("no [[service]] serves `{}`", destination.text);
            notes
                .error(&codes::UNSERVED, destination.span.clone(), message)
                .label("with `capture = \"none\"` there is no original destination")
                .help("add a [[service]] with this identity and its endpoints");
        }
    }
}

/// Rules about requests for an application whose bytes are never read.
fn check_protocol(app: Option<&(App, Range<usize>)>, rules: &Rules, notes: &mut Notebook) {
    let Some((app, span)) = app.filter(|(app, _)| app.protocol == Protocol::Tcp) else {
        return;
    };
    if let Some(rule) = rules.inbound.iter().find(|rule| rule.reads_requests()) {
        let message =
            format!("rule `{}` reads requests, but the application at {} speaks `tcp`", rule.name, app.address);
        notes.warning(&codes::NO_REQUESTS, span.clone(), message).help(
            "such an allow rule never matches, and such a deny rule refuses everything: change `protocol` or the rule",
        );
    }
}

/// Things that are legal and do nothing.
fn check_asked(proxy: &Proxy, services: &Services, rules: &Rules, notes: &mut Notebook) {
    if let Some(span) = &rules.first_inbound
        && proxy.settings.inbound.is_empty()
    {
        notes
            .warning(&codes::NO_INBOUND, span.clone(), "inbound rules without an inbound listener")
            .help("write [app] with the application's `address`, or remove the rules");
    }
    for (service, span) in &services.list {
        if service.bind.is_empty() && proxy.settings.outbound.is_empty() {
            notes
                .warning(&codes::UNREACHABLE, span.clone(), format!("nothing can reach service `{}`", service.name))
                .help("give it a `bind`, or write `[proxy] outbound`");
        }
    }
}

/// Whether two listeners cannot both be bound.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && same_ip
}

/// Whether a connection to `to` ends at a listener of this host.
fn reaches(to: SocketAddr, listener: SocketAddr) -> bool {
    let here = to.ip() == listener.ip() || (listener.ip().is_unspecified() && to.ip().is_loopback());
    to.port() == listener.port() && to.is_ipv4() == listener.is_ipv4() && here
}

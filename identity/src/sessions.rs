//! Resumed sessions that outlive nothing they rest on (RFC 8446 §2.2, §4.6.1; TLS 1.3 only).
//!
//! A resumed handshake proves that both ends took part in an earlier one; nobody shows a certificate again. So a session is
//! good only under the credentials, bundle and expected identity of the handshake that made it, and only until the first
//! certificate it rests on expires: those of the peer's chain, those of our own, the roots. Within that it is good for
//! [`LIFETIME`]. Credentials that change take both sides' sessions with them: tickets were sealed under keys, and kept in a
//! store, that exist once per configuration. A refused session costs a full handshake and nothing else.
//!
//! The server keeps no sessions. A ticket carries what it needs, the client's chain included, sealed: so no number of
//! clients costs memory, and there is no table to fill. rustls resumes with a fresh key exchange only (`psk_dhe_ke`), so
//! whoever learns a ticket key can read no traffic; its keys roll every six hours all the same.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use rustls::{Error, NamedGroup};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::bundle::Bundle;
use crate::error::SvidError;
use crate::x509;

/// How long a session is good at most. It bounds what is gained by a stolen one, and costs a client one full handshake an hour.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// When the first certificate of a chain expires (the last second of its validity).
pub fn expiry(chain: &[CertificateDer<'_>]) -> Result<SystemTime, SvidError> {
    let mut first = None;
    for certificate in chain {
        let certificate = x509::parse(certificate)?;
        let end = x509::time(certificate.validity().not_after.timestamp());
        first = Some(first.map_or(end, |first: SystemTime| first.min(end)));
    }
    first.ok_or(SvidError::NoCertificate)
}

/// What every session of one configuration rests on beside the peer's chain, and the clock to judge it by.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) clock: Arc<dyn TimeProvider>,
    pub(crate) bundle: Bundle,
    /// The expiry of our own chain.
    pub(crate) own: SystemTime,
}

impl Ground {
    fn now(&self) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock.current_time()?.as_secs()))
    }

    /// The last moment of a session made at `now` with a peer whose chain expires at `peer`.
    ///
    /// Which root a chain led to is not asked: the first to expire is taken, so that a session may end early, never late.
    /// A root that has expired issues nothing any more and ends nothing.
    fn end(&self, now: SystemTime, peer: SystemTime) -> SystemTime {
        let roots = self.bundle.expiries().filter(|end| *end >= now);
        roots.fold((now + LIFETIME).min(peer).min(self.own), SystemTime::min)
    }
}

/// The server's side: seals sessions into tickets, each with the moment after which it is not opened.
#[derive(Debug)]
pub(crate) struct Tickets {
    ground: Ground,
    sealer: Arc<dyn ProducesTickets>,
}

impl Tickets {
    /// With keys of its own: no other opens its tickets.
    pub(crate) fn new(ground: Ground) -> Result<Self, Error> {
        Ok(Self { ground, sealer: Ticketer::new()? })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// Without the client's chain, which rustls does not hand over here: a hint may be too long, a ticket is not.
    fn lifetime(&self) -> u32 {
        let Some(now) = self.ground.now() else {
            return 0;
        };
        let end = self.ground.end(now, now + LIFETIME);
        end.duration_since(now).map_or(0, |left| u32::try_from(left.as_secs()).unwrap_or(0))
    }

    /// `None`: no ticket is sent. That is so for whatever is not a TLS 1.3 session of a client with a certificate.
    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let now = self.ground.now()?;
        let chain = client_chain(session)?;
        let end = self.ground.end(now, expiry(&chain).ok()?);
        let (now, end) = (seconds(now)?, seconds(end)?);
        if end <= now {
            return None;
        }
        let sealed = [&now.to_be_bytes()[..], &end.to_be_bytes(), session].concat();
        self.sealer.encrypt(&sealed)
    }

    /// `None`: the handshake will be a full one.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let opened = self.sealer.decrypt(ticket)?;
        let (begin, rest) = opened.split_first_chunk::<8>()?;
        let (end, session) = rest.split_first_chunk::<8>()?;
        let now = seconds(self.ground.now()?)?;
        // A clock that was set back makes sessions of the future, which are not believed either.
        (u64::from_be_bytes(*begin) <= now && now <= u64::from_be_bytes(*end)).then(|| session.to_vec())
    }
}

/// The client's chain in a session as rustls encodes it, read to its end.
///
/// The encoding is rustls' own and may change with it. What is not exactly this is no session of ours: no ticket is made of
/// it, and the tests that resume fail.
fn client_chain(session: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut rest = Fields(session);
    if rest.flag()? {
        let length = rest.number(1)?;
        rest.take(length)?;
    }
    let version = rest.number(2)?;
    let _suite = rest.number(2)?;
    let secret = rest.number(1)?;
    rest.take(secret)?;
    let _extended = rest.flag()?;
    if version != TLS13 || !rest.flag()? {
        return None;
    }
    let length = rest.number(3)?;
    let mut certificates = Fields(rest.take(length)?);
    let mut chain = Vec::new();
    while !certificates.0.is_empty() {
        let length = certificates.number(3)?;
        chain.push(CertificateDer::from(certificates.take(length)?));
    }
    if rest.flag()? {
        let length = rest.number(1)?;
        rest.take(length)?;
    }
    let data = rest.number(2)?;
    rest.take(data)?;
    let _created = rest.take(8)?;
    let _age = rest.take(4)?;
    rest.0.is_empty().then_some(chain)
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of a few octets.
    fn number(&mut self, octets: usize) -> Option<usize> {
        Some(self.take(octets)?.iter().fold(0, |number, octet| number << 8 | usize::from(*octet)))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

/// The client's side: the tickets of one configuration, that is of one expected identity, by the server's name.
pub(crate) struct Sessions {
    ground: Ground,
    servers: Mutex<HashMap<ServerName<'static>, Server>>,
}

/// What is known of one server.
struct Server {
    /// When the first certificate expires of all that this server has shown.
    chain: SystemTime,
    /// Tickets, each with the last moment of its session, oldest first.
    tickets: VecDeque<(SystemTime, Tls13ClientSessionValue)>,
}

impl Sessions {
    pub(crate) fn new(ground: Ground) -> Self {
        Self { ground, servers: Mutex::default() }
    }

    /// A full handshake with this server has verified a chain that expires then. Sessions are kept only after one.
    pub(crate) fn verified(&self, name: &ServerName<'_>, chain: SystemTime) {
        let Some(now) = self.ground.now() else {
            return;
        };
        let name = name.to_owned();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get_mut(&name) {
            if server.chain < now {
                server.tickets.clear();
                server.chain = chain;
            }
            // A ticket does not say which chain it came with, so all are held to the first to expire.
            server.chain = server.chain.min(chain);
            return;
        }
        if servers.len() >= SERVERS {
            servers.retain(|_, server| server.chain >= now && !server.tickets.is_empty());
        }
        if servers.len() < SERVERS {
            servers.insert(name, Server { chain, tickets: VecDeque::new() });
        }
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    // TLS 1.2 is not resumed: its sessions are not bound to a fresh key exchange (RFC 5246 §7.3).
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let Some(now) = self.ground.now() else {
            return;
        };
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get_mut(&name) {
            if server.tickets.len() >= TICKETS {
                server.tickets.pop_front();
            }
            server.tickets.push_back((self.ground.end(now, server.chain), ticket));
        }
    }

    /// The newest ticket, for one use (RFC 8446 appendix C.4). rustls itself heeds the lifetime that the server gave it.
    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let now = self.ground.now()?;
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.get_mut(name)?;
        let chain = server.chain;
        server.tickets.retain(|(end, _)| now <= (*end).min(chain));
        server.tickets.pop_back().map(|(_, ticket)| ticket)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("ground", &self.ground).finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// TLS 1.3's number (RFC 8446 §4.2.1).
const TLS13: usize = 0x0304;

/// Servers whose tickets one configuration keeps. A service with more endpoints resumes with some of them.
const SERVERS: usize = 64;

/// Tickets kept per server, about 3 KiB each: a pool opens a few connections at once.
const TICKETS: usize = 4;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::tls::testing::{Clock, ORDERS, WEB, client_at, credentials, meet, server_at};
    use crate::{Credentials, SpiffeId};
    use rustls::{ClientConfig, HandshakeKind, ServerConfig};

    /// A client and a server with clocks of their own, and what they have to do with each other.
    struct Scene {
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        client_clock: Arc<Clock>,
        server_clock: Arc<Clock>,
    }

    impl Scene {
        fn new(web: &Credentials, orders: &Credentials) -> Self {
            let (client_clock, server_clock) = (Clock::at(NOW), Clock::at(NOW));
            Self {
                client: Arc::new(client_at(web, ORDERS, Arc::clone(&client_clock))),
                server: Arc::new(server_at(orders, Arc::clone(&server_clock))),
                client_clock,
                server_clock,
            }
        }

        fn set(&self, seconds: i64) {
            self.client_clock.set(seconds);
            self.server_clock.set(seconds);
        }

        /// One connection; both sides agree on what it was.
        fn kind(&self) -> HandshakeKind {
            let met = meet(&self.client, &self.server);
            assert_eq!((met.client_error, met.server_error), (None, None));
            assert_eq!(met.client.handshake_kind(), met.server.handshake_kind());
            let chain = met.server.peer_certificates().unwrap();
            assert_eq!(crate::Svid::from_leaf(&chain[0]).unwrap().id().as_str(), WEB);
            met.server.handshake_kind().unwrap()
        }
    }

    /// The credentials of `id` with a leaf that expires then.
    fn expiring(ca: &Ca, id: &str, not_after: i64) -> Arc<Credentials> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut spec = Spec::leaf(id, &key);
        spec.not_after = not_after;
        let leaf = pem(&[ca.issue(spec)]);
        let key = section("PRIVATE KEY", key.serialized_der());
        let roots = pem(std::slice::from_ref(&ca.der));
        let id = SpiffeId::parse(id).unwrap();
        Credentials::from_pem(leaf.as_bytes(), key.as_bytes(), roots.as_bytes(), &id, now()).unwrap()
    }

    #[test]
    fn a_session_is_resumed_again_and_again_within_its_time() {
        let root = Ca::root("root");
        let scene = Scene::new(&credentials(&root, WEB, &root), &credentials(&root, ORDERS, &root));
        assert_eq!(scene.kind(), HandshakeKind::Full);
        for minutes in [0, 10, 50] {
            scene.set(NOW + minutes * 60);
            assert_eq!(scene.kind(), HandshakeKind::Resumed);
        }
    }

    #[test]
    fn a_session_is_good_for_an_hour_to_either_side() {
        let root = Ca::root("root");
        let web = expiring(&root, WEB, NOW + 5 * HOUR);
        let orders = expiring(&root, ORDERS, NOW + 5 * HOUR);
        for (client, server, kind) in [
            (HOUR, HOUR, HandshakeKind::Resumed),
            (HOUR + 1, HOUR, HandshakeKind::Full),
            (HOUR, HOUR + 1, HandshakeKind::Full),
            // The server's clock was set back.
            (0, -1, HandshakeKind::Full),
        ] {
            let scene = Scene::new(&web, &orders);
            assert_eq!(scene.kind(), HandshakeKind::Full);
            scene.client_clock.set(NOW + client);
            scene.server_clock.set(NOW + server);
            assert_eq!(scene.kind(), kind, "{client} {server}");
        }
    }

    #[test]
    fn a_session_does_not_outlive_either_certificate() {
        let root = Ca::root("root");
        let long = NOW + 5 * HOUR;
        for (web, orders, offered) in [(NOW + 60, long, true), (long, NOW + 60, false)] {
            let scene = Scene::new(&expiring(&root, WEB, web), &expiring(&root, ORDERS, orders));
            assert_eq!(scene.kind(), HandshakeKind::Full);
            scene.set(NOW + 60);
            assert_eq!(scene.kind(), HandshakeKind::Resumed);
            // The peer of the one whose certificate has expired is the one to refuse: the full handshake fails.
            scene.set(NOW + 61);
            let met = meet(&scene.client, &scene.server);
            let error = if offered { met.server_error } else { met.client_error };
            assert_eq!(crate::svid_error(&error.unwrap()), Some(&crate::SvidError::Expired));
        }
    }

    #[test]
    fn a_ticket_of_an_expired_client_is_not_opened_even_if_the_client_offers_it() {
        let root = Ca::root("root");
        let scene = Scene::new(&expiring(&root, WEB, NOW + 60), &credentials(&root, ORDERS, &root));
        assert_eq!(scene.kind(), HandshakeKind::Full);
        // The client's clock stands still.
        scene.server_clock.set(NOW + 61);
        let met = meet(&scene.client, &scene.server);
        assert_eq!(met.server.handshake_kind(), Some(HandshakeKind::Full));
        assert!(met.server_error.is_some());
    }

    #[test]
    fn a_session_does_not_outlive_a_root_or_an_intermediate() {
        let root = Ca::root_with("root", |spec| spec.not_after = NOW + 120);
        let scene = Scene::new(&credentials(&root, WEB, &root), &credentials(&root, ORDERS, &root));
        assert_eq!(scene.kind(), HandshakeKind::Full);
        scene.set(NOW + 120);
        assert_eq!(scene.kind(), HandshakeKind::Resumed);
        scene.server_clock.set(NOW + 121);
        assert_eq!(meet(&scene.client, &scene.server).server.handshake_kind(), Some(HandshakeKind::Full));
    }

    #[test]
    fn new_credentials_or_another_bundle_resume_nothing() {
        let root = Ca::root("root");
        let web = credentials(&root, WEB, &root);
        let orders = credentials(&root, ORDERS, &root);
        let scene = Scene::new(&web, &orders);
        assert_eq!(scene.kind(), HandshakeKind::Full);
        assert_eq!(scene.kind(), HandshakeKind::Resumed);
        // The same credentials, made into a configuration again: what happens on every change.
        let renewed = Scene { server: Arc::new(server_at(&orders, Clock::at(NOW))), ..scene };
        assert_eq!(renewed.kind(), HandshakeKind::Full);
        assert_eq!(renewed.kind(), HandshakeKind::Resumed);
        let renewed = Scene { client: Arc::new(client_at(&web, ORDERS, Clock::at(NOW))), ..renewed };
        assert_eq!(renewed.kind(), HandshakeKind::Full);
    }

    #[test]
    fn a_session_with_one_identity_is_not_offered_to_another() {
        let root = Ca::root("root");
        let web = credentials(&root, WEB, &root);
        let ledger = "spiffe://example.org/ns/shop/sa/ledger";
        let scene = Scene::new(&web, &credentials(&root, ORDERS, &root));
        assert_eq!(scene.kind(), HandshakeKind::Full);
        // The same address, now with the expectation of another: a full handshake, which refuses.
        let other = Arc::new(client_at(&web, ledger, Clock::at(NOW)));
        let met = meet(&other, &scene.server);
        assert_eq!(met.client.handshake_kind(), Some(HandshakeKind::Full));
        assert!(met.client_error.is_some());
    }

    #[test]
    fn a_spoilt_ticket_costs_a_full_handshake() {
        let root = Ca::root("root");
        let ground = Ground { clock: Clock::at(NOW), bundle: root.bundle("example.org"), own: at(NOW + HOUR) };
        let tickets = Tickets::new(ground.clone()).unwrap();
        let session = session(TLS13 as u16, Some(&[root.leaf(WEB).0]));
        let ticket = tickets.encrypt(&session).unwrap();
        assert_eq!(tickets.decrypt(&ticket).unwrap(), session);
        for at in 0..ticket.len() {
            let mut spoilt = ticket.clone();
            spoilt[at] ^= 1;
            assert_eq!(tickets.decrypt(&spoilt), None);
            assert_eq!(tickets.decrypt(&ticket[..at]), None);
        }
        // Another configuration's keys.
        assert_eq!(Tickets::new(ground).unwrap().decrypt(&ticket), None);
    }

    /// A session as rustls encodes it.
    fn session(version: u16, chain: Option<&[CertificateDer<'_>]>) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(version.to_be_bytes());
        bytes.extend([0x13, 0x01, 2, 7, 7, 0]);
        match chain {
            None => bytes.push(0),
            Some(chain) => {
                let length = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
                let list: Vec<u8> = chain.iter().flat_map(|der| [length(der.len()), der.to_vec()].concat()).collect();
                bytes.push(1);
                bytes.extend(length(list.len()));
                bytes.extend(list);
            }
        }
        bytes.extend([1, 2, b'h', b'2', 0, 0]);
        bytes.extend([0; 12]);
        bytes
    }

    #[test]
    fn only_a_session_of_tls13_with_a_chain_becomes_a_ticket() {
        let root = Ca::root("root");
        let leaf = root.leaf(WEB).0;
        let good = session(0x0304, Some(std::slice::from_ref(&leaf)));
        assert_eq!(client_chain(&good), Some(vec![leaf.clone()]));
        assert_eq!(client_chain(&session(0x0303, Some(std::slice::from_ref(&leaf)))), None);
        assert_eq!(client_chain(&session(0x0304, None)), None);
        assert_eq!(client_chain(&[&good[..], &[0]].concat()), None);
        for end in 0..good.len() {
            assert_eq!(client_chain(&good[..end]), None);
        }
        let ground = Ground { clock: Clock::at(NOW), bundle: root.bundle("example.org"), own: at(NOW + HOUR) };
        let tickets = Tickets::new(ground).unwrap();
        assert!(tickets.encrypt(&good).is_some());
        assert_eq!(tickets.encrypt(&session(0x0304, Some(&[]))), None);
        assert_eq!(tickets.encrypt(&session(0x0304, Some(&[CertificateDer::from(vec![0x30, 0])]))), None);
    }

    #[test]
    fn a_ticket_has_the_lifetime_that_is_left() {
        let root = Ca::root("root");
        let ground = |own| Ground { clock: Clock::at(NOW), bundle: root.bundle("example.org"), own: at(own) };
        assert_eq!(Tickets::new(ground(NOW + 24 * HOUR)).unwrap().lifetime(), 3600);
        assert_eq!(Tickets::new(ground(NOW + 100)).unwrap().lifetime(), 100);
        assert_eq!(Tickets::new(ground(NOW - 1)).unwrap().lifetime(), 0);
    }

    #[test]
    fn tickets_and_servers_are_few() {
        let root = Ca::root("root");
        let (web, orders) = (credentials(&root, WEB, &root), credentials(&root, ORDERS, &root));
        let ground = Ground { clock: Clock::at(NOW), bundle: root.bundle("example.org"), own: at(NOW + HOUR) };
        let sessions = Arc::new(Sessions::new(ground));
        let mut client = client_at(&web, ORDERS, Clock::at(NOW));
        client.resumption = rustls::client::Resumption::store(Arc::clone(&sessions) as Arc<dyn ClientSessionStore>);
        let client = Arc::new(client);
        let server = server_at(&orders, Clock::at(NOW));
        sessions.verified(&ServerName::try_from("unused.invalid").unwrap(), at(NOW + HOUR));
        for _ in 0..2 * TICKETS {
            // Each time another server's keys, so that no ticket is used up.
            let mut server = server.clone();
            server.ticketer = Arc::new(Tickets::new(sessions.ground.clone()).unwrap());
            let met = meet(&client, &Arc::new(server));
            assert_eq!((met.client_error, met.server_error), (None, None));
        }
        let kept = |sessions: &Sessions| sessions.servers.lock().unwrap().values().map(|s| s.tickets.len()).sum();
        assert!((1..=TICKETS).contains(&kept(&sessions)));
        for number in 0..2 * SERVERS as u32 {
            let name = ServerName::from(std::net::IpAddr::from(number.to_be_bytes()));
            sessions.verified(&name, at(NOW + HOUR));
        }
        assert!(sessions.servers.lock().unwrap().len() <= SERVERS);
        // Those without a ticket made room for others, the one with some did not.
        assert!(kept(&sessions) > 0);
    }

    #[test]
    fn no_data_is_taken_or_sent_early() {
        let root = Ca::root("root");
        let scene = Scene::new(&credentials(&root, WEB, &root), &credentials(&root, ORDERS, &root));
        assert!(!scene.client.enable_early_data);
        assert_eq!(scene.server.max_early_data_size, 0);
        // A client that would: its ticket does not allow it.
        let mut eager = Arc::unwrap_or_clone(scene.client);
        eager.enable_early_data = true;
        let scene = Scene { client: Arc::new(eager), ..scene };
        assert_eq!(scene.kind(), HandshakeKind::Full);
        let name = ServerName::try_from("unused.invalid").unwrap();
        let mut client = rustls::ClientConnection::new(Arc::clone(&scene.client), name).unwrap();
        assert!(client.early_data().is_none());
    }
}

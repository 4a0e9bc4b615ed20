//! What of the traffic a tap copies: the selectors of a `[[tap]]`, compiled once for each file.
//!
//! In: what is known of a connection when it opens, of a request when its head has come, and of both when all is over. Out:
//! yes or no, without allocation. What cannot be known early is late: the rule, the verdict, the status, and outbound, where
//! only the handshake tells who answers and on which connection, the callee and the sample.

use config::{Sample, StatusPattern, TapDirection, TapSelection, TapVerdict};
use identity::SpiffeId;
use policy::{Direction, HostPattern, IdPattern, PathCase, RequestPattern, Target};
use std::{collections::HashSet, net::SocketAddr};

/// The selectors of one tap.
#[derive(Debug)]
pub(crate) struct Selection {
    direction: TapDirection,
    from: Subjects,
    to: Subjects,
    requests: Vec<RequestPattern>,
    case: PathCase,
    hosts: Vec<HostPattern>,
    ports: Vec<u16>,
    rules: HashSet<Box<str>>,
    verdicts: Vec<TapVerdict>,
    status: Vec<StatusPattern>,
    sample: Sample,
}

/// A connection when it opens.
pub(crate) struct Opening<'a> {
    pub(crate) direction: Direction,
    pub(crate) caller: Option<&'a SpiffeId>,
    pub(crate) callee: Callee<'a>,
    pub(crate) port: u16,
    /// The ends of the connection on the wire; `None` outbound, where another one carries its requests.
    pub(crate) wire: Option<(SocketAddr, SocketAddr)>,
}

/// Who is called.
#[derive(Clone, Copy)]
pub(crate) enum Callee<'a> {
    Is(Option<&'a SpiffeId>),
    /// The judgement will tell.
    Late,
}

/// What is known of a request or a connection when it is over.
pub(crate) struct Ending<'a> {
    pub(crate) direction: Direction,
    pub(crate) callee: Option<&'a SpiffeId>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) verdict: TapVerdict,
    /// Of the response; `None` for opaque bytes.
    pub(crate) status: Option<u16>,
    /// The ends of the connection that carried it on the wire.
    pub(crate) wire: (SocketAddr, SocketAddr),
}

/// What the sample says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampled {
    In,
    Out,
}

impl Selection {
    pub(crate) fn new(settings: &TapSelection, case: PathCase) -> Self {
        Self {
            direction: settings.direction,
            from: Subjects::of(&settings.from),
            to: Subjects::of(&settings.to),
            requests: settings.requests.clone(),
            case,
            hosts: settings.hosts.clone(),
            ports: settings.ports.clone(),
            rules: settings.rules.iter().map(|rule| rule.as_str().into()).collect(),
            verdicts: settings.verdicts.clone(),
            status: settings.status.clone(),
            sample: settings.sample,
        }
    }

    /// Whether any request of a connection may be selected, as far as can be told when it opens.
    pub(crate) fn of_connection(&self, opening: &Opening<'_>) -> bool {
        let callee = match opening.callee {
            Callee::Is(id) => self.to.matches(id),
            Callee::Late => true,
        };
        self.direction.covers(opening.direction)
            && (self.ports.is_empty() || self.ports.contains(&opening.port))
            && callee
            && self.from.matches(opening.caller)
    }

    /// Whether a connection is of the sample, as far as can be told when it opens.
    pub(crate) fn sample_of_connection(&self, opening: &Opening<'_>) -> Sampled {
        opening.wire.map_or(Sampled::In, |wire| self.sampled(wire))
    }

    /// Whether the head of a request has to be read for [`of_request`](Self::of_request).
    pub(crate) fn reads_requests(&self) -> bool {
        !self.requests.is_empty() || !self.hosts.is_empty()
    }

    /// Whether a request of this method may be selected: much cheaper to say than what its canonical reading is.
    pub(crate) fn may_be(&self, method: &str) -> bool {
        self.requests.is_empty() || self.requests.iter().any(|one| one.methods.contains(method))
    }

    /// Whether a request is selected, as far as its head tells. One without a canonical reading matches no pattern.
    pub(crate) fn of_request(&self, target: Option<&Target<'_>>) -> bool {
        if !self.reads_requests() {
            return true;
        }
        target.is_some_and(|target| {
            (self.hosts.is_empty() || self.hosts.iter().any(|host| host.matches(target.host())))
                && (self.requests.is_empty() || self.requests.iter().any(|one| one.covers(target, self.case)))
        })
    }

    /// Whether opaque bytes can be selected at all.
    pub(crate) fn takes_opaque(&self) -> bool {
        !self.reads_requests() && self.status.is_empty()
    }

    /// Whether only the end tells.
    pub(crate) fn is_late(&self, direction: Direction, callee: Callee<'_>) -> bool {
        let unknown_callee = matches!(callee, Callee::Late) && !self.to.is_everybody();
        let unknown_wire = direction == Direction::Outbound && !self.sample.is_all();
        !self.rules.is_empty() || !self.verdicts.is_empty() || !self.status.is_empty() || unknown_callee || unknown_wire
    }

    /// Whether what is over is selected, given that it was as far as could be told before.
    pub(crate) fn of_end(&self, ending: &Ending<'_>) -> bool {
        let outbound = ending.direction == Direction::Outbound;
        (self.rules.is_empty() || ending.rule.is_some_and(|rule| self.rules.contains(rule)))
            && (self.verdicts.is_empty() || self.verdicts.contains(&ending.verdict))
            && (self.status.is_empty()
                || ending.status.is_some_and(|status| self.status.iter().any(|one| one.matches(status))))
            && (!outbound || self.to.matches(ending.callee))
    }

    /// What the sample says when the wire is known.
    pub(crate) fn sampled(&self, (client, server): (SocketAddr, SocketAddr)) -> Sampled {
        if self.sample.is_all() || self.sample.takes(hash(client, server)) { Sampled::In } else { Sampled::Out }
    }

    /// Whether it is a part of all connections.
    pub(crate) fn samples(&self) -> bool {
        !self.sample.is_all()
    }

    /// Which sides it looks at.
    pub(crate) fn covers(&self, direction: Direction) -> bool {
        self.direction.covers(direction)
    }
}

/// Identities by name and by pattern. None of either: everybody, with or without an identity.
#[derive(Debug)]
struct Subjects {
    exact: HashSet<SpiffeId>,
    patterns: Vec<IdPattern>,
}

impl Subjects {
    fn of(patterns: &[IdPattern]) -> Self {
        Self {
            exact: patterns.iter().filter_map(IdPattern::exact).cloned().collect(),
            patterns: patterns.iter().filter(|pattern| pattern.exact().is_none()).cloned().collect(),
        }
    }

    fn is_everybody(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty()
    }

    fn matches(&self, id: Option<&SpiffeId>) -> bool {
        self.is_everybody()
            || id.is_some_and(|id| self.exact.contains(id) || self.patterns.iter().any(|pattern| pattern.matches(id)))
    }
}

/// The first 8 bytes of the SHA-1 behind a connection's Community ID (version 1, seed 0): the same at both ends, whichever is
/// named first.
fn hash(client: SocketAddr, server: SocketAddr) -> u64 {
    tap::community::digest(client, server).first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use policy::{PathOptions, RawTarget, Scheme, canonicalise};
    use std::time::Instant;

    fn selection(keys: &str) -> Selection {
        let file = format!(
            "schema = 1\nworkload = \"shop/orders\"\n[[inbound]]\nname = \"r\"\nfrom = \"anyone\"\n\
             [[tap]]\nname = \"t\"\nto_sensor = \"json:stdout\"\n{keys}\n"
        );
        let snapshot = config::parse("t.toml", &file, std::path::Path::new("")).unwrap_or_else(|e| panic!("{e}"));
        Selection::new(&snapshot.taps[0].select, snapshot.rules.path_options().case)
    }

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://cluster.local/{text}")).unwrap()
    }

    fn wire() -> (SocketAddr, SocketAddr) {
        ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:8080".parse().unwrap())
    }

    fn inbound<'a>(caller: Option<&'a SpiffeId>, own: &'a SpiffeId) -> Opening<'a> {
        let direction = Direction::Inbound;
        Opening { direction, caller, callee: Callee::Is(Some(own)), port: 8080, wire: Some(wire()) }
    }

    #[test]
    fn each_selector_of_a_connection_takes_and_leaves() {
        let (web, own) = (id("ns/shop/sa/web"), id("ns/shop/sa/orders"));
        let takes = |keys: &str| selection(keys).of_connection(&inbound(Some(&web), &own));
        assert!(takes(""));
        assert!(takes("from = \"shop/web\"") && !takes("from = \"shop/db\""));
        assert!(takes("from = [\"shop/db\", \"ns:shop\"]") && !takes("from = \"ns:bank\""));
        assert!(takes("ports = [80, 8080]") && !takes("ports = [80]"));
        assert!(takes("direction = \"both\"") && !takes("direction = \"outbound\""));
        assert!(takes("direction = \"both\"\nto = \"shop/orders\""));
        assert!(!takes("direction = \"both\"\nto = \"shop/web\""));
        let nobody = |keys: &str| selection(keys).of_connection(&inbound(None, &own));
        assert!(nobody("") && !nobody("from = \"ns:shop\""));
    }

    #[test]
    fn outbound_the_callee_may_be_known_late() {
        let (own, db) = (id("ns/shop/sa/orders"), id("ns/shop/sa/db"));
        let taken = selection("direction = \"outbound\"\nto = \"shop/db\"");
        let opening =
            |callee| Opening { direction: Direction::Outbound, caller: Some(&own), callee, port: 1, wire: None };
        assert!(taken.of_connection(&opening(Callee::Is(Some(&db)))));
        assert!(!taken.of_connection(&opening(Callee::Is(None))) && taken.of_connection(&opening(Callee::Late)));
        assert!(taken.is_late(Direction::Outbound, Callee::Late));
        assert!(!taken.is_late(Direction::Outbound, Callee::Is(Some(&db))));
        let ending = |callee| Ending {
            direction: Direction::Outbound,
            callee,
            rule: None,
            verdict: TapVerdict::Allow,
            status: None,
            wire: wire(),
        };
        assert!(taken.of_end(&ending(Some(&db))) && !taken.of_end(&ending(Some(&own))) && !taken.of_end(&ending(None)));
    }

    #[test]
    fn requests_are_matched_in_their_canonical_reading() {
        let options = PathOptions::default();
        let asked = |keys: &str, method: &'static str, path: &'static str| {
            let raw = RawTarget { method, path_and_query: path, authority: "Orders.Shop:80", scheme: Scheme::Http };
            selection(keys).of_request(canonicalise(&options, &raw).ok().as_ref())
        };
        assert!(asked("requests = \"GET /a/{id:uint}\"", "GET", "/a/%31?x=1"));
        assert!(!asked("requests = \"GET /a/{id:uint}\"", "GET", "/a/x"));
        assert!(!asked("requests = \"GET /a/{id:uint}\"", "HEAD", "/a/1"));
        assert!(asked("hosts = \"orders.shop\"", "GET", "/") && !asked("hosts = \"*.orders.shop\"", "GET", "/"));
        assert!(!asked("requests = \"* /{rest...}\"", "GET", "/a/../b") && asked("", "GET", "/a/../b"));
        let insensitive = selection("requests = \"GET /Admin\"\n[path]\ncase = \"insensitive\"");
        let raw = RawTarget { method: "GET", path_and_query: "/aDMIN", authority: "a", scheme: Scheme::Http };
        let target = canonicalise(&PathOptions { case: PathCase::Insensitive }, &raw).unwrap();
        assert!(insensitive.of_request(Some(&target)));
    }

    #[test]
    fn late_selectors_wait_for_the_end() {
        let end = |keys: &str, rule, verdict, status| {
            let selection = selection(keys);
            assert!(selection.is_late(Direction::Inbound, Callee::Is(None)));
            let (direction, callee) = (Direction::Inbound, None);
            selection.of_end(&Ending { direction, callee, rule, verdict, status, wire: wire() })
        };
        assert!(end("rules = \"r\"", Some("r"), TapVerdict::Allow, None));
        assert!(
            !end("rules = \"r\"", Some("s"), TapVerdict::Allow, None)
                && !end("rules = \"r\"", None, TapVerdict::Deny, None)
        );
        assert!(end("verdicts = [\"deny\", \"shadow-deny\"]", None, TapVerdict::ShadowDeny, None));
        assert!(!end("verdicts = \"deny\"", None, TapVerdict::Allow, None));
        assert!(end("status = \"5xx\"", None, TapVerdict::Allow, Some(503)));
        assert!(!end("status = \"5xx\"", None, TapVerdict::Allow, Some(200)));
        assert!(!end("status = \"5xx\"", None, TapVerdict::Allow, None), "opaque bytes have no status");
        assert!(!selection("from = \"shop/web\"").is_late(Direction::Inbound, Callee::Is(None)));
        assert!(selection("").takes_opaque() && selection("rules = \"r\"").takes_opaque());
        assert!(!selection("status = \"5xx\"").takes_opaque() && !selection("hosts = \"a\"").takes_opaque());
    }

    #[test]
    fn the_hash_is_that_of_the_community_id_whichever_end_is_named_first() {
        use std::fmt::Write as _;
        let (client, server): (SocketAddr, SocketAddr) =
            ("128.232.110.120:34855".parse().unwrap(), "66.35.250.204:80".parse().unwrap());
        let mut text = String::new();
        write!(text, "{:016x}", hash(client, server)).unwrap();
        // The official vector `1:LQU9qZlK+B5F3KDmev6m5PMibrg=`: the bytes 2d 05 3d a9 99 4a f8 1e.
        assert_eq!(text, "2d053da9994af81e");
        assert_eq!(hash(client, server), hash(server, client));
        let mapped: SocketAddr = "[::ffff:66.35.250.204]:80".parse().unwrap();
        assert_eq!(hash(client, server), hash(client, mapped));
        let same = |a: u16, b: u16| hash(SocketAddr::new(client.ip(), a), SocketAddr::new(client.ip(), b));
        assert_eq!(same(40_000, 8080), same(8080, 40_000));
    }

    #[test]
    fn a_sample_takes_about_its_share_and_the_same_for_every_tap() {
        let (one, two) = (selection("sample = 0.25"), selection("sample = 0.25\nfrom = \"shop/web\""));
        let taken = (0..4000u16).filter(|port| {
            let wire = (SocketAddr::new(wire().0.ip(), 20_000 + port), wire().1);
            assert_eq!(one.sampled(wire), two.sampled((wire.1, wire.0)));
            one.sampled(wire) == Sampled::In
        });
        assert!((850..1150).contains(&taken.count()));
        assert!(one.samples() && one.is_late(Direction::Outbound, Callee::Is(None)));
        assert!(!one.is_late(Direction::Inbound, Callee::Is(None)));
    }

    /// Prints what it costs to find that a request is not selected; the bound is wide, since the build is not optimised and
    /// the machine busy. The real bound, 100 ns, is for a release build: `cargo test --release -p sekisho-proxy costs -- --nocapture`.
    #[test]
    fn what_is_not_selected_costs_little() {
        let (web, own) = (id("ns/shop/sa/web"), id("ns/shop/sa/orders"));
        let selection = selection("from = [\"shop/db\", \"ns:bank\", \"batch-*/*\"]");
        let opening = inbound(Some(&web), &own);
        const ROUNDS: u32 = 200;
        // The least of many short runs: others use the machine as well.
        let run = |_| {
            let start = Instant::now();
            let (selection, opening) = (std::hint::black_box(&selection), std::hint::black_box(&opening));
            assert_eq!((0..ROUNDS).filter(|_| selection.of_connection(opening)).count(), 0);
            start.elapsed() / ROUNDS
        };
        let each = (0..200).map(run).min().unwrap();
        println!("not selected, by connection: {each:?}");
        assert!(each.as_micros() < 20, "{each:?}");
    }
}

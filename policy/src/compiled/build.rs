//! From the rules of one direction to its tables.
//!
//! A rule becomes one entry for each combination of who, port, host and operation, so that a look-up goes straight to it.
//! Lists multiply: a long one stays a list, and where all rules together would still make too many entries, shorter ones
//! do as well. So the tables grow with the file and not with the products of its lists.

use super::entry::{Entry, Kind, MATCHER, Matcher, Shape, condition, part};
use super::index::{Index, Odd};
use super::methods::{ANY, OtherMethods};
use super::path::DEPTH;
use super::subjects::{Numbering, Subject, Subjects, rows};
use super::table::Groups;
use super::words::{UNKNOWN, Words};
use crate::grpc::GrpcPattern;
use crate::host::HostPattern;
use crate::request::{Methods, RequestPattern};
use crate::rule::{Action, Direction, Rule, RuleProtocol, Who};
use crate::template::Segment;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// How long a list may be to be multiplied out.
#[derive(Clone, Copy)]
struct Limits {
    who: usize,
    ports: usize,
    hosts: usize,
}

/// Tried in this order until the entries are few enough. With the last one there is one entry per operation, and one per
/// rule for opaque bytes.
const LIMITS: [Limits; 3] = [
    Limits { who: 8, ports: 4, hosts: 4 },
    Limits { who: 8, ports: 1, hosts: 1 },
    Limits { who: 1, ports: 1, hosts: 1 },
];

/// 4 MiB of entries.
const MOST_ENTRIES: usize = 1 << 17;

/// Makes the tables.
pub(super) fn index(rules: &[Rule], direction: Direction) -> Index {
    let mut methods = OtherMethods::default();
    let methods_of: Vec<Option<Vec<u32>>> = rules.iter().map(|rule| methods_if_even(rule, &mut methods)).collect();
    let limits = limits(rules);
    let even = rules.iter().zip(&methods_of).filter(|(_, methods)| methods.is_some()).map(|(rule, _)| rule);
    let words = Words::new(&even.clone().flat_map(literals).collect());
    let hosts = Words::new(&even.filter(|r| r.hosts.len() <= limits.hosts).flat_map(|r| &r.hosts).map(name).collect());
    let (places, by_place) = places(rules);
    let orders = Orders::of(rules);
    let mut tables = Tables {
        direction,
        limits,
        words,
        hosts,
        orders,
        numbering: Numbering::new(),
        codes: Codes::default(),
        entries: Vec::new(),
        kinds: HashMap::new(),
        depth: 0,
    };
    let mut odd = Vec::new();
    for (((rule, methods), place), number) in rules.iter().zip(&methods_of).zip(&places).zip(0..) {
        match methods {
            Some(methods) => tables.add(rule, methods, *place),
            None => odd.push(Odd { rule: number, place: *place, orders: tables.orders.of_rule(rule) }),
        }
    }
    let count = tables.numbering.len();
    let mut kinds: Vec<_> = tables.kinds.into_iter().collect();
    kinds.sort_by_key(|((subject, shape), order)| (*subject, shape.parts & part::DENY == 0, Reverse(*order), *shape));
    let kinds = kinds.into_iter().map(|((subject, shape), order)| (subject, Kind { shape, order })).collect();
    let (kinds_of, kinds) = rows(kinds, count);
    Index {
        subjects: Subjects::new(tables.numbering),
        kinds_of,
        kinds,
        entries: Groups::new(tables.entries, |a: &Entry, b| (b.order, b.place).cmp(&(a.order, a.place))),
        words: tables.words,
        hosts: tables.hosts,
        codes: tables.codes.all.into(),
        matchers: tables.codes.matchers.into(),
        methods,
        depth: tables.depth,
        by_place: by_place.into(),
        odd: odd.into(),
    }
}

/// The bits of each operation's methods; `None` for a rule that the tables do not take.
fn methods_if_even(rule: &Rule, methods: &mut OtherMethods) -> Option<Vec<u32>> {
    let long = rule.requests.iter().any(|r| r.template.segments().len() > DEPTH);
    if long || (!rule.requests.is_empty() && !rule.grpc.is_empty()) {
        return None;
    }
    rule.requests.iter().map(|r| methods.bits_of_rule(&r.methods)).collect()
}

/// The first limits under which the rules make few enough entries, else the last.
fn limits(rules: &[Rule]) -> Limits {
    let expanded = |len: usize, limit: usize| if len <= limit { len.max(1) } else { 1 };
    let entries = |limits: &Limits| {
        rules.iter().fold(0usize, |sum, rule| {
            let who = match &rule.who {
                Who::Anyone => rule.cidrs.len(),
                Who::Ids(ids) => ids.len(),
            };
            let operations = rule.requests.len().max(rule.grpc.len()).max(1) * expanded(rule.hosts.len(), limits.hosts);
            let per_who = expanded(rule.ports.len(), limits.ports).saturating_mul(operations + 1);
            sum.saturating_add(expanded(who, limits.who).saturating_mul(per_who))
        })
    };
    let [.., last] = LIMITS;
    LIMITS.into_iter().find(|limits| entries(limits) <= MOST_ENTRIES).unwrap_or(last)
}

/// The rule's place in the order of reports, the greater the sooner, and which rule stands at a place.
fn places(rules: &[Rule]) -> (Vec<u32>, Vec<u32>) {
    let mut by_place: Vec<u32> = (0..).take(rules.len()).collect();
    let name = |number: &u32| rules.get(*number as usize).map(|rule| &*rule.name);
    by_place.sort_by(|a, b| name(b).cmp(&name(a)).then(b.cmp(a)));
    let mut places = vec![0; rules.len()];
    for (place, number) in (0..).zip(&by_place) {
        if let Some(entry) = places.get_mut(*number as usize) {
            *entry = place;
        }
    }
    (places, by_place)
}

/// How narrow each operation is, as a place in the order of all of them.
struct Orders(Vec<Box<[u8]>>);

impl Orders {
    fn of(rules: &[Rule]) -> Self {
        let operations = rules.iter().flat_map(ranks).map(Box::from);
        // A rule without operations has no ranks, and stands below all that have some.
        let mut all: Vec<Box<[u8]>> = operations.chain([Box::default()]).collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    fn place(&self, ranks: &[u8]) -> u32 {
        let place = self.0.binary_search_by(|r| (**r).cmp(ranks)).unwrap_or_default();
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn of_rule(&self, rule: &Rule) -> Box<[(Box<[u8]>, u32)]> {
        ranks(rule).map(|ranks| (ranks.into(), self.place(ranks))).collect()
    }
}

fn ranks(rule: &Rule) -> impl Iterator<Item = &[u8]> {
    let requests = rule.requests.iter().map(|r| r.template.specificity().ranks());
    let methods = rule.grpc.iter().map(|pattern| -> &[u8] { pattern.ranks() });
    requests.chain(methods)
}

/// Every literal segment of a rule's operations.
fn literals(rule: &Rule) -> impl Iterator<Item = &[u8]> {
    let segments = rule.requests.iter().flat_map(|r| r.template.segments());
    let templates = segments.filter_map(|segment| match segment {
        Segment::Literal(text) => Some(&**text),
        Segment::Parameter { .. } => None,
    });
    let methods = rule.grpc.iter().map(GrpcPattern::names);
    templates
        .chain(methods.flat_map(|(service, method)| [Some(service), method].into_iter().flatten().map(str::as_bytes)))
}

/// What stands in the table of hosts for a pattern.
fn name(host: &HostPattern) -> &[u8] {
    host.exact().or(host.parent()).unwrap_or_default().as_bytes()
}

/// The tables while they are made.
struct Tables {
    direction: Direction,
    limits: Limits,
    words: Words,
    hosts: Words,
    orders: Orders,
    numbering: Numbering,
    codes: Codes,
    entries: Vec<(u64, Entry)>,
    /// The narrowest path of each kind.
    kinds: HashMap<(u32, Shape), u32>,
    depth: usize,
}

/// One operation, as entries have it.
#[derive(Clone, Copy)]
struct Operation {
    shape: Shape,
    codes: u32,
    methods: u32,
    order: u32,
    conditions: u16,
}

impl Tables {
    fn add(&mut self, rule: &Rule, methods: &[u32], place: u32) {
        let subjects = self.subjects_of(rule);
        let ports = self.ports_of(rule);
        let hosts = self.hosts_of(rule);
        let conditions = self.conditions_of(rule);
        let deny = if rule.action == Action::Deny { part::DENY } else { 0 };
        let mut operations = Vec::new();
        if rule.protocol != Some(RuleProtocol::Tcp) {
            operations = self.operations_of(rule, methods);
        }
        for subject in subjects {
            for (port_part, port) in &ports {
                for operation in &operations {
                    for (host_part, host) in &hosts {
                        let mut shape = operation.shape;
                        shape.parts |= port_part | host_part | deny;
                        self.push(Entry {
                            order: operation.order,
                            place,
                            subject,
                            methods: operation.methods,
                            codes: operation.codes,
                            shape,
                            host: *host,
                            port: *port,
                            conditions: conditions | operation.conditions,
                        });
                    }
                }
                if let Some(parts) = opaque_parts(rule) {
                    let shape = Shape { literals: 0, len: 0, parts: parts | port_part | deny };
                    let conditions = conditions & !(condition::HOSTS | condition::UPGRADE);
                    let (host, port) = (UNKNOWN, *port);
                    self.push(Entry {
                        order: 0,
                        place,
                        subject,
                        methods: ANY,
                        codes: 0,
                        shape,
                        host,
                        port,
                        conditions,
                    });
                }
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        let start = entry.codes as usize;
        let codes = self.codes.all.get(start..).unwrap_or_default();
        let word = |i: usize| codes.get(i).copied().unwrap_or(UNKNOWN);
        let hash = entry.shape.hash(entry.subject, word, entry.port, entry.host);
        self.depth = self.depth.max(entry.shape.len.into());
        let order = self.kinds.entry((entry.subject, entry.shape)).or_default();
        *order = entry.order.max(*order);
        self.entries.push((hash, entry));
    }

    /// Whom a rule is about: nobody, some, or one list of many.
    fn subjects_of(&mut self, rule: &Rule) -> Vec<u32> {
        let numbering = &mut self.numbering;
        let mut subjects: Vec<u32> = match &rule.who {
            Who::Anyone if rule.cidrs.is_empty() => vec![numbering.number(Subject::Anyone)],
            Who::Anyone => rule.cidrs.iter().map(|cidr| numbering.number(Subject::Range(*cidr))).collect(),
            Who::Ids(ids) => ids.iter().map(|id| numbering.number(Subject::Id(id.clone()))).collect(),
        };
        subjects.sort_unstable();
        subjects.dedup();
        if subjects.len() > self.limits.who {
            return vec![numbering.number(Subject::OneOf(subjects))];
        }
        subjects
    }

    fn ports_of(&self, rule: &Rule) -> BTreeSet<(u8, u16)> {
        if rule.ports.is_empty() || rule.ports.len() > self.limits.ports {
            return BTreeSet::from([(0, 0)]);
        }
        rule.ports.iter().map(|port| (part::PORT, *port)).collect()
    }

    fn hosts_of(&self, rule: &Rule) -> BTreeSet<(u8, u32)> {
        if rule.hosts.is_empty() || rule.hosts.len() > self.limits.hosts {
            return BTreeSet::from([(0, UNKNOWN)]);
        }
        let part = |host: &HostPattern| if host.exact().is_some() { part::HOST } else { part::PARENT };
        rule.hosts.iter().map(|host| (part(host), self.hosts.number(name(host)))).collect()
    }

    fn conditions_of(&self, rule: &Rule) -> u16 {
        let needs_tls = self.direction == Direction::Inbound && rule.action == Action::Allow && !rule.plaintext;
        [
            (needs_tls, condition::TLS),
            (!rule.upgrade.is_empty(), condition::UPGRADE),
            (rule.ports.len() > self.limits.ports, condition::PORTS),
            (rule.hosts.len() > self.limits.hosts, condition::HOSTS),
            (!rule.cidrs.is_empty() && rule.who != Who::Anyone, condition::RANGES),
            (!rule.not_who.is_empty(), condition::NOT_WHO),
        ]
        .into_iter()
        .filter(|(asked, _)| *asked)
        .fold(0, |all, (_, condition)| all | condition)
    }

    /// The operations of a rule; one that covers everything when it names none.
    fn operations_of(&mut self, rule: &Rule, methods: &[u32]) -> Vec<Operation> {
        if rule.requests.is_empty() && rule.grpc.is_empty() {
            let shape = Shape { literals: 0, len: 0, parts: part::TAIL };
            return vec![Operation { shape, codes: 0, methods: ANY, order: 0, conditions: 0 }];
        }
        let requests = rule.requests.iter().zip(methods).map(|(request, methods)| self.request(request, *methods));
        let requests: Vec<_> = requests.collect();
        requests.into_iter().chain(rule.grpc.iter().map(|pattern| self.grpc(pattern))).collect()
    }

    fn request(&mut self, request: &RequestPattern, methods: u32) -> Operation {
        let template = &request.template;
        let codes: Vec<u32> = template.segments().iter().map(|segment| self.code(segment)).collect();
        let parts = if template.has_tail() { part::TAIL } else { 0 };
        let order = self.orders.place(template.specificity().ranks());
        let methods = if request.methods == Methods::Any { ANY } else { methods };
        Operation { shape: shape(&codes, parts), codes: self.codes.place(codes), methods, order, conditions: 0 }
    }

    /// `/Service/Method`.
    fn grpc(&mut self, pattern: &GrpcPattern) -> Operation {
        let (service, method) = pattern.names();
        let method = match method {
            Some(name) => self.words.number(name.as_bytes()),
            None => self.codes.matcher(Matcher::Identifier),
        };
        let codes = vec![self.words.number(service.as_bytes()), method];
        let order = self.orders.place(pattern.ranks());
        let (shape, conditions) = (shape(&codes, 0), condition::GRPC);
        Operation { shape, codes: self.codes.place(codes), methods: ANY, order, conditions }
    }

    fn code(&mut self, segment: &Segment) -> u32 {
        match segment {
            Segment::Literal(text) => self.words.number(text),
            Segment::Parameter { .. } => self.codes.matcher(Matcher::Segment(segment.clone())),
        }
    }
}

/// How a rule matches opaque bytes; `None` when it never does.
fn opaque_parts(rule: &Rule) -> Option<u8> {
    match (rule.protocol, rule.action) {
        (Some(RuleProtocol::Http), _) => None,
        (_, Action::Allow) if rule.reads_requests() => None,
        (_, Action::Deny) if rule.reads_requests() => Some(part::OPAQUE | part::UNREADABLE),
        (Some(RuleProtocol::Tcp), Action::Allow) => Some(part::OPAQUE | part::DECLARED),
        _ => Some(part::OPAQUE),
    }
}

fn shape(codes: &[u32], parts: u8) -> Shape {
    let literals = codes.iter().enumerate().filter(|(_, code)| *code & MATCHER == 0);
    let literals = literals.fold(0, |bits, (i, _)| bits | 1u16.checked_shl(i as u32).unwrap_or_default());
    Shape { literals, len: u8::try_from(codes.len()).unwrap_or(u8::MAX), parts }
}

/// The templates' segments, each list of them and each matcher once.
#[derive(Default)]
struct Codes {
    all: Vec<u32>,
    places: HashMap<Vec<u32>, u32>,
    matchers: Vec<Matcher>,
    numbers: HashMap<Matcher, u32>,
}

impl Codes {
    /// Where these codes stand among all.
    fn place(&mut self, codes: Vec<u32>) -> u32 {
        if let Some(place) = self.places.get(&codes) {
            return *place;
        }
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.extend_from_slice(&codes);
        self.places.insert(codes, place);
        place
    }

    /// The code of a matcher.
    fn matcher(&mut self, matcher: Matcher) -> u32 {
        if let Some(code) = self.numbers.get(&matcher) {
            return *code;
        }
        let code = MATCHER | u32::try_from(self.matchers.len()).unwrap_or(!MATCHER);
        self.matchers.push(matcher.clone());
        self.numbers.insert(matcher, code);
        code
    }
}

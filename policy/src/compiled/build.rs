//! From the rules of one direction to its tables.
//!
//! A rule becomes one entry for each combination of who, port, host and operation, so that a look-up goes straight to it.
//! Lists multiply: a long one stays a list, and where all rules together would still make too many entries, shorter ones
//! do as well. So the tables grow with the file and not with the products of its lists.

use super::entry::{Entry, Kind, MATCHER, Matcher, Shape, condition, part};
use super::index::{Index, Odd, Row};
use super::methods::{ANY, OtherMethods};
use super::path::{DEPTH, Reading};
use super::subjects::{Numbering, Subject, Subjects};
use super::table::Groups;
use super::words::{UNKNOWN, Words};
use crate::grpc::GrpcPattern;
use crate::host::HostPattern;
use crate::request::{Methods, RequestPattern};
use crate::rule::{Action, Direction, Rule, RuleProtocol, Who};
use crate::template::Segment;
use std::cmp::{Ordering, Reverse};
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

/// A subject's words may take so many bits; with more words some share one.
const MOST_WORD_BITS: usize = 1 << 16;

/// So many rules with so many items in all their lists are judged one by one: measured, that is as quick as the tables.
const FEW_RULES: usize = 3;
const FEW_ITEMS: usize = 16;

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
        kinds: Vec::new(),
        words_of: Vec::new(),
        reading: Reading::default(),
    };
    let mut odd = Vec::new();
    for (((rule, methods), place), number) in rules.iter().zip(&methods_of).zip(&places).zip(0..) {
        match methods {
            Some(methods) => tables.add(rule, methods, *place),
            None => odd.push(Odd { rule: number, place: *place, orders: tables.orders.of_rule(rule) }),
        }
    }
    let (rows, kinds, words_of) = rows(tables.kinds, tables.words_of, tables.numbering.len());
    Index {
        subjects: Subjects::new(tables.numbering),
        rows,
        kinds,
        words_of,
        entries: Groups::new(tables.entries, order_in_group),
        words: tables.words,
        hosts: tables.hosts,
        codes: tables.codes.all.into(),
        matchers: tables.codes.matchers.into(),
        methods,
        reading: tables.reading,
        by_place: by_place.into(),
        odd: odd.into(),
        few: rules.len() <= FEW_RULES && rules.iter().map(items).sum::<usize>() <= FEW_ITEMS,
    }
}

/// Deny rules first, then what is reported first.
fn order_in_group(a: &Entry, b: &Entry) -> Ordering {
    let rank = |entry: &Entry| (entry.conditions & condition::DENY, entry.order, entry.place);
    rank(b).cmp(&rank(a))
}

/// What each subject has, one after the other: rows, kinds, bits of words.
type Rows = (Box<[Row]>, Box<[Kind]>, Box<[u64]>);

/// Puts together what each subject has.
fn rows(mut kinds: Vec<(u32, Kind)>, mut words: Vec<(u32, u32)>, count: usize) -> Rows {
    kinds.sort_unstable_by_key(|(subject, kind)| (*subject, kind.shape));
    kinds.dedup_by(|(subject, kind), (kept_subject, kept)| {
        let same = *subject == *kept_subject && kind.shape == kept.shape;
        if same {
            kept.denies |= kind.denies;
            kept.order = kept.order.max(kind.order);
        }
        same
    });
    kinds.sort_by_key(|(subject, kind)| (*subject, !kind.denies, Reverse(kind.order), kind.shape));
    words.sort_unstable();
    words.dedup();
    let mut rows = Vec::with_capacity(count + 1);
    let mut bits: Vec<u64> = Vec::new();
    let (mut kinds_left, mut words_left) = (kinds.as_slice(), words.as_slice());
    let end = |left: usize, all: usize| u32::try_from(all - left).unwrap_or(u32::MAX);
    for subject in (0..).take(count) {
        let start = end(kinds_left.len(), kinds.len());
        kinds_left = kinds_left.split_at(kinds_left.partition_point(|(s, _)| *s == subject)).1;
        let own;
        (own, words_left) = words_left.split_at(words_left.partition_point(|(s, _)| *s == subject));
        let size = (own.len() * 4).next_power_of_two().clamp(64, MOST_WORD_BITS);
        let row = Row { kinds: start, bits: u32::try_from(bits.len()).unwrap_or(u32::MAX), mask: size as u32 - 1 };
        bits.resize(bits.len() + size / 64, 0);
        for (_, word) in own {
            let bit = word & row.mask;
            if let Some(bits) = bits.get_mut(row.bits as usize + bit as usize / 64) {
                *bits |= 1 << (bit % 64);
            }
        }
        rows.push(row);
    }
    rows.push(Row { kinds: end(0, kinds.len()), bits: 0, mask: 0 });
    (rows.into(), kinds.into_iter().map(|(_, kind)| kind).collect(), bits.into())
}

/// The bits of each operation's methods; `None` for a rule that the tables do not take.
fn methods_if_even(rule: &Rule, methods: &mut OtherMethods) -> Option<Vec<u32>> {
    let long = rule.requests.iter().any(|r| r.template.segments().len() > DEPTH);
    if long || (!rule.requests.is_empty() && !rule.grpc.is_empty()) {
        return None;
    }
    rule.requests.iter().map(|r| methods.bits_of_rule(&r.methods)).collect()
}

/// How many things a rule lists.
fn items(rule: &Rule) -> usize {
    let ids = match &rule.who {
        Who::Anyone => 0,
        Who::Ids(ids) => ids.len(),
    };
    let about_requests = rule.hosts.len() + rule.requests.len() + rule.grpc.len() + rule.upgrade.len();
    ids + rule.not_who.len() + rule.cidrs.len() + rule.ports.len() + about_requests
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
            let ports = expanded(rule.ports.len(), limits.ports);
            let without_path = if rule.requests.is_empty() && rule.grpc.is_empty() { ports } else { 1 };
            let per_who = operations.saturating_mul(without_path).saturating_add(ports);
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
    /// The kind of each entry.
    kinds: Vec<(u32, Kind)>,
    /// The literal segments of each subject's templates.
    words_of: Vec<(u32, u32)>,
    reading: Reading,
}

/// A port of a rule, as entries have it.
struct Port {
    part: u8,
    number: u16,
    condition: u16,
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
        let hosts = self.hosts_of(rule);
        let conditions = self.conditions_of(rule);
        let mut operations = Vec::new();
        if rule.protocol != Some(RuleProtocol::Tcp) {
            operations = self.operations_of(rule, methods);
        }
        for subject in subjects {
            for (operation, (host_part, host)) in operations.iter().flat_map(|o| hosts.iter().map(move |h| (o, h))) {
                for port in self.ports_of(rule, operation.shape.len > 0) {
                    let mut shape = operation.shape;
                    shape.parts |= port.part | host_part;
                    self.push(Entry {
                        order: operation.order,
                        place,
                        subject,
                        methods: operation.methods,
                        codes: operation.codes,
                        shape,
                        host: *host,
                        port: port.number,
                        conditions: conditions | operation.conditions | port.condition,
                    });
                }
            }
            let Some(parts) = opaque_parts(rule) else {
                continue;
            };
            for port in self.ports_of(rule, false) {
                self.push(Entry {
                    order: 0,
                    place,
                    subject,
                    methods: ANY,
                    codes: 0,
                    shape: Shape { literals: 0, len: 0, parts: parts | port.part },
                    host: UNKNOWN,
                    port: port.number,
                    conditions: conditions & !condition::OF_REQUESTS | port.condition,
                });
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        let start = entry.codes as usize;
        let codes = self.codes.all.get(start..).unwrap_or_default();
        let word = |i: usize| codes.get(i).copied().unwrap_or(UNKNOWN);
        let hash = entry.shape.hash(entry.subject, word, entry.port, entry.host);
        self.reading.widen(entry.shape);
        let literals = (0..u16::BITS as usize).filter(|i| entry.shape.literals >> i & 1 == 1);
        self.words_of.extend(literals.map(|i| (entry.subject, word(i))));
        let denies = entry.conditions & condition::DENY != 0;
        self.kinds.push((entry.subject, Kind { shape: entry.shape, denies, order: entry.order }));
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

    /// The ports of a rule; a path tells its entries apart already.
    fn ports_of(&self, rule: &Rule, has_path: bool) -> Vec<Port> {
        match rule.ports.as_slice() {
            [] => vec![Port { part: 0, number: 0, condition: 0 }],
            [one] if has_path => vec![Port { part: 0, number: *one, condition: condition::PORT }],
            some if has_path || some.len() > self.limits.ports => {
                vec![Port { part: 0, number: 0, condition: condition::PORTS }]
            }
            some => some.iter().map(|port| Port { part: part::PORT, number: *port, condition: 0 }).collect(),
        }
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
            (rule.action == Action::Deny, condition::DENY),
            (!rule.upgrade.is_empty(), condition::UPGRADE),
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
        (_, Action::Deny) => Some(part::OPAQUE | part::DENY),
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

//! Rules: what the tables say is what the rules say one by one, in any order; and patterns are written as they are read.
//!
//! A text of lines. `allow in who=shop/web req=GET_/a` is a rule, `? in peer=spiffe://… path=/a` a question; `_` stands for
//! the blank inside an operation. The line `any case` makes the rules compare paths without regard to case.

use crate::given::text;
use identity::{SpiffeId, TrustDomain};
use policy::{
    Action, Attributes, Cidr, Decision, Direction, GrpcPattern, HostPattern, IdPattern, PathCase, PathOptions,
    PathTemplate, RawTarget, RequestPattern, RequestView, Rule, RuleProtocol, RuleSet, Scheme, Target, UpgradePattern,
    Who, canonicalise,
};

pub(super) const WORDS: &[&[u8]] = &[
    b"\n",
    b"any case\n",
    b" req=*_/Admin/{rest...}",
    b" path=/ADMIN/x",
    b"allow in",
    b"allow out",
    b"deny in",
    b"deny out",
    b"? in",
    b"? out",
    b" who=shop/web",
    b" who=*/*",
    b" who=shop/w*",
    b" who=ns:shop",
    b" who=td:example.org",
    b" who=spiffe://example.org/ns/shop/sa/web",
    b" not=shop/web",
    b" host=a.example.org",
    b" host=*.example.org",
    b" port=80",
    b" tcp",
    b" http",
    b" plain",
    b" cidr=10.0.0.0/8",
    b" cidr=::/0",
    b" req=GET_/a",
    b" req=*_/a/{id:uint}",
    b" req=GET,HEAD_/{rest...}",
    b" req=POST_/a/{x:a|b}.json",
    b" grpc=a.B/C",
    b" grpc=a.B/*",
    b" up=websocket",
    b" up=connect",
    b" peer=spiffe://example.org/ns/shop/sa/web",
    b" path=/a",
    b" path=/a/7",
    b" path=/a.B/C",
    b" method=POST",
    b" method=CONNECT",
    b" at=a.example.org",
    b" ip=10.1.2.3",
    b" ip=::1",
    b" isgrpc",
    b" asks=websocket",
    b" anyone",
    b" nobody",
    b"{x:uint}",
    b"{x:int}",
    b"{x:hex}",
    b"{x:slug}",
    b"{x:uuid}",
    b"{x:date}",
    b"{x:email}",
    b"{x:any}",
    b"{rest...}",
    b"%C3%A9",
    b"%40",
];

/// Judges every question by all rules, both ways.
pub(super) fn run(input: &[u8]) {
    let own = TrustDomain::parse("example.org").unwrap();
    let lines: Vec<&str> = text(input).lines().collect();
    let (mut inbound, mut outbound) = (Vec::new(), Vec::new());
    for (number, line) in lines.iter().enumerate() {
        match rule(line, number, &own) {
            Some(rule) if rule.direction == Direction::Inbound => inbound.push(rule),
            Some(rule) => outbound.push(rule),
            None => {}
        }
    }
    let backwards = |rules: &[Rule]| rules.iter().rev().cloned().collect::<Vec<_>>();
    let case = if lines.contains(&"any case") { PathCase::Insensitive } else { PathCase::Sensitive };
    let reversed = RuleSet::reading(PathOptions { case }, backwards(&inbound), backwards(&outbound));
    let rules = RuleSet::reading(PathOptions { case }, inbound, outbound);
    for line in lines {
        let Some(question) = Question::read(line) else { continue };
        let target = question.target(rules.path_options());
        let attributes = question.attributes(target.as_ref());
        let (fast, slow) =
            (rules.decide(question.direction, &attributes), rules.decide_linear(question.direction, &attributes));
        assert_eq!(fast, slow, "{line}\n{rules:#?}");
        let other = reversed.decide(question.direction, &attributes);
        let name = |rule: Option<policy::RuleRef<'_>>| rule.map(|found| found.rule.name.clone());
        assert_eq!((other.verdict, other.why, name(other.rule)), (fast.verdict, fast.why, name(fast.rule)), "{line}");
        let party = rules.introduce(question.direction, attributes.peer.cloned(), attributes.ip);
        assert_eq!(rules.decide_for(&party, attributes.plaintext, attributes.port, attributes.request), fast, "{line}");
        if case == PathCase::Insensitive {
            every_spelling(&rules, &question, fast);
        }
        // Whoever was introduced to other rules is looked up again.
        let stranger = reversed.introduce(question.direction, attributes.peer.cloned(), attributes.ip);
        assert_eq!(
            rules.decide_for(&stranger, attributes.plaintext, attributes.port, attributes.request),
            fast,
            "{line}"
        );
    }
}

/// The same decision whatever the case of the letters of the path.
fn every_spelling(rules: &RuleSet, question: &Question<'_>, decision: Decision<'_>) {
    let Some(path) = question.path else { return };
    let swapped = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    let one = |(place, c): (usize, char)| if place % 2 == 0 { swapped(c) } else { c };
    let spellings = [
        path.to_ascii_lowercase(),
        path.to_ascii_uppercase(),
        path.chars().map(swapped).collect(),
        path.chars().enumerate().map(one).collect(),
    ];
    for spelling in &spellings {
        let other = Question { path: Some(spelling), ..question.clone() };
        let target = other.target(rules.path_options());
        assert_eq!(target.is_some(), question.target(rules.path_options()).is_some(), "{path} {spelling}");
        let judged = rules.decide(other.direction, &other.attributes(target.as_ref()));
        assert_eq!(judged, decision, "{path} {spelling}\n{rules:#?}");
    }
}

fn rule(line: &str, number: usize, own: &TrustDomain) -> Option<Rule> {
    let mut words = line.split(' ');
    let action = match words.next()? {
        "allow" => Action::Allow,
        "deny" => Action::Deny,
        _ => return None,
    };
    let direction = direction(words.next()?)?;
    let mut rule = Rule::new(&format!("r{number}"), action, direction, Who::Ids(Vec::new()));
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let blank = value.replacen('_', " ", 1);
        match key {
            "anyone" => rule.who = Who::Anyone,
            "who" => {
                let pattern = IdPattern::parse(value, own).ok()?;
                match &mut rule.who {
                    Who::Ids(ids) => ids.push(pattern),
                    anyone @ Who::Anyone => *anyone = Who::Ids(vec![pattern]),
                }
            }
            "not" => rule.not_who.push(IdPattern::parse(value, own).ok()?),
            "host" => rule.hosts.push(HostPattern::parse(value).ok()?),
            "port" => rule.ports.push(value.parse().ok()?),
            "tcp" => rule.protocol = Some(RuleProtocol::Tcp),
            "http" => rule.protocol = Some(RuleProtocol::Http),
            "plain" => rule.plaintext = true,
            "cidr" => rule.cidrs.push(Cidr::parse(value).ok()?),
            "req" => rule.requests.push(RequestPattern::parse(&blank).ok()?),
            "grpc" => rule.grpc.push(GrpcPattern::parse(value).ok()?),
            "up" => rule.upgrade.push(UpgradePattern::parse(value).ok()?),
            _ => return None,
        }
    }
    Some(rule)
}

fn direction(word: &str) -> Option<Direction> {
    match word {
        "in" => Some(Direction::Inbound),
        "out" => Some(Direction::Outbound),
        _ => None,
    }
}

#[derive(Clone)]
struct Question<'a> {
    direction: Direction,
    peer: Option<SpiffeId>,
    plaintext: bool,
    ip: Option<std::net::IpAddr>,
    port: u16,
    method: &'a str,
    path: Option<&'a str>,
    host: &'a str,
    grpc: bool,
    upgrade: Option<&'a str>,
}

impl<'a> Question<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        (words.next()? == "?").then_some(())?;
        let direction = direction(words.next()?)?;
        let mut asked = Self {
            direction,
            peer: None,
            plaintext: false,
            ip: None,
            port: 80,
            method: "GET",
            path: None,
            host: "a.example.org",
            grpc: false,
            upgrade: None,
        };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("peer", value) => asked.peer = Some(SpiffeId::parse(value).ok()?),
                ("plain", _) => asked.plaintext = true,
                ("ip", value) => asked.ip = Some(value.parse().ok()?),
                ("port", value) => asked.port = value.parse().ok()?,
                ("method", value) => asked.method = value,
                ("path", value) => asked.path = Some(value),
                ("at", value) => asked.host = value,
                ("isgrpc", _) => asked.grpc = true,
                ("asks", value) => asked.upgrade = Some(value),
                _ => return None,
            }
        }
        Some(asked)
    }

    /// `None` for opaque bytes, and for a request that has no canonical reading and so is never judged.
    fn target(&self, options: &PathOptions) -> Option<Target<'_>> {
        let connect = self.method == "CONNECT";
        let path_and_query = if connect { "" } else { self.path? };
        let raw = RawTarget { method: self.method, path_and_query, authority: self.host, scheme: Scheme::Http };
        canonicalise(options, &raw).ok()
    }

    fn attributes<'t>(&'t self, target: Option<&'t Target<'t>>) -> Attributes<'t> {
        let request = target.map(|target| RequestView { target, grpc: self.grpc, upgrade: self.upgrade });
        Attributes { peer: self.peer.as_ref(), plaintext: self.plaintext, ip: self.ip, port: self.port, request }
    }
}

/// A line of text as every kind of pattern; a second line is what they are matched with.
pub(super) fn patterns(input: &[u8]) {
    let own = TrustDomain::parse("example.org").unwrap();
    let (pattern, with) = text(input).split_once('\n').unwrap_or((text(input), ""));
    if let Some(read) = stable(IdPattern::parse(pattern, &own), |text| IdPattern::parse(text, &own), pattern)
        && let Ok(id) = SpiffeId::parse(with)
    {
        let matches = read.matches(&id);
        assert!(read.exact().is_none_or(|exact| matches == (*exact == id)));
    }
    if let Some(read) = stable(HostPattern::parse(pattern), HostPattern::parse, pattern) {
        assert!(read.exact().is_none_or(|exact| read.matches(exact) && read.matches(with) == (exact == with)));
    }
    if let Some(read) = stable(Cidr::parse(pattern), Cidr::parse, pattern)
        && let Ok(ip) = with.parse()
    {
        let _ = read.contains(ip);
    }
    if let Some(read) = stable(PathTemplate::parse(pattern), PathTemplate::parse, pattern)
        && let Some(path) = canonical(with)
    {
        let _ = read.matches(&path);
        // A template without parameters is one path, if it is a canonical one.
        if !pattern.contains('{') && canonical(pattern).is_some_and(|own| own == pattern) {
            assert!(read.matches(pattern));
            assert_eq!(read.matches(&path), path == pattern, "{path}");
        }
    }
    if let Some(read) = stable(GrpcPattern::parse(pattern), GrpcPattern::parse, pattern) {
        assert!(!read.matches(with) || with.matches('/').count() == 2);
    }
    if let Some(read) = stable(UpgradePattern::parse(pattern), UpgradePattern::parse, pattern) {
        assert!(read.matches(pattern) && read.matches(&pattern.to_ascii_uppercase()));
    }
    let _ = stable(RequestPattern::parse(pattern), RequestPattern::parse, pattern);
}

/// What is read is written so that it is read as the same; an error stands inside the text.
fn stable<T: ToString>(
    read: Result<T, policy::PatternError>,
    parse: impl Fn(&str) -> Result<T, policy::PatternError>,
    text: &str,
) -> Option<T> {
    match read {
        Ok(read) => {
            let written = read.to_string();
            // `ns:shop` is written as the identities it stands for, which are a pattern of another kind: so the texts are compared.
            assert_eq!(parse(&written).map(|again| again.to_string()).as_ref(), Ok(&written));
            Some(read)
        }
        Err(error) => {
            let end = error.offset + error.len;
            assert!(
                end <= text.len() && text.is_char_boundary(error.offset) && text.is_char_boundary(end),
                "{error:?}"
            );
            None
        }
    }
}

fn canonical(path: &str) -> Option<String> {
    let raw = RawTarget { method: "GET", path_and_query: path, authority: "a", scheme: Scheme::Http };
    canonicalise(&PathOptions::default(), &raw).ok().map(|target| target.path().to_owned())
}

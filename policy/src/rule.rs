//! One rule as data. A rule is the AND of its keys; a list inside a key is OR; `not_who` subtracts.
//! An empty list is a key that was not written, except in [`Who::Ids`], where it matches nobody.

use crate::case::PathCase;
use crate::cidr::Cidr;
use crate::grpc::GrpcPattern;
use crate::host::HostPattern;
use crate::id_pattern::IdPattern;
use crate::request::RequestPattern;
use crate::upgrade::UpgradePattern;
use identity::SpiffeId;
use std::net::IpAddr;
use std::sync::Arc;

/// What happens to what the rules refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing is refused; a refusal is only noted. What has no canonical reading is refused even so.
    Observe,
    /// A refusal is carried out.
    Enforce,
}

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the own workload.
    Inbound,
    /// From the own workload.
    Outbound,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Permits what it matches, unless a deny rule matches as well.
    Allow,
    /// Refuses what it matches.
    Deny,
}

/// What a rule says about the protocol of its traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleProtocol {
    /// HTTP of any version: the rule does not match opaque bytes.
    Http,
    /// Opaque bytes: the rule does not match a request that was read as HTTP.
    Tcp,
}

/// The other side of a rule: `from` of an inbound rule, `to` of an outbound one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// With or without an identity. An outbound rule with `to_cidr` has this.
    Anyone,
    /// One of these.
    Ids(Vec<IdPattern>),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique within its direction.
    pub name: Arc<str>,
    /// What it does.
    pub action: Action,
    /// Which way.
    pub direction: Direction,
    /// The other side.
    pub who: Who,
    /// Identities taken out of `who`. Someone without an identity is never taken out.
    pub not_who: Vec<IdPattern>,
    /// Outbound: the destination's address is in one of these.
    pub cidrs: Vec<Cidr>,
    /// The request's host is one of these.
    pub hosts: Vec<HostPattern>,
    /// Inbound: the application's port. Outbound: the destination's port.
    pub ports: Vec<u16>,
    /// The traffic's protocol; `None`: whatever it is.
    pub protocol: Option<RuleProtocol>,
    /// The request is one of these operations.
    pub requests: Vec<RequestPattern>,
    /// The request is gRPC and one of these operations.
    pub grpc: Vec<GrpcPattern>,
    /// The protocols a request may ask to switch to, CONNECT among them. An allow rule without them matches no request
    /// that asks for a switch, but with or without them it matches the ordinary ones. A deny rule with them matches
    /// only requests that ask for one of them; without them it matches whether or not a switch is asked for.
    pub upgrade: Vec<UpgradePattern>,
    /// Inbound allow rules: may match without mutual TLS.
    pub plaintext: bool,
    /// Who answers for the rule.
    pub owner: Option<String>,
    /// Where it was decided.
    pub ticket: Option<String>,
    /// What a refused caller's operator is told.
    pub reason: Option<String>,
}

impl Rule {
    /// A rule with this name and other side and nothing else: no condition besides `who`.
    #[must_use]
    pub fn new(name: &str, action: Action, direction: Direction, who: Who) -> Self {
        Self {
            name: name.into(),
            action,
            direction,
            who,
            not_who: Vec::new(),
            cidrs: Vec::new(),
            hosts: Vec::new(),
            ports: Vec::new(),
            protocol: None,
            requests: Vec::new(),
            grpc: Vec::new(),
            upgrade: Vec::new(),
            plaintext: false,
            owner: None,
            ticket: None,
            reason: None,
        }
    }

    /// The rule as it is compared with paths of this case.
    pub(crate) fn comparing(self, case: PathCase) -> Self {
        match case {
            PathCase::Sensitive => self,
            PathCase::Insensitive => Self {
                requests: self.requests.into_iter().map(RequestPattern::folded).collect(),
                grpc: self.grpc.into_iter().map(GrpcPattern::folded).collect(),
                ..self
            },
        }
    }

    /// Whether a port is one of the rule's; a rule without ports has them all.
    #[must_use]
    pub fn covers_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }

    /// Whether the rule looks into requests: such a condition has no value for opaque bytes.
    #[must_use]
    pub fn reads_requests(&self) -> bool {
        !self.requests.is_empty() || !self.grpc.is_empty() || !self.hosts.is_empty() || !self.upgrade.is_empty()
    }

    /// Whether an address is in one of the rule's ranges; a rule without ranges has every address, and none is in no range.
    pub(crate) fn covers_address(&self, ip: Option<IpAddr>) -> bool {
        self.cidrs.is_empty() || ip.is_some_and(|ip| self.cidrs.iter().any(|c| c.contains(ip)))
    }

    /// Whether a host is one of the rule's; a rule without hosts has them all.
    pub(crate) fn covers_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|h| h.matches(host))
    }

    /// Whether `not_who` names this peer.
    pub(crate) fn leaves_out(&self, peer: Option<&SpiffeId>) -> bool {
        peer.is_some_and(|peer| self.not_who.iter().any(|p| p.matches(peer)))
    }

    /// Whether the rule's `upgrade` lets it match a request that asks for this switch, or for none.
    pub(crate) fn covers_upgrade(&self, asked: Option<&str>) -> bool {
        let named = asked.is_some_and(|protocol| self.upgrade.iter().any(|p| p.matches(protocol)));
        match self.action {
            Action::Allow => asked.is_none() || named,
            Action::Deny => self.upgrade.is_empty() || named,
        }
    }
}

impl Who {
    /// How narrowly the rule names this peer (4 exact … 1 trust domain, 0 anyone); `None` when it does not.
    pub(crate) fn rank(&self, peer: Option<&SpiffeId>) -> Option<u8> {
        match self {
            Self::Anyone => Some(0),
            Self::Ids(ids) => {
                let peer = peer?;
                ids.iter().filter(|p| p.matches(peer)).map(IdPattern::rank).max()
            }
        }
    }
}

impl Mode {
    /// `observe` or `enforce`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

impl Direction {
    /// `inbound` or `outbound`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Action {
    /// `allow` or `deny`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

//! What is said on one stream of state-of-the-world xDS, without the stream.
//!
//! A request is one of four things: the first, or one with other names (it is owed an answer); an acknowledgement of the last
//! answer; its rejection (not answered, or both sides would send the same for ever); or a word about an older answer, which is
//! not heard. Which it is, the nonce says, then the error, then the names.

use super::names::meaning;
use super::secrets::{Roots, SECRET, packed};
use crate::material::Material;
use crate::text::printable;
use std::fmt;
use tonic::Status;
use wire::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    roots: Roots,
    /// What the other side wants, without repeats.
    names: Vec<String>,
    /// Answers so far; the last one's nonce.
    nonce: u64,
    /// What was sent last.
    version: Option<String>,
    owes: bool,
}

/// What a request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It names what its sender wants from now on.
    Subscription,
    /// The last answer is in use.
    Acknowledgement,
    /// The last answer is not.
    Rejection {
        /// Of the answer.
        version: String,
        /// In the other side's words.
        why: String,
    },
    /// It is about an answer before the last.
    Stale,
}

impl Conversation {
    /// Takes a request in.
    pub(crate) fn hear(&mut self, request: DiscoveryRequest) -> Result<Heard, Refusal> {
        // Left out, it is implied by the service that is called.
        if !request.type_url.is_empty() && request.type_url != SECRET {
            return Err(Refusal::Type(printable(&request.type_url)));
        }
        if !request.response_nonce.is_empty() && request.response_nonce != self.nonce.to_string() {
            return Ok(Heard::Stale);
        }
        if let Some(node) = &request.node {
            self.roots = Roots::wanted_by(node);
        }
        let is_answer = !request.response_nonce.is_empty();
        let names = distinct(request.resource_names)?;
        if names.is_empty() && !is_answer {
            return Err(Refusal::NoNames);
        }
        let changed = names != self.names;
        self.names = names;
        self.owes = !self.names.is_empty() && (self.owes || changed || !is_answer);
        Ok(match request.error_detail {
            Some(error) if is_answer => {
                Heard::Rejection { version: self.version.clone().unwrap_or_default(), why: printable(&error.message) }
            }
            _ if changed || !is_answer => Heard::Subscription,
            _ => Heard::Acknowledgement,
        })
    }

    /// There is an identity of this version now.
    pub(crate) fn learn(&mut self, version: &str) {
        self.owes |= !self.names.is_empty() && self.version.as_deref() != Some(version);
    }

    /// Of the last answer.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether the other side waits for an answer.
    pub(crate) fn owes_an_answer(&self) -> bool {
        self.owes
    }

    /// The answer: every secret that was named, or none of them.
    pub(crate) fn answer(&mut self, material: &Material) -> Result<DiscoveryResponse, Refusal> {
        let mut resources = Vec::new();
        for name in &self.names {
            let meaning = meaning(name, material).ok_or_else(|| Refusal::Name(printable(name)))?;
            resources.push(packed(name, meaning, material, self.roots));
        }
        self.owes = false;
        self.nonce += 1;
        self.version = Some(material.version().to_owned());
        Ok(DiscoveryResponse {
            version_info: material.version().to_owned(),
            resources,
            type_url: SECRET.to_owned(),
            nonce: self.nonce.to_string(),
            control_plane: None,
        })
    }
}

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Type(String),
    NoNames,
    TooManyNames,
    LongName,
    Name(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(got) => write!(f, "resources of type `{got}` are not served here, secrets are"),
            Self::NoNames => f.write_str("no secret is named; there is no wildcard for secrets"),
            Self::TooManyNames => write!(f, "more than {NAMES} secrets are named"),
            Self::LongName => write!(f, "the name of a secret is longer than {NAME} bytes"),
            Self::Name(name) => write!(f, "there is no secret `{name}` for this workload"),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::invalid_argument(refusal.to_string())
    }
}

/// The names in their order, each once.
fn distinct(names: Vec<String>) -> Result<Vec<String>, Refusal> {
    if names.len() > NAMES {
        return Err(Refusal::TooManyNames);
    }
    let mut distinct = Vec::new();
    for name in names {
        if name.len() > NAME {
            return Err(Refusal::LongName);
        }
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    Ok(distinct)
}

/// There are five names that mean something to one workload.
const NAMES: usize = 16;
/// The longest SPIFFE ID (SPIFFE-ID §2.3).
const NAME: usize = 2048;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::papers::Pki;
    use std::time::SystemTime;

    fn own(pki: &Pki) -> Material {
        let papers = pki.papers("spiffe://example.org/ns/shop/sa/web");
        let (chain, key, roots) = (papers.chain.as_bytes(), papers.key.as_bytes(), papers.roots.as_bytes());
        Material::from_pem(chain, key, roots, &papers.id, SystemTime::now()).unwrap()
    }

    fn request(nonce: &str, names: &[&str]) -> DiscoveryRequest {
        DiscoveryRequest {
            response_nonce: nonce.to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn the_nonce_is_heard_before_the_names() {
        let pki = Pki::new("example.org");
        let (first, second) = (own(&pki), own(&pki));
        let mut stream = Conversation::default();
        // Nothing was sent yet, so no nonce can be right.
        assert_eq!(stream.hear(request("1", &["default"])), Ok(Heard::Stale));
        assert!(!stream.owes_an_answer());
        assert_eq!(stream.hear(request("", &["default"])), Ok(Heard::Subscription));
        assert_eq!(stream.answer(&first).unwrap().nonce, "1");
        assert_eq!(stream.hear(request("1", &["default"])), Ok(Heard::Acknowledgement));
        stream.learn(first.version());
        assert!(!stream.owes_an_answer());
        stream.learn(second.version());
        assert!(stream.owes_an_answer());
        // An acknowledgement that crosses a change does not settle the change.
        assert_eq!(stream.hear(request("1", &["default"])), Ok(Heard::Acknowledgement));
        assert!(stream.owes_an_answer());
        let answer = stream.answer(&second).unwrap();
        assert_eq!((answer.nonce.as_str(), answer.version_info.as_str()), ("2", second.version()));
        for stale in ["1", "3", "02", " 2", "x"] {
            assert_eq!(stream.hear(request(stale, &["ALL"])), Ok(Heard::Stale), "{stale}");
        }
        assert!(!stream.owes_an_answer());
    }

    #[test]
    fn a_rejection_owes_nothing_unless_it_names_something_else() {
        let own = own(&Pki::new("example.org"));
        let mut stream = Conversation::default();
        stream.hear(request("", &["default"])).unwrap();
        stream.answer(&own).unwrap();
        let rejection = |names| DiscoveryRequest {
            error_detail: Some(wire::google::rpc::Status { message: "no".repeat(500), ..Default::default() }),
            ..request("1", names)
        };
        let Ok(Heard::Rejection { version, why }) = stream.hear(rejection(&["default"])) else { unreachable!() };
        assert_eq!((version.as_str(), why.len()), (own.version(), 259));
        stream.learn(own.version());
        assert!(!stream.owes_an_answer());
        stream.hear(rejection(&["ROOTCA"])).unwrap();
        assert!(stream.owes_an_answer());
    }

    #[test]
    fn asking_anew_is_answered_anew_and_no_names_end_a_subscription() {
        let own = own(&Pki::new("example.org"));
        let mut stream = Conversation::default();
        stream.hear(request("", &["default"])).unwrap();
        stream.answer(&own).unwrap();
        assert_eq!(stream.hear(request("", &["default"])), Ok(Heard::Subscription));
        assert_eq!(stream.answer(&own).unwrap().nonce, "2");
        stream.hear(request("2", &[])).unwrap();
        stream.learn("another");
        assert!(!stream.owes_an_answer());
        assert_eq!(stream.hear(request("", &[])), Err(Refusal::NoNames));
    }
}

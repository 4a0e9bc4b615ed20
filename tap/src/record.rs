//! What the data path hands to the tap: one HTTP exchange as it was judged and forwarded.
//!
//! Plain values with public fields, no behaviour beyond constructors. Nothing is refused here; [`crate::Tap::offer`]
//! refuses what cannot be copied safely. Bodies hold at most the tap's `max_body` bytes, `body_len` the true count.

mod facts;
pub(crate) mod line;
pub(crate) mod sink;
pub(crate) mod text;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, StatusCode};

use crate::head::{Fields, Head};
use crate::redact::Redaction;

pub use facts::{Decision, Facts, Flow, Tls};
pub(crate) use facts::{Size, Told, What};

/// One exchange: a request and, unless the exchange was cut short, its response.
#[derive(Debug, Clone)]
pub struct Record {
    /// Number of the real connection, unique within the process. Exchanges of one real connection share synthetic
    /// connections.
    pub connection: u64,
    /// Peer address and port of the real connection.
    pub client: SocketAddr,
    /// The workload's own address with the *application's* port, so that port-based rules of the IDS work.
    pub server: SocketAddr,
    /// It was HTTP/2 on the real connection.
    pub http2: bool,
    /// The request, made by [`Message::request`].
    pub request: Message,
    /// The response, made by [`Message::response`]. For a refused request the proxy's own reply.
    pub response: Option<Message>,
    /// When the request's head was read.
    pub started: Instant,
    /// When the response's head was read, or the proxy's own was made.
    pub answered: Option<Instant>,
    /// When the last byte of either message passed.
    pub ended: Instant,
    /// Who broke the exchange off, if anybody did. The copy then ends with RST from that side.
    pub aborted: Option<Side>,
    /// What the rules said.
    pub verdict: Verdict,
    /// Name of the rule that decided.
    pub rule: Option<Arc<str>>,
    /// The real connection is closed after this exchange; the copy ends with FIN.
    pub last: bool,
}

/// One message of an exchange.
#[derive(Debug, Clone)]
pub struct Message {
    /// Request or status line with the headers, as text without secrets.
    pub(crate) head: Head,
    /// What is masked in its body and trailers, too.
    pub(crate) redaction: Arc<Redaction>,
    /// The body's first bytes, at most `max_body`. Transfer coding removed, content coding left as it is.
    pub body: Vec<u8>,
    /// How many body bytes passed in truth.
    pub body_len: u64,
    /// Trailers, for example gRPC's status.
    pub trailers: Option<HeaderMap>,
    /// The end of the message was seen. False for a message that was cut short by an abort or an early answer.
    pub complete: bool,
}

/// One end of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that sent the request.
    Client,
    /// The end that answers.
    Server,
}

/// What the rules said of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A rule allowed it.
    Allowed,
    /// It was refused.
    Denied,
    /// It passed, but enforcing mode would have refused it.
    WouldDeny,
}

impl Message {
    /// A request without body so far; `complete` is false until the caller saw its end.
    ///
    /// `target` is the request target as it was judged, normally path and query. `authority` is written as `host`; with
    /// `None` the `host` field stands, if there is one. Connection-specific fields may be present; the copy's framing is
    /// its own. Secrets are masked here and now.
    pub fn request(
        redaction: &Arc<Redaction>,
        method: Method,
        target: &(impl AsRef<[u8]> + ?Sized),
        authority: Option<&(impl AsRef<[u8]> + ?Sized)>,
        fields: &impl Fields,
    ) -> Self {
        let authority = authority.map(AsRef::as_ref);
        Self::new(redaction, Head::request(redaction, method, target.as_ref(), authority, fields))
    }

    /// A response without body so far; `complete` is false until the caller saw its end.
    pub fn response(redaction: &Arc<Redaction>, status: StatusCode, fields: &impl Fields) -> Self {
        Self::new(redaction, Head::response(redaction, status, fields))
    }

    /// A request whose head could not be read, as it came: only its first line, its names and its framing are shown.
    pub fn unread(redaction: &Arc<Redaction>, raw: &[u8]) -> Self {
        Self::new(redaction, Head::unread(redaction, raw))
    }

    /// What is masked in it.
    pub fn redaction(&self) -> &Arc<Redaction> {
        &self.redaction
    }

    /// The same with its body yet to be copied.
    pub fn without_body(&self) -> Self {
        let Self { head, redaction, body: _, body_len, trailers, complete } = self;
        let (head, redaction, trailers) = (head.clone(), Arc::clone(redaction), trailers.clone());
        Self { head, redaction, body: Vec::new(), body_len: *body_len, trailers, complete: *complete }
    }

    /// The same with the head of `other`, and masked as that is. Both are of one message.
    pub fn headed_as(self, other: &Self) -> Self {
        Self { head: other.head.clone(), redaction: Arc::clone(&other.redaction), ..self }
    }

    fn new(redaction: &Arc<Redaction>, head: Head) -> Self {
        Self { head, redaction: Arc::clone(redaction), body: Vec::new(), body_len: 0, trailers: None, complete: false }
    }
}

impl Side {
    /// The opposite end.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl Verdict {
    /// The name used in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::WouldDeny => "would_deny",
        }
    }
}

//! What the data path hands to the tap: one HTTP exchange as it was judged and forwarded.
//!
//! Plain values with public fields, no behaviour beyond constructors. Nothing is refused here; [`crate::Tap::offer`]
//! refuses what cannot be copied safely. Bodies hold at most the tap's `max_body` bytes, `body_len` the true count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};

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
    /// The request; its head must be [`Head::Request`].
    pub request: Message,
    /// The response; its head must be [`Head::Response`]. For a refused request the proxy's own reply.
    pub response: Option<Message>,
    /// When the exchange began.
    pub started: SystemTime,
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
    /// Request or status line with the headers.
    pub head: Head,
    /// The body's first bytes, at most `max_body`. Transfer coding removed, content coding left as it is.
    pub body: Vec<u8>,
    /// How many body bytes passed in truth.
    pub body_len: u64,
    /// Trailers, for example gRPC's status.
    pub trailers: Option<HeaderMap>,
    /// The end of the message was seen. False for a message that was cut short by an abort or an early answer.
    pub complete: bool,
    /// When the head was seen.
    pub at: SystemTime,
}

/// First line and headers of a message.
#[derive(Debug, Clone)]
pub enum Head {
    /// A request.
    Request {
        /// The method.
        method: Method,
        /// The request target as it was judged, normally path and query.
        target: String,
        /// The authority, written as `host`. With `None` the `host` header stands, if there is one.
        authority: Option<String>,
        /// The headers. Connection-specific ones may be present; the copy's framing is its own.
        headers: HeaderMap,
    },
    /// A response.
    Response {
        /// The status.
        status: StatusCode,
        /// The headers.
        headers: HeaderMap,
    },
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
    pub fn request(
        method: Method,
        target: String,
        authority: Option<String>,
        headers: HeaderMap,
        at: SystemTime,
    ) -> Self {
        Self::new(Head::Request { method, target, authority, headers }, at)
    }

    /// A response without body so far; `complete` is false until the caller saw its end.
    pub fn response(status: StatusCode, headers: HeaderMap, at: SystemTime) -> Self {
        Self::new(Head::Response { status, headers }, at)
    }

    fn new(head: Head, at: SystemTime) -> Self {
        Self { head, body: Vec::new(), body_len: 0, trailers: None, complete: false, at }
    }

    /// The headers of either kind.
    pub fn headers(&self) -> &HeaderMap {
        match &self.head {
            Head::Request { headers, .. } | Head::Response { headers, .. } => headers,
        }
    }

    /// The headers of either kind, to change.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        match &mut self.head {
            Head::Request { headers, .. } | Head::Response { headers, .. } => headers,
        }
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

//! What a record tells of an exchange or a connection beyond the copied messages, and the record on its way to the sink.
//!
//! Plain values: pointers and numbers, so that the data path pays for no text. The tap's thread writes it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use identity::SpiffeId;

use crate::counters::Reason;
use crate::head::Line;
use crate::place::Place;
use crate::record::{Message, Record, Side, Verdict};
use crate::redact::Masked;

/// What the proxy knows of an exchange or a connection.
#[derive(Debug, Clone)]
pub struct Facts {
    /// On which side of the workload: `inbound` or `outbound`.
    pub direction: &'static str,
    /// Who calls, if that is proved.
    pub source: Option<SpiffeId>,
    /// Who is called, if that is known.
    pub destination: Option<SpiffeId>,
    /// What the decision is called: the process, the connection, and which exchange of the process.
    pub decision: Decision,
    /// The template of the rule that the request fits, or its gRPC method.
    pub template: Option<String>,
    /// Envoy's response flags.
    pub flags: &'static str,
    /// Envoy's response code details.
    pub details: Cow<'static, str>,
    /// What was spoken in truth: `http/1.0`, `http/1.1`, `h2` or `tcp`.
    pub protocol: &'static str,
    /// It is gRPC.
    pub grpc: bool,
    /// TLS towards the other workload.
    pub tls: Option<Tls>,
    /// The ends of the real connection between the two workloads: caller, called.
    pub wire: (SocketAddr, SocketAddr),
    /// Bytes of each body that a copy with this tap's settings shows.
    pub body: u64,
    /// Where a tap of packets copies it to, if one does.
    pub place: Option<Arc<Place>>,
}

/// Names one decision: unique in the process, and with its start in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decision {
    /// Number of the connection.
    pub connection: u64,
    /// Number of the exchange on it, from 1; 0 for the connection itself.
    pub exchange: u32,
}

/// A TLS connection.
#[derive(Debug, Clone)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`, where it is known.
    pub version: Option<&'static str>,
    /// The cipher suite, by its registered name, where it is known.
    pub cipher: Option<&'static str>,
    /// The serial number of the peer's certificate in lower-case hex.
    pub serial: Option<Arc<str>>,
}

/// A connection that is not HTTP, when it is over.
#[derive(Debug, Clone)]
pub struct Flow {
    /// As in [`crate::Record::client`].
    pub client: SocketAddr,
    /// As in [`crate::Record::server`].
    pub server: SocketAddr,
    /// When it was accepted.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What the rules said.
    pub verdict: Verdict,
    /// Name of the rule that decided.
    pub rule: Option<Arc<str>>,
    /// Bytes from the client, and from the server.
    pub bytes: (u64, u64),
    /// Who broke it off, if anybody did.
    pub aborted: Option<Side>,
    /// The rest.
    pub facts: Facts,
}

/// What waits in the queue of a tap of records.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) facts: Facts,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) started: Instant,
    pub(crate) answered: Option<Instant>,
    pub(crate) ended: Instant,
    pub(crate) verdict: Verdict,
    pub(crate) rule: Option<Arc<str>>,
    pub(crate) aborted: Option<Side>,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Exchange {
        /// The request's head without secrets.
        head: Vec<u8>,
        status: Option<u16>,
        request: Size,
        response: Size,
        masked: Masked,
    },
    Flow {
        bytes: (u64, u64),
    },
}

/// A body, by its size.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) complete: bool,
}

impl Told {
    /// Refuses what the copy of packets refuses.
    pub(crate) fn of(record: Record, facts: Facts) -> Result<Self, Reason> {
        let Record { client, server, request, response, started, answered, ended, aborted, verdict, rule, .. } = record;
        let fault = request.head.fault.or_else(|| response.as_ref()?.head.fault);
        if let Some(reason) = fault {
            return Err(reason);
        }
        let size = |message: &Message| Size {
            bytes: message.body_len.max(message.body.len() as u64),
            complete: message.complete,
        };
        let mut masked = request.head.masked;
        let status = response.as_ref().and_then(|response| match response.head.line {
            Line::Response(status) => Some(status.as_u16()),
            Line::Request(_) | Line::Unread => None,
        });
        if let Some(response) = &response {
            masked.add(&response.head.masked);
        }
        let what = What::Exchange {
            status,
            request: size(&request),
            response: response.as_ref().map(size).unwrap_or_default(),
            masked,
            head: request.head.text,
        };
        Ok(Self { facts, client, server, started, answered, ended, verdict, rule, aborted, what })
    }

    pub(crate) fn of_flow(flow: Flow) -> Self {
        let what = What::Flow { bytes: flow.bytes };
        Self::of_connection(flow, what)
    }

    /// An exchange of which there is nothing but the answer.
    pub(crate) fn of_unread(flow: Flow, status: u16) -> Self {
        let what = What::Exchange {
            head: Vec::new(),
            status: Some(status),
            request: Size::default(),
            response: Size { bytes: 0, complete: true },
            masked: Masked::default(),
        };
        Self::of_connection(flow, what)
    }

    fn of_connection(flow: Flow, what: What) -> Self {
        let Flow { client, server, started, ended, verdict, rule, bytes: _, aborted, facts } = flow;
        Self { facts, client, server, started, answered: None, ended, verdict, rule, aborted, what }
    }

    /// Bytes of memory this holds.
    pub(crate) fn cost(&self) -> usize {
        let text = match &self.what {
            What::Exchange { head, .. } => head.capacity(),
            What::Flow { .. } => 0,
        };
        size_of::<Self>() + text + self.facts.details.len() + self.facts.template.as_ref().map_or(0, String::capacity)
    }
}

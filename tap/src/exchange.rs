//! A record made ready to leave: text written, secrets masked, memory counted.
//!
//! In: a [`Record`]. Out: an [`Exchange`] that owns exactly the bytes it will send and no slice of a read buffer.
//! Refuses, with the reason to count, what cannot be copied safely. An answer that came before its request's end
//! stands behind what was seen of the request; verdict and rule have no place in a copy of packets.

use std::time::Instant;

use http::{Method, StatusCode};

use crate::counters::Reason;
use crate::h2c;
use crate::head::Line;
use crate::http1::{self, Wire};
use crate::packet::Tuple;
use crate::record::{Message, Record, Side};
use crate::redact::Masked;
use crate::settings::Mapping;

/// What waits in the queue.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) connection: u64,
    pub(crate) tuple: Tuple,
    /// How both messages are written.
    pub(crate) mapping: Mapping,
    /// Of the request's head, of the response's head, and of the last byte.
    pub(crate) started: Instant,
    pub(crate) answered: Option<Instant>,
    pub(crate) ended: Instant,
    pub(crate) request: Wire,
    pub(crate) response: Option<Wire>,
    /// Of the response.
    pub(crate) status: Option<StatusCode>,
    pub(crate) end: End,
    /// The real connection ends with this exchange.
    pub(crate) last: bool,
}

/// How the synthetic connection goes on after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The next exchange may follow.
    Open,
    /// Closed with FIN, this side first.
    Finish(Side),
    /// Broken off by this side.
    Reset(Side),
}

impl Exchange {
    pub(crate) fn of(record: Record, max_body: usize, wanted: Mapping) -> Result<Self, Reason> {
        let Record { connection, client, server, http2, request, response, started, answered, ended, .. } = record;
        let (aborted, last) = (record.aborted, record.last);
        let mut mapping = if http2 { wanted } else { Mapping::Http1 };
        let method = match &request.head.line {
            Line::Request(method) => method.clone(),
            // It is answered as any request with a body in the answer would be.
            Line::Unread => {
                mapping = Mapping::Http1;
                Method::GET
            }
            Line::Response(_) => return Err(Reason::RedactError),
        };
        let server_closes = response.as_ref().is_some_and(|message| message.head.closes);
        let status = response.as_ref().and_then(status);
        // What follows a switch of protocols is copied raw, which only text can be followed by.
        if ends_http(status, &method) {
            mapping = Mapping::Http1;
        }
        let (request, response) = match mapping {
            Mapping::Http1 => (
                http1::request(request, max_body)?,
                response.map(|message| http1::response(message, &method, max_body)).transpose()?,
            ),
            Mapping::H2c => (
                h2c::request(request, max_body)?,
                response.map(|message| h2c::response(message, &method, max_body)).transpose()?,
            ),
        };

        let response_ends = response.as_ref().is_none_or(|wire| wire.open_ended) || ends_http(status, &method);
        let end = if let Some(side) = aborted {
            End::Reset(side)
        } else if response_ends || server_closes || request.open_ended {
            End::Finish(Side::Server)
        } else if last {
            End::Finish(Side::Client)
        } else {
            End::Open
        };
        let tuple = Tuple::new(client, server);
        Ok(Self { connection, tuple, mapping, started, answered, ended, request, response, status, end, last })
    }

    /// Bytes of memory this exchange holds.
    pub(crate) fn cost(&self) -> usize {
        let held = |wire: &Wire| wire.head.capacity() + wire.body.capacity() + wire.tail.capacity();
        size_of::<Self>() + self.wires().map(held).sum::<usize>()
    }

    /// Bytes that will be sent.
    pub(crate) fn len(&self) -> usize {
        self.wires().map(Wire::len).sum()
    }

    /// Body bytes that are copied.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.wires().map(|wire| wire.body.len() as u64).sum()
    }

    /// A body was cut at `max_body`.
    pub(crate) fn is_cut(&self) -> bool {
        self.wires().any(|wire| wire.cut)
    }

    pub(crate) fn length_conflicts(&self) -> u64 {
        self.wires().filter(|wire| wire.length_conflict).count() as u64
    }

    /// What was masked in both messages.
    pub(crate) fn masked(&self) -> Masked {
        self.wires().fold(Masked::default(), |mut all, wire| {
            all.add(&wire.masked);
            all
        })
    }

    fn wires(&self) -> impl Iterator<Item = &Wire> {
        std::iter::once(&self.request).chain(&self.response)
    }
}

fn status(response: &Message) -> Option<StatusCode> {
    match response.head.line {
        Line::Response(status) => Some(status),
        Line::Request(_) | Line::Unread => None,
    }
}

fn ends_http(status: Option<StatusCode>, method: &Method) -> bool {
    status.is_some_and(|status| http1::ends_http(status, method))
}

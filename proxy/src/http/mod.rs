//! HTTP between the two ends: reading a request in one way only, editing its head, and carrying its body.

mod body;
mod downstream;
mod engine;
mod exchange;
mod gate;
mod headers;
mod hyper;
mod respond;
mod rewrite;
mod target;

pub(crate) use body::Body;
pub(crate) use engine::{Chosen, Engine, Http, Incoming, SendError, Upstream, UpstreamConnection};
pub(crate) use exchange::{End, Exchange, Side};
pub(crate) use gate::Refused;
pub(crate) use headers::{
    downstream as response_headers, inbound as inbound_headers, outbound as outbound_headers, xfcc,
};
pub(crate) use respond::Failure;
use rewrite::close_when_draining;
pub(crate) use rewrite::{refuse_tunnels, timeout_ms, unreadable, write_target};
pub(crate) use target::{is_number, read};

//! HTTP between the two ends: reading a request in one way only, editing its head, and carrying its body.
//!
//! HTTP/1.1 is our own ([`h1`]), HTTP/2 is hyper's ([`h2`]). The stories and the judgement see neither: they see [`Asked`], what
//! a head says, and [`Exchange`], what became of it.

mod asked;
mod body;
mod copy;
mod exchange;
mod feed;
pub(crate) mod field;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub(crate) mod h1;
pub(crate) mod h2;
mod headers;
mod respond;
mod span;
mod waiting;

pub(crate) use asked::{Asked, Wants};
pub(crate) use body::Body;
pub(crate) use copy::{selectable, told};
pub(crate) use exchange::{End, Exchange, Side};
pub(crate) use h2::PREFACE;
pub(crate) use headers::xfcc;
pub(crate) use respond::Failure;
pub(crate) use waiting::Total;

use crate::{connection::Connection, stream::Stream, upstream::Route};
use std::rc::Rc;

/// The version of HTTP on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Http {
    One,
    Two,
}

/// Serves requests from `stream` until the connection ends, its timers run out, or the drain.
pub(crate) async fn serve(stream: Stream, http: Http, connection: Rc<Connection>) {
    match http {
        Http::One => h1::serve(stream, connection).await,
        // Boxed: the engine's connection is large, and would make the task of every HTTP/1.1 connection as large.
        Http::Two => Box::pin(h2::serve(stream, connection)).await,
    }
}

/// The value of `x-envoy-expected-rq-timeout-ms`, when the route has a timeout.
pub(crate) fn timeout_ms(route: &Route) -> Option<u64> {
    route.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

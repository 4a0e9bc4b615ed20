//! HTTP/1.1 (RFC 9112), read strictly and relayed by one task per downstream connection.
//!
//! | file | idea |
//! | --- | --- |
//! | `head`, `framing`, `chunked`, `refused` | bytes to heads and bodies, or why not; no sockets |
//! | `write` | heads as they go on |
//! | `server` | one downstream connection, its requests in turn |
//! | `relay`, `way` | one exchange over two HTTP/1.1 connections, and one direction of it |
//! | `client` | one upstream connection |
//! | `over_http2` | an exchange whose upstream speaks HTTP/2 |
//! | `carried` | a request that came over HTTP/2 to an upstream that speaks HTTP/1.1 |

mod carried;
mod chunked;
mod client;
#[cfg(test)]
mod differential;
pub(super) mod framing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub(crate) mod head;
mod over_http2;
mod refused;
mod relay;
mod server;
mod way;
pub(super) mod write;

pub(crate) use carried::{Carried, carry};
pub(crate) use client::Client;
pub(crate) use head::{Field, Lists, RequestHead};
pub(crate) use refused::Refused;
pub(crate) use server::serve;

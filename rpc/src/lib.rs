//! gRPC over connections of our own: TLS under SPIFFE identities, and unix sockets.
//!
//! In: services made from `wire`, and TLS configurations made by `identity`. Out: served requests, each with the [`Caller`]
//! that the connection proved, and [`Channel`]s to call others through. What a caller may do is not decided here.
//!
//! | file | idea |
//! | --- | --- |
//! | `routes` | which service answers which path |
//! | `caller` | who is at the other end: a verified SVID, the process behind a unix socket, or nobody in particular |
//! | `serve` | one HTTP/2 connection, within limits |
//! | `corked` | one write for what is said at one time |
//! | `listen` | accepting: TCP with TLS, unix sockets |
//! | `renamed` | the name of a unix socket, made one that our HTTP/2 takes |
//! | `channel` | the client's side |
//! | `limits` | every bound, with its reason |
//!
//! This is control plane: hyper and tonic carry it, and a multi-threaded runtime is assumed.

mod caller;
mod channel;
mod corked;
mod limits;
mod listen;
mod renamed;
mod routes;
mod serve;

pub use caller::{Caller, Process};
pub use channel::{Channel, ConnectError};
pub use limits::Limits;
pub use listen::{Refused, Watcher, bind_tcp, bind_unix, family_is_missing, serve_tls, serve_unix};
pub use routes::Routes;

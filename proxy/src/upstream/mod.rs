//! Towards the other side: where a request goes, and by which connection.

mod acquire;
mod connection;
mod dial;
mod dialling;
mod pool;
mod route;

pub(crate) use acquire::{acquire, acquire_until, addresses, upstream_http};
pub(crate) use connection::Upstream;
pub(crate) use dial::{Dialled, dial};
pub(crate) use dialling::Diallings;
pub(crate) use pool::{Lease, Made, Pool};
pub(crate) use route::{Expect, Route, Security, Target};

//! Towards the other side: where a request goes, by which connection, and sending it.

mod dial;
mod forward;
mod pool;
mod route;

pub(crate) use dial::{Dialled, dial};
pub(crate) use forward::{acquire, addresses, forward, upstream_http};
pub(crate) use pool::{Lease, Made, Pool};
pub(crate) use route::{Expect, Route, Security, Target};

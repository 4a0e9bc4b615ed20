//! The door by which `fuzz/` reaches the parsers of this crate: plain values in, plain values out, and nothing of it in a build
//! without the feature `fuzzing`.
//!
//! Behind it are the functions that the data path calls, not copies of them. Each room has its part of the door in a file of
//! its own; here is what belongs to none.

pub use crate::{
    dns::fuzzing as dns,
    http::{fuzzing as head, h1::fuzzing as http1, h2::fuzzing as http2},
    tls::fuzzing as tls,
};

use identity::{SpiffeId, Svid};
use std::net::{IpAddr, SocketAddr};

/// What the first bytes of a connection say that it speaks: `None` while they do not decide.
pub fn detect(seen: &[u8]) -> Option<&'static str> {
    crate::detect::decide(seen).map(|detected| match detected {
        crate::detect::Detected::Http(crate::http::Http::One) => "http/1.1",
        crate::detect::Detected::Http(crate::http::Http::Two) => "h2",
        crate::detect::Detected::Opaque => "opaque",
    })
}

/// Where a captured connection may go, given what the kernel says: its destination, our end of it, the addresses of our
/// listeners, and those of this host.
///
/// # Errors
/// The reason in a word.
pub fn destination(
    found: SocketAddr,
    local: SocketAddr,
    own: &[SocketAddr],
    host: &[IpAddr],
) -> Result<SocketAddr, &'static str> {
    crate::capture::fuzzed(found, local, own, host).map_err(crate::capture::NoDestination::reason)
}

/// The `x-forwarded-client-cert` element for a verified leaf.
pub fn xfcc(own: &SpiffeId, svid: &Svid) -> Option<Vec<u8>> {
    crate::http::xfcc(own, svid).map(|element| element.as_bytes().to_vec())
}

//! HTTP/2 as an attacker speaks it: classes 53 to 69 of the catalogue, in frames written out by hand.
//!
//! Two doors: plain with prior knowledge, as the caller's own application enters, and over mutual TLS straight into the
//! callee's sidecar. The application behind speaks HTTP/1.1, because that is where a wrong frame would become a second request.

mod envoy;
mod floods;
mod frames;
mod leaving;
mod malformed;
mod origin;
mod stalled;

use std::net::SocketAddr;

use support::pair::{Pair, Setting};

/// Both sidecars before an HTTP/1.1 application, with a rule that lets any request under `/open` pass.
fn open(setting: Setting) -> Setting {
    setting.server(|text| {
        text.replace("[app]\n", "[app]\nprotocol = \"http1\"\n")
            + "\n[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = [\"* /open/{rest...}\"]\n"
    })
}

/// A way in.
#[derive(Clone, Copy)]
enum Door<'a> {
    /// Plain, to whoever listens there.
    Plain(SocketAddr),
    /// Mutual TLS with ALPN `h2`, with the caller's certificate.
    Mtls(SocketAddr, &'a support::pki::Cert),
}

impl<'a> Door<'a> {
    fn outbound(pair: &'a Pair) -> Self {
        Self::Plain(pair.entry())
    }

    fn inbound(pair: &'a Pair) -> Self {
        Self::Mtls(pair.setting.at.inbound, &pair.setting.web)
    }
}

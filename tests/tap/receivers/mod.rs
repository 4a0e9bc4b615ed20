//! The copy before receivers of other make: tshark, tcpflow and scapy have to find no fault, agree on every byte of every
//! connection, and hold exactly what the applications exchanged, after redaction.
//!
//! | file | idea |
//! | --- | --- |
//! | `judge` | the three receivers, and what they agree on |
//! | `told` | what the copy of a message has to be, from what an application got or gave |
//! | `http1` | bodies around every bound, over IPv4 and IPv6, inside and outside; a body of 100 MiB |
//! | `http2` | a hundred streams at once, and gRPC, as HTTP/1.1 in the copy |
//! | `h2c` | the same as HTTP/2, a connection for each exchange |
//! | `long` | a long connection before a receiver that stops after 1 MiB |
//! | `streams` | a WebSocket, and opaque TCP |

mod h2c;
mod http1;
mod http2;
pub(crate) mod judge;
mod long;
mod streams;
mod told;

use std::net::{Ipv6Addr, SocketAddr};

use support::pair::{Addresses, Setting};

/// The callee's mutual TLS port, by which the copy shows the workload's address, and the sensor at addresses of these families.
fn families(mut setting: Setting, inner_v6: bool, outer_v6: bool) -> Setting {
    if outer_v6 {
        setting = moved(setting, |at| &mut at.sensor);
    }
    if inner_v6 {
        setting = moved(setting, |at| &mut at.inbound);
    }
    setting
}

/// One of the addresses moved to the IPv6 loopback, same port.
fn moved(mut setting: Setting, which: impl Fn(&mut Addresses) -> &mut SocketAddr) -> Setting {
    let old = which(&mut setting.at).to_string();
    which(&mut setting.at).set_ip(Ipv6Addr::LOCALHOST.into());
    let new = which(&mut setting.at).to_string();
    setting.server(|text| text.replace(&old, &new)).client(|text| text.replace(&old, &new))
}

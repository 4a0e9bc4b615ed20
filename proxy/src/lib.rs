//! The data path: connections and requests, in and out, under identity and rules.
//!
//! In: a checked [`config::Snapshot`] and verified [`identity::Credentials`]. Out: a running [`Proxy`], to which newer ones of
//! either can be published, and which can be drained.
//!
//! | room | idea |
//! | --- | --- |
//! | `inbound`, `outbound` | the two stories: the only places that know the order of the steps |
//! | `accept`, `listen`, `capture`, `tls`, `detect` | from a TCP connection to a peer and a protocol |
//! | `http` | one reading of a request, its head, its body, its answer; HTTP/1.1 of our own, HTTP/2 by hyper |
//! | `guard`, `parties` | the judgement, asking again when rules change, and about whom |
//! | `upstream`, `dns` | where it goes, by which connection |
//! | `opaque`, `tunnel` | what is not HTTP |
//! | `live`, `worker`, `watch`, `drain` | what is in force, who serves it, what must end |
//! | `overload`, `shares`, `descriptors` | what is shed when memory runs short; how many places one caller may take; what is kept free |
//! | `taps`, `tap_selection`, `tap_streams` | the taps that run, what of the traffic each of them copies, and what is no exchange |
//! | `observe` | access log, refusals, metrics, admin |
//!
//! A request is sent on only with a `passage::Passage`. That holds a `policy::Permit`, which exists only after a judgement of the
//! canonical target under the identity that TLS proved.

mod accept;
mod buffer;
pub mod capture;
mod connection;
mod decimal;
mod descriptors;
mod detect;
mod dns;
mod drain;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod http;
mod inbound;
mod limits;
mod listen;
mod live;
mod observe;
mod opaque;
mod outbound;
mod overload;
mod parties;
mod passage;
mod proxy;
mod shadow;
mod shares;
mod stream;
mod tap_records;
mod tap_selection;
mod tap_streams;
mod tap_tls;
mod taps;
mod tls;
mod tunnel;
mod upstream;
mod watch;
mod worker;

pub use observe::clock::text as rfc3339;
pub use proxy::{Host, Proxy, StartError};

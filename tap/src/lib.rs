//! The tap: a decrypted copy of HTTP exchanges, written as the Ethernet frames an IDS expects.
//!
//! In comes a [`Record`] (one request with its answer); out go Ethernet frames that hold synthetic TCP connections with
//! handshake, acknowledgements, checksums and a proper end: in VXLAN datagrams (RFC 7348), in a pcap stream, in pcapng files. HTTP/2 is
//! written as HTTP/1.1, or as a small HTTP/2 connection for each exchange (`h2c`, `hpack`).
//!
//! The story of one exchange: [`Tap::admit`] reserves room, [`Message`] writes each head as text without secrets (`head`,
//! `redact`), [`Tap::offer`] gives it its framing (`exchange`, `http1`) and queues it, one low-priority thread (`worker`)
//! takes it to the tap's `station`. There `pool` picks the synthetic connection, `flow` cuts it into TCP segments, `packet`
//! puts the headers on, and a `transport` hands them to the kernel.
//! Watching never costs the watched: nothing here waits on the caller's side, everything lost is counted by reason.
//!
//! [`community`] names a connection as other tools name it, so that their records can be joined with ours.
//! [`receive`] is the other end: it reads such datagrams back, from the bytes alone.

mod calendar;
mod checksum;
pub mod community;
mod counters;
mod exchange;
mod flow;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod h2c;
mod head;
mod hpack;
mod http1;
mod loss;
mod packet;
pub mod pcap;
pub mod pcapng;
mod place;
mod pool;
mod rate;
pub mod receive;
mod record;
mod redact;
mod repeat;
pub mod ring;
mod settings;
mod station;
mod stream;
mod tap;
mod transport;
mod unread;
mod wide;
mod worker;

pub use calendar::civil;
pub use counters::{Counters, Reason};
pub use head::{Fields, Head};
pub use place::Place;
pub use record::{Decision, Facts, Flow, Message, Record, Side, Tls, Verdict};
pub use redact::{
    Kinds, Masked, Redaction, Secret, field_without_credentials, is_plain, is_plain_field, without_secrets,
};
pub use repeat::{Repeat, Repeated};
pub use settings::{Mapping, Sensor, Settings};
pub use stream::{Opening, Stream};
pub use sys::datagrams::lower_priority;
pub use tap::{Admission, Running, State, Tap};
pub use transport::link::{Connect, Link};
pub use transport::vxlan::header as vxlan_header;
pub use transport::wire::Wire;

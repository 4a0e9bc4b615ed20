//! TLS 1.3 records of our own (RFC 8446 §5), after a handshake that rustls made.
//!
//! In: a TCP connection and a rustls configuration that allows its secrets to be extracted. Out: a [`Records`] stream. rustls does
//! all of the handshake: every message, key exchange, signature and certificate, and both key schedules to the end. What is
//! done here is the part a busy connection repeats: cutting a byte stream into records, opening and sealing them, and the four
//! messages that may still come (alert, key update, ticket, close).
//!
//! Why not rustls for that too: it reads 4 KiB at a time, allocates and copies per record, and keeps its buffers and the
//! handshake's state for as long as the connection is open. Here one read takes several records, one write sends several, and
//! an idle connection holds two keys, two numbers and no buffer.
//!
//! | file | idea |
//! | --- | --- |
//! | `handshake` | carries bytes between a socket and rustls until the keys are agreed |
//! | `source` | the key schedule, which stays rustls' |
//! | `key` | one direction's key: seal and open one record; the worker's store of expanded keys |
//! | `inbound` | records to plaintext; everything a peer may and may not send |
//! | `outbound` | plaintext to records |
//! | `stream` | both on a socket |
//! | `tls12` | a peer that speaks TLS 1.2 only: rustls' own records |

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod handshake;
mod inbound;
mod key;
mod outbound;
mod scratch;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod tls12;

pub(super) use handshake::{Established, Handshake};
pub(crate) use stream::Records;
pub(crate) use tls12::Tls12;

/// The most plaintext one record may carry (RFC 8446 §5.1).
const PLAINTEXT: usize = 1 << 14;

/// What a record adds to its plaintext: header, inner content type, tag. The three cipher suites agree (RFC 8446 §5.2).
const OVERHEAD: usize = HEADER + 1 + TAG;

/// Type, version and length (RFC 8446 §5.2).
const HEADER: usize = 5;

/// The authentication tag of all three AEADs (RFC 5116 §5.1, RFC 8439 §2.8).
const TAG: usize = 16;

/// Content types (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Handshake message types that may follow a handshake (RFC 8446 §4).
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

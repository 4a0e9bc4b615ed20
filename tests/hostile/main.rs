//! Peers that do not behave. The catalogue of faults (docs/faults.md) stands here as tables, one row per case with its bytes
//! written out; a recording application, read without mercy, is the judge, and a real Envoy stands beside.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod answers;
mod drills;
mod http2;
mod misbehaving;
mod overload;
mod requests;
mod tls;

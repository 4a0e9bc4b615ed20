//! A real Envoy on either side of the wire: the same requests over HTTP/1.1 and HTTP/2, with Envoy as the caller and the
//! product as the callee, the other way round, with two of ours, and, as the measure of all that, with two Envoys.
//!
//! Each request says once what has to come of it; no answer may depend on who stands at which end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod edge;
mod identity;
mod requests;

//! Network namespaces as pods: real redirect rules, set by the very arguments of the example manifest, with ordinary
//! applications and clients that know nothing of a sidecar.
//!
//! ```text
//!   pod web  10.77.1.2 ──veth── node (forwards, service addresses by DNAT) ──veth── pod orders  10.77.2.2
//!   curl, gRPC, redis-cli                                                        nginx, gRPC, redis-server
//!   sidecar, UID 1337                                                            sidecar, UID 1337
//! ```
//!
//! All of it needs root. Each test builds its own world and takes it down again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod link;
mod manifest;
mod root;
mod world;

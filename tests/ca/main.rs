//! The CA as a server, from outside: the built binary's `sekisho ca serve`, asked by a client of other make.
//!
//! The client is grpcio with stubs made from Istio's service definition; certificates are judged by openssl and by Python's
//! cryptography; what the CA did is read from its audit log.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod disk;
mod issue;
mod key_sets;
mod keys;
mod killed;
mod operator;
mod refusals;
mod restart;
mod secret;
mod setting;
mod tampering;

//! HTTP/1.1 through the pair, as raw sockets and real programs see it: what is asked before its turn, what comes before its
//! answer, what is cut, what is left over, what is slow, and what the two versions of HTTP make of each other.
//!
//! What the application was sent is the judge.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod bodies;
mod cut;
mod early;
mod interim;
mod leaving;
mod open;
mod pipelining;
mod programs;
mod reuse;
mod switching;
mod versions;

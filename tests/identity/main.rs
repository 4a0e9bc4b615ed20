//! Sidecars whose identity comes from elsewhere: from the CA, and from a socket. Certificates that live for seconds, roots that
//! take each other's place, a CA that dies and is away: nobody who asks for anything notices.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod away;
mod denied;
mod envoy;
mod fake_ca;
mod faulty;
mod first;
mod renewals;
mod rotation;
mod sockets;
mod stolen_root;
mod world;

/// How often a test does its one thing: what the variable says, or the few times that tell most.
fn count(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

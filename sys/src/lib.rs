//! What the operating system and the allocator offer and no safe interface does.
//!
//! The only room of the workspace with unsafe code. Every function here is safe to call with any arguments.

#![allow(unsafe_code)]

#[cfg(feature = "coverage")]
pub mod coverage;
pub mod datagrams;
pub mod descriptors;
pub mod memory;
pub mod streams;

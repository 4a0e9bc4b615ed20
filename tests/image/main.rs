//! What the image promises: one static binary that works as UID 1337 in a root folder that holds nothing else and that nobody
//! can write to.
//!
//! ```text
//!   /                read-only
//!   /sekisho         the static binary, as `just static-test` builds it
//!   /orders/         rule file, certificate, key, bundle
//! ```
//!
//! No `/proc`, no `/dev`, no `/etc`, no library, no shell. A container has some of these; a sidecar that works without them
//! needs none of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod root;

//! What a request costs each sidecar of a pair, in figures that noise cannot move: instructions of the program, system
//! calls, allocations. Nothing here is timed; timed comparisons stay in the bench.
//!
//! Measured is what users run: the release binary (`SEKISHO_BIN`), mutual TLS between, a rule enforced, metrics on, 1 KiB
//! responses. Every figure is the difference of two loads of different length, divided by the difference in requests, so
//! that starting, handshakes and warming up do not count. The most that passes stands in `limits.toml`. Each test prints
//! what it measured beside the limit, whether it passes or not:
//!
//! ```sh
//! just cost          # or: SEKISHO_BIN=target/release/sekisho cargo test --test cost -- --nocapture --test-threads 1
//! ```

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod allocations;
mod instructions;
mod limits;
mod load;
mod rules;
mod setting;
mod syscalls;

/// Counts what the sidecar inside this process allocates.
#[global_allocator]
static ALLOCATOR: support::counting::Counting = support::counting::Counting;

/// The two sidecars of a pair, in the order of the way of a request.
const SIDES: [&str; 2] = ["caller", "callee"];

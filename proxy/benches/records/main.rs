//! Our record layer beside rustls': CPU per gigabyte one way over loopback, and resident memory per idle connection.
//!
//! `cargo run --release -p sekisho-proxy --example records`. An example to cargo, so that it is built as a program and not as a
//! test. The rooms under test are compiled into it, since the crate does not show them.
#![allow(missing_docs, dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

#[path = "../../src/buffer.rs"]
mod buffer;
mod tls;

fn main() {
    tls::measure();
}

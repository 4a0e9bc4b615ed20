//! Shared parts of the black-box tests and of the bench: everything here stands outside the product and looks at it
//! the way its users, its peers and its attackers do.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `scratch` `ports` `child` `tools` `root` `wait` | folders, free ports, processes that end with their test, found tools, rights, patience |
//! | `pki` | certificates from `sekisho ca`, and the bad ones that only openssl would make |
//! | `sidecar` `pair` `rest` | the built binary as a sidecar; the pair of the contract files; what it holds when nothing is under way |
//! | `ca_server` `istio` | the built binary as a CA, and a client of it by others |
//! | `wire` `message` `load` | exact bytes over TCP, HTTP/1 messages as read, strict load |
//! | `script` | an application that sends exact bytes |
//! | `strict` `catalogue` | what an application was sent, read without mercy; the tables of faults |
//! | `x509` | certificates written octet by octet, for the faults no CA would write |
//! | `tls` `rogue` | exact bytes over mutual TLS; a callee with any papers |
//! | `origin` `peers` `envoy` `nginx` | applications, clients and neighbours of other make |
//! | `prometheus` | a scrape, read into numbers |
//! | `h2_frames` | HTTP/2 frames for load generators |
//! | `trend` `svg` | what samples say over time, and pictures of it |
//!
//! A missing tool is a failed test with a sentence, never a skipped one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

pub mod ca_server;
pub mod catalogue;
pub mod child;
pub mod counting;
pub mod envoy;
pub mod fatal;
pub mod h2_frames;
pub mod istio;
pub mod load;
pub mod message;
pub mod nginx;
pub mod origin;
pub mod pair;
pub mod peers;
pub mod pki;
pub mod ports;
pub mod prometheus;
pub mod rest;
pub mod rogue;
pub mod root;
pub mod scratch;
pub mod script;
pub mod sidecar;
pub mod strict;
pub mod svg;
pub mod tls;
pub mod tools;
pub mod trend;
pub mod wait;
pub mod wire;
pub mod x509;

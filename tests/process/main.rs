//! The contract, kept by the real binary: the pair of files that must load and work as written, with certificates from
//! `sekisho ca`, asked from outside.
//!
//! Every test starts its own pair on free ports; one runs the files exactly as they are.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod audit;
mod ca_roots;
mod callers;
mod files;
mod impostor;
mod operator;
mod verdicts;

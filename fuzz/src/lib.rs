//! Random input for every parser of bytes that a peer chooses, and for every matcher: no panic, and the properties that hold
//! for any input at all.
//!
//! In: the kept inputs of each target (`corpus/<target>/`). Out: inputs that break a property, as files beside them, where they
//! stay and are tried by every ordinary test run (`tests/replay.rs`); and how many edges of our code were reached.
//!
//! | file | idea |
//! | --- | --- |
//! | `targets` | what is fuzzed, and what must hold |
//! | `given` | bytes as choices, and as lines of text |
//! | `corpus` | kept inputs as files |
//! | `random`, `mutate` | from an input to one a little different |
//! | `reached` | which edges an input reached that none did before |
//! | `worker` | one target in a process of its own: a crash, a hang or a flood of memory ends only that |
//! | `crew` | all targets, a few at a time; the table at the end |
//! | `many` | so many exchanges through the tap, counted |
//! | `places` | edges by source file |
//!
//! All of it is stable Rust: the counters are LLVM's, switched on for our own crates by the script `instrument`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a finding, or a fault of this room

pub mod corpus;
pub mod crew;
mod given;
pub mod many;
mod mutate;
pub mod places;
mod random;
mod reached;
pub mod targets;
pub mod worker;

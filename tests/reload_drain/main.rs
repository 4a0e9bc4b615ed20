//! Change and end under load: new rules take over without a failed request, a bad file changes nothing, SIGTERM lets
//! every request finish.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod drain;
mod files;
mod reload;

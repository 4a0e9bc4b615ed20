//! HTTP/2 (RFC 9113), by hyper, used thinly: no shared pool, no boxed service, limits set where ours are tighter.

mod account;
mod client;
mod forward;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod paced;
mod preface;
mod server;
mod streams;
mod walk;

pub(crate) use client::{Client, SendError, Width};
pub(crate) use forward::{join_cookies, prepare, received};
pub(crate) use preface::PREFACE;
#[cfg(feature = "fuzzing")]
pub(in crate::http) use server::has_few_fields;
pub(crate) use server::serve;

use std::future::Future;

/// Runs hyper's HTTP/2 tasks on the worker they belong to.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

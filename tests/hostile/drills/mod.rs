//! Fault drills: what goes wrong around a sidecar, one kind of fault a file. Each says how the fault is made, what a caller sees
//! of it, and that nothing is left of it afterwards.

mod admin;
mod clock;
mod first;
mod injection;
pub(crate) mod leaving;
pub(crate) mod origin;
mod root;
mod slow;

use support::pair::{Setting, json_log};
use support::rest;

/// Both sidecars with JSON logs, before an HTTP/1.1 application, with a rule that lets any request under `/open` pass, and with
/// idle upstream connections kept for a second.
pub(crate) fn setting() -> Setting {
    rest::soon(Setting::new()).client(json_log).server(|text| {
        json_log(text).replace("[app]\n", "[app]\nprotocol = \"http1\"\n")
            + "\n[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = [\"* /open/{rest...}\"]\n"
    })
}

/// One more line under `[proxy]`.
fn with(line: &str) -> impl Fn(String) -> String {
    let line = format!("[proxy]\n{line}\n");
    move |text| text.replace("[proxy]\n", &line)
}

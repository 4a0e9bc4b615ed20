//! The `config` room: from the text of one file to a checked [`Snapshot`], or to every problem it has.
//!
//! In: the path or the text of `sekisho.toml`. Out: a value that needs no further checking, or a [`Report`]
//! in the style of rustc, with line, column and the fix for each problem.
//! Refuses: unknown keys (with a suggestion), keys that come in a later version (by name), values out of
//! range, names that lead nowhere, and rules that could never match. Nothing is skipped, nothing guessed.
//!
//! Certificate files are named here, not opened; sockets are not bound. The only file read is the one given.
//!
//! | file | idea |
//! | --- | --- |
//! | `snapshot` | what the rest of the house works with |
//! | `load` | from a path to a text of bounded length |
//! | `schema`, `reference` | every key with type, default and meaning; the page made from it |
//! | `reader`, `values` | typed access to tables that notes each problem and goes on |
//! | `root` | the top of the file, and the order of everything |
//! | `identity_source`, `agent`, `proxy`, `paths`, `names`, `services`, `rules`, `taps` (with `sensor`) | one section of the file each |
//! | `authority` | the same for the file of the CA |
//! | `cross` | what only the whole file shows |
//! | `problem`, `codes`, `source`, `suggest`, `render` | what is wrong, where, what was meant, and how it looks |

mod agent;
mod authority;
mod codes;
mod cross;
mod identity_source;
mod load;
mod names;
mod paths;
mod problem;
mod proxy;
mod reader;
mod reference;
mod render;
mod root;
mod rules;
mod schema;
mod sensor;
mod services;
mod snapshot;
mod source;
mod suggest;
mod tap_settings;
mod taps;
mod values;

pub use authority::{ApiSettings, CaSettings, ClusterSettings, Lifetimes, RotationSettings, load_ca, parse_ca};
pub use codes::explain;
pub use problem::{Problem, Report, Severity};
pub use reference::{ca_reference, reference};
pub use snapshot::{
    AccessSink, AgentSettings, App, CaSource, Capture, Endpoint, ExpectedCa, IdentitySource, Listen, LogFormat,
    LogSettings, NamedIdentity, Protocol, ProxySettings, Service, Snapshot, Timeouts,
};
pub use tap_settings::{
    Extent, Redaction, Sample, Sensor, StatusPattern, TapDirection, TapHttp, TapKind, TapSelection, TapSettings,
    TapVerdict,
};

use std::path::Path;

/// Reads and checks the file at `path`, which is at most 1 MiB. Relative paths in it start at its folder.
///
/// # Errors
/// Every problem of the file at once.
pub fn load(path: &Path) -> Result<Snapshot, Report> {
    let text = load::read(path)?;
    parse(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new("")))
}

/// Checks a text; `name` stands in diagnostics, relative paths start at `base`.
///
/// # Errors
/// Every problem of the text at once.
pub fn parse(name: &str, text: &str, base: &Path) -> Result<Snapshot, Report> {
    root::parse(name, text, base)
}

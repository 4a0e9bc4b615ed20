//! The file of the CA: from its text to [`CaSettings`], or to every problem it has.
//!
//! Another file than the sidecar's, in the same manner: closed, every problem in one run, the reference page made from the
//! schema. Folders, keys and key sets are named here, not opened.

mod read;
mod schema;
mod settings;

pub use settings::{ApiSettings, CaSettings, ClusterSettings, Lifetimes, RotationSettings};

use crate::problem::Report;
use std::path::Path;

pub(crate) use schema::SECTIONS;

/// Reads and checks the file at `path`, which is at most 1 MiB. Relative paths in it start at its folder.
///
/// # Errors
/// Every problem of the file at once.
pub fn load_ca(path: &Path) -> Result<CaSettings, Report> {
    let text = crate::load::read(path)?;
    parse_ca(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new("")))
}

/// Checks a text; `name` stands in diagnostics, relative paths start at `base`.
///
/// # Errors
/// Every problem of the text at once.
pub fn parse_ca(name: &str, text: &str, base: &Path) -> Result<CaSettings, Report> {
    read::parse(name, text, base)
}

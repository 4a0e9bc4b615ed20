//! From a path to the text: one bounded read, then UTF-8.

use crate::problem::Report;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest file that is read. Ten thousand rules take about this much.
pub(crate) const LIMIT: u64 = 1024 * 1024;

/// The text of the file.
pub(crate) fn read(path: &Path) -> Result<String, Report> {
    let name = path.display().to_string();
    let bytes =
        read_bounded(path).map_err(|e| Report::unreadable(&name, format!("cannot read `{name}`: {e}"), None))?;
    if bytes.len() as u64 > LIMIT {
        let help = "split the workload, or use patterns instead of one rule per value";
        return Err(Report::unreadable(&name, "the file is larger than 1 MiB".into(), Some(help.into())));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1;
        Report::unreadable(&name, format!("line {line} is not UTF-8"), Some("save the file as UTF-8".into()))
    })
}

/// One byte more than the limit tells a file that is too long from one that just fits.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

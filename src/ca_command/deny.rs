//! `sekisho ca deny`: the emergency deny list of a CA's folder.

use super::Failed;
use crate::cli::{CaDeny, DenyStep, DenyWhat, Format};
use ca::denied::{DEFAULT_LIFE, Denied, DenyList};
use std::time::SystemTime;

/// Changes the list and prints it.
pub(super) fn deny(arguments: &CaDeny) -> Result<(), Failed> {
    let now = SystemTime::now();
    let list = match &arguments.step {
        DenyStep::List => DenyList::load(&arguments.dir)?,
        DenyStep::Add { what, reason, time } => {
            let denied = read(what)?;
            let until = now.checked_add(time.unwrap_or(DEFAULT_LIFE)).ok_or("--for: too long")?;
            DenyList::change(&arguments.dir, |list| list.add(denied, reason, until, now))?
        }
        DenyStep::Remove { what } => {
            let denied = read(what)?;
            DenyList::change(&arguments.dir, |list| list.remove(&denied, now))?
        }
    };
    let entries = list.entries(now);
    match arguments.format {
        Format::Human => {
            out!("version {}, {} denied", list.version(), entries.len());
            for entry in &entries {
                out!("  {}  until {}  {}", entry.denied, proxy::rfc3339(entry.until), entry.reason);
            }
        }
        Format::Json => {
            let entries = entries.iter().map(|entry| {
                serde_json::json!({
                    "kind": entry.denied.kind(),
                    "value": entry.denied.value(),
                    "reason": entry.reason,
                    "since": proxy::rfc3339(entry.since).to_string(),
                    "until": proxy::rfc3339(entry.until).to_string(),
                })
            });
            let entries: Vec<_> = entries.collect();
            out!("{}", serde_json::json!({ "schema": 1, "version": list.version(), "entries": entries }));
        }
    }
    Ok(())
}

fn read(what: &DenyWhat) -> Result<Denied, Failed> {
    let (kind, value) = what.kind_and_value();
    Denied::parse(kind, value).map_err(|error| Failed::Other(format!("--{kind}: {error}")))
}

//! `sekisho ca deny`: the emergency deny list of a CA's folder, through the server that runs on it or without one.

use super::running::{Book, Running};
use super::{Failed, passphrase};
use crate::cli::{CaDeny, DenyStep, DenyWhat, Format};
use ca::denied::{DEFAULT_LIFE, Denied, DenyList};
use ca::log::What;
use serde_json::json;
use std::time::SystemTime;

/// Changes the list and prints it.
pub(super) fn deny(arguments: &CaDeny) -> Result<(), Failed> {
    let now = SystemTime::now();
    let dir = &arguments.dir;
    match &arguments.step {
        DenyStep::List => {}
        DenyStep::Add { what, reason, time } => {
            let (denied, time) = (read(what)?, time.unwrap_or(DEFAULT_LIFE));
            let until = now.checked_add(time).ok_or("--for: too long")?;
            let (kind, value) = (denied.kind(), denied.value());
            let asked = json!({ "kind": kind, "value": value, "reason": reason, "seconds": time.as_secs() });
            match Running::on(dir)? {
                Some(server) => drop(server.ask("/deny/add", &asked)?),
                None => {
                    let book = book(arguments, now)?;
                    let name = denied.to_string();
                    DenyList::change(dir, |list| list.add(denied, reason, until, now))?;
                    book.record(What::Denied, &name, reason, None)?;
                }
            }
        }
        DenyStep::Remove { what } => {
            let denied = read(what)?;
            let asked = json!({ "kind": denied.kind(), "value": denied.value() });
            match Running::on(dir)? {
                Some(server) => drop(server.ask("/deny/remove", &asked)?),
                None => {
                    let book = book(arguments, now)?;
                    DenyList::change(dir, |list| list.remove(&denied, now))?;
                    book.record(What::DenialLifted, &denied.to_string(), "", None)?;
                }
            }
        }
    }
    print(&DenyList::load(dir)?, arguments.format, now);
    Ok(())
}

fn book(arguments: &CaDeny, now: SystemTime) -> Result<Book, Failed> {
    let passphrase = arguments.passphrase_file.as_deref().map(passphrase).transpose()?;
    Book::open(&arguments.dir, passphrase.as_deref(), now)
}

fn print(list: &DenyList, format: Format, now: SystemTime) {
    let entries = list.entries(now);
    match format {
        Format::Human => {
            out!("version {}, {} denied", list.version(), entries.len());
            for entry in &entries {
                out!("  {}  until {}  {}", entry.denied, proxy::rfc3339(entry.until), entry.reason);
            }
        }
        Format::Json => {
            let entries = entries.iter().map(|entry| {
                json!({
                    "kind": entry.denied.kind(),
                    "value": entry.denied.value(),
                    "reason": entry.reason,
                    "since": proxy::rfc3339(entry.since).to_string(),
                    "until": proxy::rfc3339(entry.until).to_string(),
                })
            });
            let entries: Vec<_> = entries.collect();
            out!("{}", json!({ "schema": 1, "version": list.version(), "entries": entries }));
        }
    }
}

fn read(what: &DenyWhat) -> Result<Denied, Failed> {
    let (kind, value) = what.kind_and_value();
    Denied::parse(kind, value).map_err(|error| Failed::Other(format!("--{kind}: {error}")))
}

//! `sekisho ca rotate` and `sekisho ca recover`: the roots over time. A step goes through the server that runs on the folder;
//! where none runs, and to recover, the folder is changed here.

use super::running::{Book, Running};
use super::{Failed, Opened};
use crate::cli::{CaRecover, CaRotate, Format, RotateStep};
use ca::{
    Recovery, Report, RotatingFolder,
    log::What,
    rotation::{Advice, Go, LastLeaf, Passed, RootId, Schedule},
};
use serde_json::json;
use std::{path::Path, time::SystemTime};

/// Takes one step and prints where the rotation stands then.
pub(super) fn rotate(arguments: &CaRotate) -> Result<(), Failed> {
    let now = SystemTime::now();
    let schedule = Schedule::default();
    if !matches!(arguments.step, RotateStep::Status) {
        match Running::on(&arguments.dir)? {
            Some(server) => drop(server.ask(&format!("/rotation/{}", path(arguments, &schedule, now)?), &json!({}))?),
            None => step(arguments, &schedule, now)?,
        }
    }
    print(&arguments.dir, arguments.format, &schedule, now)
}

/// The step in the server's words.
fn path(arguments: &CaRotate, schedule: &Schedule, now: SystemTime) -> Result<String, Failed> {
    Ok(match &arguments.step {
        // It is read from the folder.
        RotateStep::Status => return Err("status is no step".into()),
        RotateStep::Prepare => "prepare".to_owned(),
        RotateStep::Activate { unasked: false } => "activate".to_owned(),
        RotateStep::Activate { unasked: true } => "activate?override=true".to_owned(),
        RotateStep::Rollback => "rollback".to_owned(),
        RotateStep::Finish => "finish".to_owned(),
        RotateStep::Compromise { root, leave_in } => {
            let issuing = Report::read(&arguments.dir, |_| LastLeaf::Unknown, schedule, now)?.rotation.issuing();
            let root = compromised(root.as_deref(), issuing)?;
            format!("compromise?root={root}&leave_after={}", leave_in.as_secs())
        }
    })
}

fn compromised(named: Option<&str>, issuing: RootId) -> Result<RootId, Failed> {
    match named {
        None => Ok(issuing),
        Some(text) => RootId::parse(text).ok_or_else(|| format!("--root: `{text}` is no name of a root").into()),
    }
}

/// Takes a step on a folder without a server.
fn step(arguments: &CaRotate, schedule: &Schedule, now: SystemTime) -> Result<(), Failed> {
    let opened = Opened::from(&arguments.keys)?;
    let keys = opened.keys();
    let mut folder = RotatingFolder::open(&arguments.dir)?;
    let book = Book::open(&arguments.dir, opened.passphrase.as_deref(), now)?;
    // Without a server nobody counts leaves: what they can be at most is waited for.
    let unknown = |_| LastLeaf::Unknown;
    let issuing = |folder: &RotatingFolder| folder.rotation().issuing().to_string();
    let (what, subject, detail) = match &arguments.step {
        RotateStep::Status => return Ok(()),
        RotateStep::Prepare => {
            folder.prepare(keys, now)?;
            let next = folder.rotation().next().map(|root| root.to_string());
            (What::RotationPrepared, next.unwrap_or_default(), String::new())
        }
        RotateStep::Activate { unasked: false } => return Err(Failed::NotNow(NOBODY_ASKED.to_owned())),
        RotateStep::Activate { unasked: true } => {
            let go = Go::Override { left_out: Vec::new(), total: None };
            folder.activate(go, schedule.splay, keys, now)?;
            (What::RotationOverridden, issuing(&folder), "nobody asked".to_owned())
        }
        RotateStep::Rollback => {
            folder.rollback(unknown, schedule, keys, now)?;
            (What::RotationRolledBack, issuing(&folder), String::new())
        }
        RotateStep::Finish => {
            let before: Vec<String> = folder.rotation().retiring().map(|root| root.to_string()).collect();
            folder.finish(unknown, &[], schedule, now)?;
            (What::RotationFinished, before.join(" "), String::new())
        }
        RotateStep::Compromise { root, leave_in } => {
            let root = compromised(root.as_deref(), folder.rotation().issuing())?;
            let leave_by = now.checked_add(*leave_in).ok_or("--leave-in: too long")?;
            folder.compromise(root, leave_by, schedule.splay_compromised, keys, now)?;
            (What::RootCompromised, root.to_string(), format!("leaves in {} s at the latest", leave_in.as_secs()))
        }
    };
    book.record(what, &subject, &detail, Some(folder.rotation().sequence()))
}

/// Prints what has expired and what to do; with `--apply` does it.
pub(super) fn recover(arguments: &CaRecover) -> Result<(), Failed> {
    let now = SystemTime::now();
    let schedule = Schedule::default();
    let report = Report::read(&arguments.dir, |_| LastLeaf::Unknown, &schedule, now)?;
    let ends = |root| report.roots.iter().find(|(id, ..)| *id == root).map(|(.., end)| *end);
    let expired = ends(report.rotation.issuing()).is_none_or(|end| end < now);
    for (root, _, end) in &report.roots {
        let word = if *end < now { "expired at" } else { "valid until" };
        out!("root {root} {word} {}", proxy::rfc3339(*end));
    }
    if !arguments.apply {
        out!("{}", if expired { PLAN } else { NOTHING_EXPIRED });
        return Ok(());
    }
    let opened = Opened::from(&arguments.keys)?;
    let mut folder = RotatingFolder::open(&arguments.dir)?;
    let book = Book::open(&arguments.dir, opened.passphrase.as_deref(), now)?;
    let before = folder.rotation().sequence();
    if let Some(known) = arguments.sequence_above {
        folder.resume_above(known, now)?;
        out!("the bundle's sequence is {} now", folder.rotation().sequence());
    }
    for step in folder.recover(&schedule, opened.keys(), now)? {
        match step {
            Recovery::DroppedNext => out!("the prepared root had expired as well and is out of the bundle"),
            Recovery::RolledBack(root) => out!("root {root} is still valid and issues again"),
            Recovery::Founded(root) => out!("root {root} is founded"),
            Recovery::Activated(root) => out!("root {root} issues"),
            Recovery::Finished => out!("expired roots are out of the bundle"),
        }
    }
    let (sequence, issuing) = (folder.rotation().sequence(), folder.rotation().issuing().to_string());
    if sequence != before {
        book.record(What::Recovery, &issuing, &format!("bundle {before} to {sequence}"), Some(sequence))?;
    }
    out!("{}", if expired { AFTERWARDS } else { NOTHING_EXPIRED });
    Ok(())
}

fn print(dir: &Path, format: Format, schedule: &Schedule, now: SystemTime) -> Result<(), Failed> {
    let report = Report::read(dir, |_| LastLeaf::Unknown, schedule, now)?;
    match format {
        Format::Human => human(&report),
        Format::Json => out!("{}", document(&report)),
    }
    Ok(())
}

fn human(report: &Report) {
    let rotation = &report.rotation;
    out!("{}: {}, bundle sequence {}", report.trust_domain, rotation.phase().word(), rotation.sequence());
    for (root, _, end) in &report.roots {
        out!("  root {root}  {:8}  until {}", role(report, *root), proxy::rfc3339(*end));
    }
    if let Some(Passed::Override { left_out, .. }) = rotation.passed() {
        out!("  activated by override{}", if left_out.is_empty() { ", with nobody asked" } else { "" });
        left_out.iter().for_each(|name| out!("    left out: {name}"));
    }
    for advice in &report.advice {
        out!("  {}", sentence(advice));
    }
}

fn sentence(advice: &Advice) -> String {
    match advice {
        Advice::Expired(root) => format!("root {root} HAS EXPIRED: see `sekisho ca recover`"),
        Advice::ExpiresSoon { root, at } => format!("root {root} expires soon: {}", proxy::rfc3339(*at)),
        Advice::Prepare => "time to rotate: `prepare`".to_owned(),
        Advice::AwaitGate { root, since } => {
            format!("root {root} is in the bundle since {}; when everybody has it: `activate`", proxy::rfc3339(*since))
        }
        Advice::Leaves { root, until } => {
            format!("root {root} stays until its certificates have ended, at most {}", proxy::rfc3339(*until))
        }
        Advice::Finish(root) => format!("root {root} can leave the bundle: `finish`"),
    }
}

fn document(report: &Report) -> serde_json::Value {
    let rotation = &report.rotation;
    let time = |time: SystemTime| proxy::rfc3339(time).to_string();
    let roots = report.roots.iter().map(|(root, begin, end)| {
        json!({
            "id": root.to_string(),
            "role": role(report, *root),
            "not_before": time(*begin),
            "not_after": time(*end),
            "compromised_leaves_by": rotation.leaves_by(*root).map(time),
        })
    });
    let passed = rotation.passed().map(|passed| match passed {
        Passed::Gate => json!({ "by": "gate" }),
        Passed::Compromise => json!({ "by": "compromise" }),
        Passed::Override { left_out, total } => {
            json!({ "by": "override", "left_out": left_out, "left_out_total": total })
        }
    });
    let advice = report.advice.iter().map(|advice| {
        let (what, root, at) = match advice {
            Advice::Expired(root) => ("expired", Some(root), None),
            Advice::ExpiresSoon { root, at } => ("expires_soon", Some(root), Some(*at)),
            Advice::Prepare => ("prepare", None, None),
            Advice::AwaitGate { root, since } => ("await_gate", Some(root), Some(*since)),
            Advice::Leaves { root, until } => ("await_leaves", Some(root), Some(*until)),
            Advice::Finish(root) => ("finish", Some(root), None),
        };
        json!({ "what": what, "root": root.map(ToString::to_string), "time": at.map(time) })
    });
    json!({
        "schema": 1,
        "trust_domain": report.trust_domain.as_str(),
        "phase": rotation.phase().word(),
        "sequence": rotation.sequence(),
        "published": time(rotation.published()),
        "issuing": rotation.issuing().to_string(),
        "roots": roots.collect::<Vec<_>>(),
        "renew": rotation.renew().map(|renew| {
            json!({ "since": time(renew.since()), "splay_seconds": renew.splay().as_secs() })
        }),
        "passed": passed,
        "advice": advice.collect::<Vec<_>>(),
    })
}

fn role(report: &Report, root: RootId) -> &'static str {
    if root == report.rotation.issuing() {
        "issuing"
    } else if Some(root) == report.rotation.next() {
        "next"
    } else {
        "retiring"
    }
}

const NOBODY_ASKED: &str = "without a server nobody has acknowledged the new bundle. Let the server activate, or distribute the \
bundle yourself and say --override: who does not have it refuses certificates of the new root";

const NOTHING_EXPIRED: &str = "The root that issues is valid. Sidecars whose certificates have ended get new ones by their token or \
a join token.";

const PLAN: &str = "The root that issues has expired, and with it every certificate of it. With --apply another root issues: the \
prepared one, the one before, or a new one. Then sidecars need the new bundle by another way than from this CA, since they \
cannot verify it any more, and new certificates.";

const AFTERWARDS: &str = "Now distribute the bundle to every sidecar by the way its first one came (roots.pem, a ConfigMap), start the \
server, and let sidecars attest again; see docs/ca-rotation.md.";

//! `sekisho ca rotate` and `sekisho ca recover`: the roots over time, on a folder on which no server runs.

use super::{Failed, Opened};
use crate::cli::{CaRecover, CaRotate, Format, RotateStep};
use ca::{
    Recovery, Report, RotatingFolder,
    rotation::{Advice, Go, LastLeaf, Passed, RootId, Schedule},
};
use std::{path::Path, time::SystemTime};

/// Takes one step and prints where the rotation stands then.
pub(super) fn rotate(arguments: &CaRotate) -> Result<(), Failed> {
    let now = SystemTime::now();
    let schedule = Schedule::default();
    if !matches!(arguments.step, RotateStep::Status) {
        let opened = Opened::from(&arguments.keys)?;
        let keys = opened.keys();
        let mut folder = RotatingFolder::open(&arguments.dir)?;
        // Without a server nobody counts leaves: what they can be at most is waited for.
        let unknown = |_| LastLeaf::Unknown;
        match &arguments.step {
            RotateStep::Status => {}
            RotateStep::Prepare => folder.prepare(keys, now)?,
            RotateStep::Activate { unasked: false } => return Err(Failed::NotNow(NOBODY_ASKED.to_owned())),
            RotateStep::Activate { unasked: true } => {
                let go = Go::Override { left_out: Vec::new(), total: None };
                folder.activate(go, schedule.splay, keys, now)?;
            }
            RotateStep::Rollback => folder.rollback(unknown, &schedule, keys, now)?,
            RotateStep::Finish => folder.finish(unknown, &[], &schedule, now)?,
            RotateStep::Compromise { root, leave_in } => {
                let root = match root {
                    None => folder.rotation().issuing(),
                    Some(text) => {
                        RootId::parse(text).ok_or_else(|| format!("--root: `{text}` is no name of a root"))?
                    }
                };
                let leave_by = now.checked_add(*leave_in).ok_or("--leave-in: too long")?;
                folder.compromise(root, leave_by, schedule.splay_compromised, keys, now)?;
            }
        }
    }
    print(&arguments.dir, arguments.format, &schedule, now)
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
    out!("{}", if expired { AFTERWARDS } else { NOTHING_EXPIRED });
    Ok(())
}

fn print(dir: &Path, format: Format, schedule: &Schedule, now: SystemTime) -> Result<(), Failed> {
    let report = Report::read(dir, |_| LastLeaf::Unknown, schedule, now)?;
    match format {
        Format::Human => human(&report),
        Format::Json => out!("{}", json(&report)),
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

fn json(report: &Report) -> serde_json::Value {
    let rotation = &report.rotation;
    let time = |time: SystemTime| proxy::rfc3339(time).to_string();
    let roots = report.roots.iter().map(|(root, begin, end)| {
        serde_json::json!({
            "id": root.to_string(),
            "role": role(report, *root),
            "not_before": time(*begin),
            "not_after": time(*end),
            "compromised_leaves_by": rotation.leaves_by(*root).map(time),
        })
    });
    let passed = rotation.passed().map(|passed| match passed {
        Passed::Gate => serde_json::json!({ "by": "gate" }),
        Passed::Compromise => serde_json::json!({ "by": "compromise" }),
        Passed::Override { left_out, total } => {
            serde_json::json!({ "by": "override", "left_out": left_out, "left_out_total": total })
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
        serde_json::json!({ "what": what, "root": root.map(ToString::to_string), "time": at.map(time) })
    });
    serde_json::json!({
        "schema": 1,
        "trust_domain": report.trust_domain.as_str(),
        "phase": rotation.phase().word(),
        "sequence": rotation.sequence(),
        "published": time(rotation.published()),
        "issuing": rotation.issuing().to_string(),
        "roots": roots.collect::<Vec<_>>(),
        "renew": rotation.renew().map(|renew| {
            serde_json::json!({ "since": time(renew.since()), "splay_seconds": renew.splay().as_secs() })
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

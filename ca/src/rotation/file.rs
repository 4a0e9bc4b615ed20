//! The state as text: `state.json`.
//!
//! A closed schema: unknown keys, a missing key, a key twice, times beyond the calendar and states that the
//! machine cannot reach are refused, so that what was read is what was written. Times are seconds since 1970.

use serde::{Deserialize, Serialize};

use super::{LATEST, MAX_NAMED, MAX_RETIRING, Passed, Phase, Renew, Retiring, Root, RootId, Rotation};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    phase: String,
    sequence: u64,
    published: u64,
    issuing: FileRoot,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<FileRoot>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retiring: Vec<FileRoot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renew: Option<FileRenew>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passed: Option<FilePassed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRoot {
    id: String,
    not_after: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leave_by: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRenew {
    since: u64,
    splay: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePassed {
    by: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out_total: Option<u64>,
}

impl Rotation {
    /// The state as one JSON object, pretty enough to read in an incident.
    pub fn to_json(&self) -> String {
        let file = File {
            schema: SCHEMA,
            phase: self.phase().word().to_owned(),
            sequence: self.sequence,
            published: self.published,
            issuing: write_root(&self.issuing, None),
            next: self.next.as_ref().map(|root| write_root(root, None)),
            retiring: self.retiring.iter().map(|retiring| write_root(&retiring.root, retiring.leave_by)).collect(),
            renew: self.renew.map(|renew| FileRenew { since: renew.since, splay: renew.splay }),
            passed: self.passed.as_ref().map(write_passed),
        };
        // Strings, numbers and lists of them: there is nothing that could fail.
        serde_json::to_string_pretty(&file).unwrap_or_default()
    }

    /// Reads what [`to_json`](Self::to_json) wrote. The error continues a sentence that begins with the file.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text).map_err(|error| format!("is not a state: {error}"))?;
        if file.schema != SCHEMA {
            return Err(format!("was written by another version (`schema` {})", file.schema));
        }
        let phase = file.phase.clone();
        let state = read(file).ok_or("holds a state that no step leads to")?;
        if state.phase().word() != phase {
            return Err(format!("says {phase:?}, but its roots say {:?}", state.phase().word()));
        }
        Ok(state)
    }
}

fn write_root(root: &Root, leave_by: Option<u64>) -> FileRoot {
    FileRoot { id: root.id.to_string(), not_after: root.not_after, stopped: root.stopped, leave_by }
}

fn write_passed(passed: &Passed) -> FilePassed {
    let (by, left_out, left_out_total) = match passed {
        Passed::Gate => (GATE, Vec::new(), None),
        Passed::Compromise => (COMPROMISE, Vec::new(), None),
        Passed::Override { left_out, total } => (OVERRIDE, left_out.clone(), *total),
    };
    FilePassed { by: by.to_owned(), left_out, left_out_total }
}

/// `None` for what the machine cannot have written.
fn read(file: File) -> Option<Rotation> {
    let issuing = read_root(&file.issuing)?;
    if issuing.stopped.is_some() || file.issuing.leave_by.is_some() {
        return None;
    }
    let next = match &file.next {
        None => None,
        Some(root) if root.leave_by.is_none() => Some(read_root(root)?),
        Some(_) => return None,
    };
    let mut retiring = Vec::new();
    for root in &file.retiring {
        let leave_by = root.leave_by;
        let root = read_root(root)?;
        root.stopped?;
        retiring.push(Retiring { root, leave_by });
    }
    let renew = file.renew.map(|renew| Renew { since: renew.since, splay: renew.splay });
    let passed = match file.passed {
        None => None,
        Some(passed) => Some(read_passed(passed)?),
    };
    let state = Rotation { sequence: file.sequence, published: file.published, issuing, next, retiring, renew, passed };
    let bundle = state.bundle();
    let mut distinct = bundle.clone();
    distinct.sort();
    distinct.dedup();
    let times = std::iter::once(state.published).chain(state.renew.map(|renew| renew.since));
    let holds = state.sequence > 0
        && distinct.len() == bundle.len()
        && (state.next.is_none() || state.retiring.is_empty())
        && state.retiring.len() <= MAX_RETIRING
        && (state.phase() == Phase::Activated) == state.passed.is_some()
        && (state.phase() != Phase::Steady || state.renew.is_none())
        && times.into_iter().all(|time| time <= LATEST);
    holds.then_some(state)
}

fn read_root(root: &FileRoot) -> Option<Root> {
    let times = [Some(root.not_after), root.stopped, root.leave_by];
    if times.into_iter().flatten().any(|time| time > LATEST) {
        return None;
    }
    Some(Root { id: RootId::parse(&root.id)?, not_after: root.not_after, stopped: root.stopped })
}

fn read_passed(passed: FilePassed) -> Option<Passed> {
    let bare = passed.left_out.is_empty() && passed.left_out_total.is_none();
    match passed.by.as_str() {
        GATE if bare => Some(Passed::Gate),
        COMPROMISE if bare => Some(Passed::Compromise),
        OVERRIDE if passed.left_out.len() <= MAX_NAMED => {
            Some(Passed::Override { left_out: passed.left_out, total: passed.left_out_total })
        }
        _ => None,
    }
}

const SCHEMA: u32 = 1;
const GATE: &str = "gate";
const OVERRIDE: &str = "override";
const COMPROMISE: &str = "compromise";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::rotation::{Go, NewRoot, at};
    use std::time::Duration;

    fn activated() -> Rotation {
        let root = |number: u8| NewRoot { id: RootId::of_key(&[number]), not_after: at(9_000_000) };
        let go = Go::Override { left_out: vec!["spiffe://example.org/x".into()], total: Some(1) };
        let state = Rotation::founded(root(1), at(5)).prepare(root(2), at(6)).unwrap();
        state.activate(go, Duration::from_secs(30), at(7)).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let state = activated();
        assert_eq!(Rotation::from_json(state.to_json().as_bytes()).unwrap(), state);
    }

    #[test]
    fn the_schema_is_closed() {
        let good = activated().to_json();
        let refused = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} is not in {good}");
            let text = good.replacen(from, to, 1);
            Rotation::from_json(text.as_bytes()).unwrap_err()
        };
        assert!(refused("\"schema\": 1", "\"schema\": 2").contains("another version"));
        assert!(refused("\"sequence\": 3", "\"sequence\": 3, \"x\": 0").contains("unknown field"));
        assert!(refused("\"sequence\": 3", "\"sequence\": 3, \"sequence\": 3").contains("duplicate field"));
        assert!(refused("\"sequence\": 3", "\"sequence\": -3").contains("is not a state"));
        assert!(refused("\"sequence\": 3", "\"sequence\": 3.0").contains("is not a state"));
        assert!(refused("\"sequence\": 3,", "").contains("missing field"));
        assert!(refused("activated", "steady").contains("its roots say"));
        assert!(refused("\"sequence\": 3", "\"sequence\": 0").contains("no step"));
        assert!(refused("\"not_after\": 9000000", "\"not_after\": 253402300800").contains("no step"));
        assert!(refused("\"by\": \"override\"", "\"by\": \"magic\"").contains("no step"));
        assert!(refused("\"by\": \"override\"", "\"by\": \"gate\"").contains("no step"));
        let (a, b) = (RootId::of_key(&[1]).to_string(), RootId::of_key(&[2]).to_string());
        assert!(refused(&a, &b).contains("no step"), "one root twice");
        assert!(refused(&a, &a.to_uppercase()).contains("no step"));
        for end in 0..good.len() {
            assert!(Rotation::from_json(&good.as_bytes()[..end]).is_err());
        }
    }
}

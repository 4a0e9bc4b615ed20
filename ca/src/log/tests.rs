//! The log as a whole: whatever is done to it is found, whatever the disk does nothing promised is lost.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use identity::TrustDomain;
use tempfile::TempDir;

use super::disk::Disk;
use super::ledger::Ledger;
use super::record::tests::examples;
use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A segment of two or three records.
const SMALL: u64 = 1000;

fn settings() -> Settings {
    Settings { segment_size: SMALL, ..Settings::default() }
}

/// A folder in memory where there is one: these tests write tens of thousands of files, and flush.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A new log in a folder of its own.
fn begin() -> TempDir {
    let dir = scratch();
    create(dir.path(), &TrustDomain::parse("example.org").unwrap(), None, now()).unwrap();
    dir
}

fn open(dir: &Path) -> Result<(Log, Opened), LogError> {
    Log::open(dir, LogKey::load(dir, None)?, now(), settings())
}

/// A log with some records in some segments.
fn filled() -> TempDir {
    let dir = begin();
    let (log, _) = open(dir.path()).unwrap();
    for event in examples().into_iter().take(8) {
        log.append_and_wait(now(), event).unwrap();
    }
    drop(log);
    dir
}

fn check(dir: &Path) -> Result<Verified, LogError> {
    verify(dir, &Known::default(), &mut |_, _| {})
}

/// What is wrong; panics when nothing is.
fn found(dir: &Path) -> Finding {
    match check(dir) {
        Err(LogError::Found(finding)) => finding,
        other => panic!("not found: {other:?}"),
    }
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join("log").join(name)
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    file(dir, &folder::segment_name(number))
}

/// The bytes of a folder's files.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn restore(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    fs::remove_dir_all(dir.join("log")).unwrap();
    fs::create_dir(dir.join("log")).unwrap();
    for (name, bytes) in files {
        let path = file(dir, name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// All lines of all segments.
fn lines(dir: &Path) -> Vec<Vec<u8>> {
    let files = contents(dir);
    let segments = files.iter().filter(|(name, _)| name.ends_with(".jsonl"));
    let lines = segments.flat_map(|(_, bytes)| bytes.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n'));
    lines.map(<[u8]>::to_vec).collect()
}

#[test]
fn a_log_that_nobody_touched_is_whole() {
    let dir = filled();
    let mut reports = Vec::new();
    let verified = verify(dir.path(), &Known::default(), &mut |done, all| reports.push((done, all))).unwrap();
    let lines = lines(dir.path());
    assert_eq!(verified.records, lines.len() as u64);
    assert!(verified.segments >= 3, "{verified:?}");
    assert_eq!(verified.head.hash, Hash::of(lines.last().unwrap()));
    assert_eq!((verified.first, verified.open), (Stamp::of(now()), false));
    let (done, all) = *reports.last().unwrap();
    assert_eq!(done, all);
    // It goes on after it was closed.
    let (log, opened) = open(dir.path()).unwrap();
    assert_eq!((opened.seq, opened.cut), (verified.records, 0));
    let receipt = log.append_and_wait(now(), examples().pop().unwrap()).unwrap();
    assert_eq!(log.head().seq, receipt.seq);
    log.close();
    assert_eq!(check(dir.path()).unwrap().head.hash, receipt.hash);
}

#[test]
fn any_changed_byte_of_the_log_is_found() {
    let dir = filled();
    let files = contents(dir.path());
    let mut tried = 0;
    for (name, bytes) in files.iter().filter(|(name, _)| !matches!(name.as_str(), "log.key" | "lock")) {
        let path = file(dir.path(), name);
        for at in 0..bytes.len() {
            for changed in [bytes[at] ^ 1, bytes[at] ^ 0x20, b' ', b'\n'] {
                if changed == bytes[at] {
                    continue;
                }
                let mut bad = bytes.clone();
                bad[at] = changed;
                fs::write(&path, &bad).unwrap();
                let finding = found(dir.path());
                // A line is found itself, or by the one behind it; the very last one by the head.
                if let Some(line) = finding.line {
                    let of_byte = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
                    let next = (1, finding.file != *name);
                    assert!(
                        (of_byte..=of_byte + 1).contains(&line) || (line, finding.file != *name) == next,
                        "{finding}"
                    );
                }
                tried += 1;
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(tried > 20_000, "{tried}");
    check(dir.path()).unwrap();
}

#[test]
fn a_byte_more_or_less_is_found() {
    let dir = filled();
    let files = contents(dir.path());
    for (name, bytes) in files.iter().filter(|(name, _)| !matches!(name.as_str(), "log.key" | "lock")) {
        let path = file(dir.path(), name);
        for at in (0..bytes.len()).step_by(3).chain([bytes.len() - 1]) {
            let mut less = bytes.clone();
            less.remove(at);
            fs::write(&path, &less).unwrap();
            found(dir.path());
            let mut more = bytes.clone();
            more.insert(at, b' ');
            fs::write(&path, &more).unwrap();
            found(dir.path());
        }
        for more in [&b"\n"[..], b" ", b"{}", b"\0"] {
            fs::write(&path, [bytes, more].concat()).unwrap();
            found(dir.path());
        }
        fs::write(&path, bytes).unwrap();
    }
    check(dir.path()).unwrap();
}

#[test]
fn a_record_that_is_gone_repeated_moved_or_added_is_found_where_it_is() {
    let dir = begin();
    let (log, _) = Log::open(dir.path(), LogKey::load(dir.path(), None).unwrap(), now(), Settings::default()).unwrap();
    for event in examples() {
        log.append_and_wait(now(), event).unwrap();
    }
    drop(log);
    let good = lines(dir.path());
    let path = segment(dir.path(), 1);
    let write = |lines: &[Vec<u8>]| fs::write(&path, [lines.join(&b'\n'), b"\n".to_vec()].concat()).unwrap();
    for at in 0..good.len() {
        let line = at as u64 + 1;
        let mut gone = good.clone();
        gone.remove(at);
        write(&gone);
        let finding = found(dir.path());
        if at + 1 == good.len() {
            let flaw = Flaw::Truncated { ends: line - 1, head: line };
            assert_eq!((finding.seq, finding.flaw), (Some(line), flaw));
        } else {
            assert_eq!((finding.line, finding.flaw), (Some(line), Flaw::Sequence { expected: line }));
        }

        let mut repeated = good.clone();
        repeated.insert(at, good[at].clone());
        write(&repeated);
        let finding = found(dir.path());
        assert_eq!((finding.line, finding.flaw), (Some(line + 1), Flaw::Sequence { expected: line + 1 }));

        if at > 0 {
            let mut moved = good.clone();
            moved.swap(at - 1, at);
            write(&moved);
            assert_eq!(found(dir.path()).line, Some(line - 1));
        }

        // One that fits its place and is not what stood there.
        let mut forged = good.clone();
        let mut record = Record::read(&good[at]).unwrap();
        record.event = Event::Recovered { cut_bytes: 1, cut_hash: Hash::ZERO };
        forged[at].clear();
        record.write(&mut forged[at]);
        write(&forged);
        let finding = found(dir.path());
        let expected = match at {
            0 => (Some(1), Flaw::Beginning { segment: 1 }),
            _ if at + 1 == good.len() => (Some(line), Flaw::HeadDiffers),
            _ => (Some(line + 1), Flaw::Link),
        };
        assert_eq!((finding.line, finding.flaw), expected, "{at}");
    }
    // One more at the end, chained as it should be.
    let mut chain = chain::Chain::empty();
    let (mut scratch, mut more) = (Vec::new(), Vec::new());
    for line in &good {
        chain.follow(line, &mut scratch).unwrap();
    }
    chain.append(Stamp::of(now()), &examples()[0], &mut more);
    write(&good);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&more).unwrap();
    let finding = found(dir.path());
    let head = good.len() as u64;
    assert_eq!((finding.line, finding.flaw), (Some(head + 1), Flaw::Unsigned { head }));
}

/// All of a chain can be written anew by who has no key; then the head does not fit.
#[test]
fn a_log_that_was_written_anew_does_not_fit_its_head() {
    let dir = filled();
    let good = lines(dir.path());
    let mut chain = chain::Chain::empty();
    let mut anew = Vec::new();
    let records: Vec<Record> = good.iter().map(|line| Record::read(line).unwrap()).collect();
    for record in records.iter().filter(|record| !matches!(record.event, Event::Segment { .. } | Event::Issued(_))) {
        chain.append(record.time, &record.event, &mut anew);
    }
    for number in 2..=folder::last_segment(&dir.path().join("log")).unwrap() {
        fs::remove_file(segment(dir.path(), number)).unwrap();
    }
    fs::write(segment(dir.path(), 1), &anew).unwrap();
    assert!(matches!(found(dir.path()).flaw, Flaw::SegmentMissing | Flaw::Truncated { .. }));
}

#[test]
fn every_cut_through_a_segment_is_found() {
    let dir = filled();
    let last = folder::last_segment(&dir.path().join("log")).unwrap();
    for number in 1..=last {
        let path = segment(dir.path(), number);
        let bytes = fs::read(&path).unwrap();
        for length in (0..bytes.len()).rev().step_by(7).chain((0..bytes.len()).filter(|at| bytes[*at] == b'\n')) {
            fs::write(&path, &bytes[..length]).unwrap();
            found(dir.path());
            // The writer does not go on from it either: that is not what a crash leaves.
            if number == last {
                assert!(matches!(open(dir.path()), Err(LogError::Found(_))), "{length}");
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn segments_that_are_gone_exchanged_or_added_are_found() {
    let dir = filled();
    let files = contents(dir.path());
    let last = folder::last_segment(&dir.path().join("log")).unwrap();
    let name = folder::segment_name;
    for number in 1..=last {
        fs::remove_file(segment(dir.path(), number)).unwrap();
        let finding = found(dir.path());
        assert_eq!((finding.file, finding.flaw), (name(number), Flaw::SegmentMissing));
        restore(dir.path(), &files);

        for other in 1..number {
            fs::write(segment(dir.path(), number), &files[&name(other)]).unwrap();
            fs::write(segment(dir.path(), other), &files[&name(number)]).unwrap();
            let finding = found(dir.path());
            assert_eq!(finding.file, name(other));
            fs::write(segment(dir.path(), other), &files[&name(other)]).unwrap();
            assert_eq!(found(dir.path()).file, name(number), "a copy of {other}");
            restore(dir.path(), &files);
        }

        fs::write(segment(dir.path(), last + 1), &files[&name(number)]).unwrap();
        assert_eq!(found(dir.path()).file, name(last + 1));
        restore(dir.path(), &files);
    }
    for (strange, flaw) in [
        (name(last + 1), Flaw::Empty),
        (name(last + 2), Flaw::SegmentMissing),
        ("1.jsonl".to_owned(), Flaw::SegmentName),
        (name(0), Flaw::SegmentName),
        ("x.jsonl".to_owned(), Flaw::SegmentName),
    ] {
        fs::write(file(dir.path(), &strange), "").unwrap();
        assert_eq!(found(dir.path()).flaw, flaw, "{strange}");
        restore(dir.path(), &files);
    }
    check(dir.path()).unwrap();
}

#[test]
fn heads_of_another_time_or_log_are_found() {
    let dir = filled();
    let old = contents(dir.path());
    let (log, _) = open(dir.path()).unwrap();
    let kept = log.head();
    let receipt = log.append_and_wait(now(), examples().pop().unwrap()).unwrap();
    drop(log);
    let new = contents(dir.path());

    fs::remove_file(file(dir.path(), "head.json")).unwrap();
    assert_eq!(found(dir.path()).flaw, Flaw::HeadMissing);
    fs::write(file(dir.path(), "head.json"), &old["head.json"]).unwrap();
    assert_eq!(found(dir.path()).flaw, Flaw::Unsigned { head: kept.seq });
    let other = filled();
    fs::copy(file(other.path(), "head.json"), file(dir.path(), "head.json")).unwrap();
    assert!(matches!(found(dir.path()).flaw, Flaw::HeadKey { .. }));
    fs::copy(file(other.path(), "log.pub"), file(dir.path(), "log.pub")).unwrap();
    assert_eq!(found(dir.path()).flaw, Flaw::KeyOther);

    // A whole older folder: nothing in it is wrong. What is known from elsewhere shows it.
    restore(dir.path(), &old);
    check(dir.path()).unwrap();
    let newer = Head::read(&new["head.json"]).unwrap();
    let too_short = Err(Flaw::TooShort { ends: kept.seq });
    let against = |known: Known| match verify(dir.path(), &known, &mut |_, _| {}) {
        Ok(_) => Ok(()),
        Err(LogError::Found(finding)) => Err(finding.flaw),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(against(Known { head: Some(newer.clone()), ..Known::default() }), too_short);
    assert_eq!(against(Known { record: Some((receipt.seq, receipt.hash)), ..Known::default() }), too_short);
    assert_eq!(against(Known { head: Some(kept.clone()), ..Known::default() }), Ok(()));
    assert_eq!(against(Known { record: Some((kept.seq, kept.hash)), ..Known::default() }), Ok(()));
    assert_eq!(against(Known { record: Some((1, kept.hash)), ..Known::default() }), Err(Flaw::Unexpected));
    assert_eq!(against(Known { key: Some(kept.key), ..Known::default() }), Ok(()));

    // A log made anew, with a key of its own.
    restore(dir.path(), &contents(other.path()));
    check(dir.path()).unwrap();
    let key = Head::read(&contents(other.path())["head.json"]).unwrap().key;
    assert_eq!(against(Known { key: Some(kept.key), ..Known::default() }), Err(Flaw::KeyUnexpected { key }));
    assert_eq!(against(Known { head: Some(kept), ..Known::default() }), Err(Flaw::HeadKey { key }));
}

#[test]
fn what_a_crash_left_behind_the_head_is_cut_and_told() {
    let dir = filled();
    let files = contents(dir.path());
    let head = check(dir.path()).unwrap().head;
    let good = fs::read(segment(dir.path(), head.segment)).unwrap();
    let whole_line = lines(dir.path()).pop().unwrap();
    for tail in [&whole_line[..20], &[whole_line.as_slice(), b"\n"].concat(), &[0; 4096], b"\n"] {
        fs::write(segment(dir.path(), head.segment), [&good, tail].concat()).unwrap();
        found(dir.path());
        let (log, opened) = open(dir.path()).unwrap();
        assert_eq!((opened.seq, opened.cut), (head.seq, tail.len() as u64));
        drop(log);
        check(dir.path()).unwrap();
        let records: Vec<Record> = lines(dir.path()).iter().map(|line| Record::read(line).unwrap()).collect();
        let cut = Event::Recovered { cut_bytes: tail.len() as u64, cut_hash: Hash::of(tail) };
        assert_eq!(records.last().unwrap().event, cut);
        restore(dir.path(), &files);
    }
    // The next segment had been begun.
    fs::write(segment(dir.path(), head.segment + 1), "{\"seq\"").unwrap();
    assert_eq!(open(dir.path()).unwrap().1.cut, 6);
    check(dir.path()).unwrap();
    restore(dir.path(), &files);
    // More than a crash leaves.
    fs::write(segment(dir.path(), head.segment), [good, vec![b'x'; 9 << 20]].concat()).unwrap();
    assert!(matches!(open(dir.path()), Err(LogError::Tail { .. })));
    restore(dir.path(), &files);
    fs::write(segment(dir.path(), head.segment + 1), "").unwrap();
    fs::write(segment(dir.path(), head.segment + 2), "").unwrap();
    assert!(matches!(open(dir.path()), Err(LogError::Found(_))));
}

/// The calls of three groups that cross into a new segment.
const GROUPS: usize = 3;

fn group(number: usize) -> Vec<(Stamp, Event)> {
    examples().into_iter().skip(number * 2).take(2).map(|event| (Stamp::of(now()), event)).collect()
}

fn ledger(dir: &Path) -> Ledger {
    let disk = Disk::new(dir.join("log"));
    Ledger::on(disk, LogKey::load(dir, None).unwrap(), now(), settings()).unwrap().0
}

/// The hashes of what was promised stand in the log, in order; returns how many lines the log has.
fn holds(dir: &Path, promised: &[Receipt]) -> usize {
    check(dir).unwrap();
    let lines = lines(dir);
    for receipt in promised {
        assert_eq!(Hash::of(&lines[receipt.seq as usize - 1]), receipt.hash);
    }
    lines
        .iter()
        .filter(|line| {
            !matches!(
                Record::read(line).unwrap().event,
                Event::Begun { .. } | Event::Segment { .. } | Event::Recovered { .. }
            )
        })
        .count()
}

fn calls_of_all_groups() -> u64 {
    let dir = begin();
    let mut ledger = ledger(dir.path());
    ledger.disk.faults.fail(0..0, 0);
    for number in 0..GROUPS {
        ledger.commit(&group(number)).unwrap();
    }
    assert!(ledger.head().segment > 1, "no new segment was begun");
    ledger.disk.faults.calls()
}

#[test]
fn a_failing_disk_loses_nothing_promised_and_keeps_nothing_refused() {
    let calls = calls_of_all_groups();
    assert!(calls > 5 * GROUPS as u64, "{calls}");
    for first in 0..calls {
        for (count, share) in [(1, 0), (1, 500), (1, 1000), (2, 300), (3, 999), (4, 500), (7, 500)] {
            let dir = begin();
            let mut ledger = ledger(dir.path());
            ledger.disk.faults.fail(first..first + count, share);
            let (mut promised, mut refused) = (Vec::new(), 0);
            for number in 0..GROUPS + 3 {
                match ledger.commit(&group(number % GROUPS)) {
                    Ok(receipts) => promised.extend(receipts),
                    Err(error) => {
                        assert!(matches!(error, LogError::Io { .. }));
                        refused += 1;
                    }
                }
            }
            assert!(refused > 0, "call {first}");
            ledger.disk.faults.fail(0..0, 0);
            promised.extend(ledger.commit(&group(0)).unwrap());
            drop(ledger);
            assert_eq!(holds(dir.path(), &promised), promised.len(), "call {first}, {count} failing");
        }
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing_promised() {
    let calls = calls_of_all_groups();
    for first in 0..calls {
        for share in [0, 1, 500, 999, 1000] {
            let dir = begin();
            let mut dying = ledger(dir.path());
            dying.disk.faults.fail(first..u64::MAX, share);
            let promised: Vec<Receipt> =
                (0..GROUPS).flat_map(|number| dying.commit(&group(number)).unwrap_or_default()).collect();
            drop(dying);
            let mut ledger = ledger(dir.path());
            let present = holds(dir.path(), &promised);
            // The head of a group may have been in place when nobody could be told any more.
            assert!(present == promised.len() || present == promised.len() + 2, "call {first}");
            ledger.commit(&group(0)).unwrap();
            drop(ledger);
            assert_eq!(holds(dir.path(), &promised), present + 2);
        }
    }
}

#[test]
fn many_callers_are_served_in_groups_and_each_in_its_order() {
    const CALLERS: usize = 8;
    const EACH: usize = 100;
    let dir = begin();
    let disk = Disk::new(dir.path().join("log"));
    let faults = disk.faults.clone();
    let key = LogKey::load(dir.path(), None).unwrap();
    let log = Log::start(Ledger::on(disk, key, now(), Settings::default()).unwrap().0).unwrap();
    faults.fail(0..0, 0);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let log = &log;
            scope.spawn(move || {
                let (sender, receipts) = mpsc::channel();
                for number in 0..EACH {
                    let sender = sender.clone();
                    let Some(Event::Act(mut act)) = examples().pop() else { panic!() };
                    act.subject = format!("{caller} {number}").as_str().into();
                    log.append(now(), Event::Act(act), move |answer| sender.send(answer.unwrap()).unwrap());
                }
                drop(sender);
                let seqs: Vec<u64> = receipts.iter().map(|receipt: Receipt| receipt.seq).collect();
                assert_eq!(seqs.len(), EACH);
                assert!(seqs.is_sorted());
            });
        }
    });
    let groups = faults.calls() / 5;
    let head = log.head();
    drop(log);
    assert_eq!(head.seq as usize, 1 + CALLERS * EACH);
    assert!((groups as usize) < CALLERS * EACH / 2, "{groups} groups for {} records", CALLERS * EACH);
    assert_eq!(check(dir.path()).unwrap().records, head.seq);
    let mut next = [0; CALLERS];
    for line in lines(dir.path()) {
        if let Event::Act(act) = Record::read(&line).unwrap().event {
            let (caller, number) = act.subject.as_str().split_once(' ').unwrap();
            let next = &mut next[caller.parse::<usize>().unwrap()];
            assert_eq!(number.parse(), Ok(*next));
            *next += 1;
        }
    }
    assert_eq!(next, [EACH; CALLERS]);
}

#[test]
fn while_the_disk_is_full_every_record_is_refused_and_then_it_goes_on() {
    let dir = begin();
    let disk = Disk::new(dir.path().join("log"));
    let faults = disk.faults.clone();
    let key = LogKey::load(dir.path(), None).unwrap();
    let log = Log::start(Ledger::on(disk, key, now(), settings()).unwrap().0).unwrap();
    let event = || examples().pop().unwrap();
    log.append_and_wait(now(), event()).unwrap();
    faults.fail(0..u64::MAX, 700);
    for _ in 0..3 {
        let refused = log.append_and_wait(now(), event()).unwrap_err();
        assert_eq!(refused.reason(), "io");
    }
    faults.fail(0..0, 0);
    assert_eq!(log.append_and_wait(now(), event()).unwrap().seq, 3);
    drop(log);
    assert_eq!(check(dir.path()).unwrap().records, 3);
}

#[test]
fn one_process_writes_and_others_may_verify_meanwhile() {
    let dir = filled();
    let (log, _) = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(LogError::InUse(_))));
    let verified = check(dir.path()).unwrap();
    assert!(verified.open);
    // What is being written behind the head is not looked at.
    let path = segment(dir.path(), verified.segments);
    let good = fs::read(&path).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq").unwrap();
    assert_eq!(check(dir.path()).unwrap(), verified);
    fs::write(&path, good).unwrap();
    drop(log);
    assert!(!check(dir.path()).unwrap().open);
    // Who is patient gets it.
    let (log, _) = open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let patient = Settings { patience: Duration::from_secs(60), ..settings() };
            Log::open(dir.path(), LogKey::load(dir.path(), None).unwrap(), now(), patient).map(|_| ())
        });
        log.append_and_wait(now(), examples().pop().unwrap()).unwrap();
        drop(log);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_clock_before_the_last_record_is_refused_unless_the_operator_accepts_it() {
    let dir = filled();
    let key = || LogKey::load(dir.path(), None).unwrap();
    let late = |seconds| now() - Duration::from_secs(seconds);
    let seq = Log::open(dir.path(), key(), late(60), settings()).unwrap().1.seq;
    let refused = Log::open(dir.path(), key(), late(61), settings()).unwrap_err();
    assert!(matches!(refused, LogError::Clock { last, .. } if last == Stamp::of(now())), "{refused}");
    let accepting = Settings { accept_clock: true, ..settings() };
    drop(Log::open(dir.path(), key(), late(61), accepting).unwrap());
    assert_eq!(check(dir.path()).unwrap().records, seq + 1);
    let last = Record::read(lines(dir.path()).last().unwrap()).unwrap();
    assert!(matches!(last.event, Event::Act(act) if act.what == What::ClockAccepted));
    Log::open(dir.path(), key(), late(61), settings()).unwrap();
}

#[test]
fn what_is_alive_is_read_back_and_no_further_than_needed() {
    let dir = begin();
    let hour = Duration::from_secs(3600);
    let key = || LogKey::load(dir.path(), None).unwrap();
    let (log, _) = Log::open(dir.path(), key(), now(), settings()).unwrap();
    let Event::Issued(template) = examples().remove(0) else { panic!() };
    for number in 0..200_u32 {
        let time = now() + hour * number;
        let serial = Serial::parse(&format!("{number:04x}")).unwrap();
        let issue = Issue { serial, not_after: Stamp::of(time + hour * 24), ..(*template).clone() };
        log.append_and_wait(time, Event::Issued(Box::new(issue))).unwrap();
    }
    let records = log.head().seq;
    drop(log);
    let read = |at: SystemTime| {
        let mut serials = Vec::new();
        let count = live(dir.path(), at, hour * 24, hour, &mut |_, issue| {
            serials.push(u32::from_str_radix(issue.serial.as_str(), 16).unwrap());
        });
        serials.sort_unstable();
        (count.unwrap(), serials)
    };
    let (count, serials) = read(now() + hour * 199);
    assert_eq!(serials, (175..200).collect::<Vec<_>>());
    assert!(count < records / 4, "{count} of {records} read");
    let (count, serials) = read(now() + hour * 24);
    assert_eq!(serials, (0..200).collect::<Vec<_>>());
    assert_eq!(count, records);
    assert!(read(now() + hour * 1000).1.is_empty());

    // A token that lives longer than what was issued for it.
    assert!(matches!(template.evidence, Evidence::Kubernetes { .. }));
    let mut shown = 0;
    live(dir.path(), now() + hour * 199, hour * 24, hour * 48, &mut |_, _| shown += 1).unwrap();
    assert_eq!(shown, 49);

    // A change in the part that is read is refused, and one in the part that is not is for `verify` to find.
    let files = contents(dir.path());
    let last = folder::last_segment(&dir.path().join("log")).unwrap();
    let refused = |number: u64, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = files[&folder::segment_name(number)].clone();
        change(&mut bytes);
        fs::write(segment(dir.path(), number), bytes).unwrap();
        found(dir.path());
        let result = live(dir.path(), now() + hour * 199, hour * 24, hour, &mut |_, _| {});
        restore(dir.path(), &files);
        matches!(result, Err(LogError::Found(_)))
    };
    let node = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(6).rposition(|window| window == b"node-1").unwrap();
        bytes[at + 5] = b'2';
    };
    assert!(refused(last, &node));
    assert!(refused(last - 2, &node));
    assert!(!refused(2, &node));
    assert!(refused(last, &|bytes| bytes.truncate(bytes.len() - 1)));
    assert!(refused(last - 1, &|bytes| *bytes = files[&folder::segment_name(last - 2)].clone()));
    fs::remove_file(segment(dir.path(), last - 1)).unwrap();
    assert!(live(dir.path(), now() + hour * 199, hour * 24, hour, &mut |_, _| {}).is_err());
}

#[test]
fn the_key_is_closed_to_others_and_opens_with_its_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let domain = TrustDomain::parse("example.org").unwrap();
    let public = create(dir.path(), &domain, Some(b"open sesame"), now()).unwrap();
    assert!(matches!(create(dir.path(), &domain, None, now()), Err(LogError::Exists(_))));
    assert_eq!(LogKey::load(dir.path(), Some(b"open sesame")).unwrap().public(), public);
    assert!(LogKey::load(dir.path(), Some(b"open barley")).is_err());
    assert!(LogKey::load(dir.path(), None).is_err());
    let path = file(dir.path(), "log.key");
    assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(LogKey::load(dir.path(), Some(b"open sesame")).is_err());
    let mode = fs::metadata(dir.path().join("log")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    // No half of a log, and nothing beside it.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let other = begin();
    fs::copy(file(other.path(), "log.key"), file(dir.path(), "log.key")).unwrap();
    assert!(matches!(LogKey::load(dir.path(), None), Err(LogError::KeyMismatch)));
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(check(nothing.path()), Err(LogError::Missing(_))));
}

/// Not a fact but a number: `cargo test --release -p sekisho-ca --lib -- --ignored --nocapture speed`.
#[test]
#[ignore = "measures"]
fn speed_of_writing_and_verifying() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), &TrustDomain::parse("example.org").unwrap(), None, now()).unwrap();
    let key = LogKey::load(dir.path(), None).unwrap();
    let (log, _) = Log::open(dir.path(), key, now(), Settings::default()).unwrap();
    let event = examples().remove(0);
    let count = 200_000_u32;
    const WAITING: u32 = 256;
    let begin = std::time::Instant::now();
    let (sender, receipts) = mpsc::channel();
    let mut slowest = Duration::ZERO;
    for asked in 0..count + WAITING {
        if asked >= WAITING {
            let took: Duration = receipts.recv().unwrap();
            slowest = slowest.max(took);
        }
        if asked < count {
            let (sender, begin) = (sender.clone(), std::time::Instant::now());
            log.append(now(), event.clone(), move |answer| {
                answer.unwrap();
                let _ = sender.send(begin.elapsed());
            });
        }
    }
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    println!("{count} kept, {WAITING} waiting at a time: {rate:.0}/s, slowest {slowest:?}");
    drop(log);
    let begin = std::time::Instant::now();
    let records = check(dir.path()).unwrap().records;
    println!("verified {records}: {:.0}/s", records as f64 / begin.elapsed().as_secs_f64());
}

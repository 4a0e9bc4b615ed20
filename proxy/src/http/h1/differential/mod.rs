//! Our reader of HTTP/1.1 against hyper's: the same bytes to both, and every difference argued.
//!
//! | file | idea |
//! | --- | --- |
//! | `generate`, `random` | streams of messages, good and bad, each from a number |
//! | `ours`, `theirs`, `seen` | what each reader makes of a stream |
//! | `ledger` | the differences that are allowed, and the proof that each is the whole reason |
//!
//! `SEKISHO_DIFFERENTIAL=10000000` sets the number of messages, `SEKISHO_DIFFERENTIAL_SEED` the first stream. A failure says
//! the number of its stream.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod generate;
mod ledger;
mod ours;
mod random;
mod seen;
mod theirs;

use crate::http::Asked;
use bytes::Bytes;
use http::Uri;
use ledger::{Class, Mended};
use ours::Reading;
use policy::{PathOptions, canonicalise};
use random::Random;
use seen::{Pair, Seen};
use std::collections::BTreeMap;

/// What a run came to.
#[derive(Default)]
struct Tally {
    streams: u64,
    /// Messages looked at, each where one reader at least began it.
    messages: u64,
    /// Messages read whole by both, alike.
    alike: u64,
    /// Messages that neither read to their end, as far as they go alike.
    both_stopped: u64,
    classes: BTreeMap<Class, u64>,
}

impl Tally {
    fn note(&mut self, classes: &[Class]) {
        for class in classes {
            *self.classes.entry(*class).or_default() += 1;
        }
    }

    fn print(&self, of: &str) {
        println!(
            "{} {of} in {} streams: {} read alike, {} broken off by both; argued differences:",
            self.messages, self.streams, self.alike, self.both_stopped
        );
        for (class, count) in &self.classes {
            println!("  {count:>9} {class:?}");
        }
    }
}

#[test]
fn requests_are_read_as_hyper_reads_them_or_the_difference_is_argued() {
    run("requests", 20_000, |seed, tally| requests(&generate::requests(&mut Random::new(seed)), seed, tally));
}

#[test]
fn responses_are_read_as_hyper_reads_them_or_the_difference_is_argued() {
    run("responses", 6_000, |seed, tally| {
        let (text, to_head) = generate::response(&mut Random::new(seed));
        response(&text, to_head, seed, tally)
    });
}

fn run(of: &str, usual: u64, one: impl Fn(u64, &mut Tally) -> Result<(), String>) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let wanted = number("SEKISHO_DIFFERENTIAL").unwrap_or(usual);
    let mut seed = number("SEKISHO_DIFFERENTIAL_SEED").unwrap_or(0);
    let mut tally = Tally::default();
    while tally.messages < wanted {
        tally.streams += 1;
        if let Err(why) = one(seed, &mut tally) {
            panic!("stream {seed} of {of}: {why}");
        }
        seed += 1;
    }
    tally.print(of);
}

/// What the classes stand for, one by one: none is a dead letter.
#[test]
fn every_argued_difference_is_met() {
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(crate::limits::HEAD_BYTES));
    let trailers = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: {}\r\n\r\n", "a".repeat(9000));
    let hints = format!("{}HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17));
    let chunks = |text: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{text}");
    for (text, class) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Class::BareLf),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Class::BlankLines),
        ("get / HTTP/1.1\r\n\r\n", Class::MethodCase),
        ("GET / HTTP/1.0\r\n\r\n", Class::OldVersion),
        ("GET /\u{e9} HTTP/1.1\r\n\r\n", Class::TargetBytes),
        ("GET / HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Class::LengthAndCoding),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Class::Codings),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", Class::RepeatedLength),
        ("GET / HTTP/1.1\r\nContent-Length: 0000000000000000001\r\n\r\nx", Class::LongLength),
        (&long, Class::HeadTooLong),
        (&chunks("1 \r\nx\r\n0\r\n\r\n"), Class::ChunkBlank),
        (&chunks("1;\u{e9}\r\nx\r\n0\r\n\r\n"), Class::ChunkExtension),
        (&chunks("0000000000000001\r\nx\r\n0\r\n\r\n"), Class::ChunkDigits),
        (&chunks("0\r\na: b\n\r\n\r\n"), Class::TrailerLf),
        (&trailers, Class::TrailersTooLong),
        ("GET / HTTP/1.1\r\nConnection: close, \u{e9}\r\n\r\nGET / HTTP/1.1\r\n\r\n", Class::CloseBesideBytes),
        ("GET /a<b HTTP/1.1\r\n\r\n", Class::TargetJudgedLater),
        ("GET /?a<b HTTP/1.1\r\n\r\n", Class::QueryBytes),
        ("GET /a#b HTTP/1.1\r\n\r\n", Class::Fragment),
        ("GET HTTP://a HTTP/1.1\r\n\r\n", Class::AbsoluteForm),
    ] {
        let mut tally = Tally::default();
        requests(text.as_bytes(), 1, &mut tally).unwrap();
        assert_eq!(tally.classes.keys().collect::<Vec<_>>(), [&class], "{text}");
    }
    for (text, class) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", Class::CodingUntilClose),
        ("HTTP/1.1 204 OK\r\nContent-Length: x\r\n\r\n", Class::BodilessFraming),
        ("HTTP/1.1 600 OK\r\n\r\n", Class::Status),
        ("HTTP/1.1 101 OK\r\n\r\n", Class::UnaskedSwitch),
        (&hints, Class::TooManyInterim),
        ("HTTP/1.1 200 \u{e9}\r\n\r\n", Class::ReasonBytes),
    ] {
        let mut tally = Tally::default();
        response(text.as_bytes(), false, 1, &mut tally).unwrap();
        assert_eq!(tally.classes.keys().collect::<Vec<_>>(), [&class], "{text}");
    }
}

/// Reads a stream of requests with both and compares.
fn requests(text: &[u8], seed: u64, tally: &mut Tally) -> Result<(), String> {
    let ours = ours::requests(text, seed);
    let theirs = theirs::requests(&Bytes::copy_from_slice(text), seed);
    let mut at = 0;
    loop {
        let (Some(more), next) = compare(ours.messages.get(at), theirs.get(at), tally, text)? else { return Ok(()) };
        match more {
            More::Next => at += 1,
            More::TheyRead => {
                let they = &theirs[at];
                let before = at.checked_sub(1).and_then(|before| ours.messages.get(before));
                if next.is_none()
                    && ours.refused.is_none()
                    && before.is_some_and(|before| before.whole && closes_beside_bytes(before))
                {
                    tally.note(&[Class::CloseBesideBytes]);
                    return Ok(());
                }
                let start = next.map_or(ours.stopped_at, |message| message.at);
                let mended = ledger::request(&text[start..]);
                let again = ours::requests(&mended.text, seed);
                return argued(&ours, &again, they, &mended, tally).map_err(|why| shown(&why, &text[start..], &mended));
            }
            More::WeRead => {
                let we = &ours.messages[at];
                return we_alone_read(we, theirs.get(at), &text[we.at..], seed, tally)
                    .map_err(|why| shown(&why, &text[we.at..], &Mended::none()));
            }
        }
    }
}

/// Reads a response with both and compares.
fn response(text: &[u8], to_head: bool, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let ours = ours::response(text, to_head, seed);
    let theirs = theirs::response(&Bytes::copy_from_slice(text), to_head, seed);
    match compare(ours.messages.first(), theirs.as_ref(), tally, text)?.0 {
        None | Some(More::Next) => Ok(()),
        Some(More::TheyRead) => {
            let mended = ledger::response(text, to_head);
            let again = ours::response(&mended.text, to_head, seed);
            argued(&ours, &again, &theirs.unwrap(), &mended, tally).map_err(|why| shown(&why, text, &mended))
        }
        Some(More::WeRead) => we_alone_read(&ours.messages[0], theirs.as_ref(), text, seed, tally)
            .map_err(|why| shown(&why, text, &Mended::none())),
    }
}

enum More {
    /// Both read it whole.
    Next,
    /// Only they read it, or only they to its end.
    TheyRead,
    WeRead,
}

/// Compares what both made of one message; `None` when both stop here.
fn compare<'a>(
    ours: Option<&'a Seen>,
    theirs: Option<&Seen>,
    tally: &mut Tally,
    text: &[u8],
) -> Result<(Option<More>, Option<&'a Seen>), String> {
    let (Some(we), Some(they)) = (ours, theirs) else {
        let more = match (ours, theirs) {
            (None, None) => None,
            (None, Some(_)) => Some(More::TheyRead),
            _ => Some(More::WeRead),
        };
        tally.messages += u64::from(more.is_some());
        return Ok((more, ours));
    };
    let classes = alike(we, they, &[]).map_err(|why| shown(&why, &text[we.at..], &Mended::none()))?;
    tally.note(&classes);
    tally.messages += 1;
    tally.alike += u64::from(we.whole && they.whole);
    tally.both_stopped += u64::from(!we.whole && !they.whole);
    Ok((
        match (we.whole, they.whole) {
            (true, true) => Some(More::Next),
            (false, false) => None,
            (false, true) => Some(More::TheyRead),
            (true, false) => Some(More::WeRead),
        },
        ours,
    ))
}

/// Whether two readings say the same; also the classes of what is only told differently.
fn alike(we: &Seen, they: &Seen, mended: &[Class]) -> Result<Vec<Class>, String> {
    let mut classes = Vec::new();
    let has = |class: Class| mended.contains(&class);
    let mut theirs = they.clone();
    if has(Class::MethodCase) {
        theirs.start.0.make_ascii_uppercase();
    }
    if has(Class::TargetBytes) {
        theirs.start.1 = ledger::plain(&theirs.start.1);
    }
    if !(has(Class::Status) || has(Class::UnaskedSwitch)) && we.start.0 != theirs.start.0 {
        return Err(format!("another start: {we:?} {they:?}"));
    }
    if we.start.1 != theirs.start.1 {
        let target = Uri::try_from(&we.start.1[..]).ok().map(|uri| uri.to_string().into_bytes());
        let class = if we.start.0[0].is_ascii_digit()
            && theirs.start.1.is_empty()
            && we.start.1.iter().any(|byte| *byte >= 0x80)
        {
            Class::ReasonBytes
        } else if target.as_ref() != Some(&theirs.start.1) {
            return Err(format!("another target or reason: {we:?} {they:?}"));
        } else if we.start.1.contains(&b'#') {
            Class::Fragment
        } else if we.start.1[0].is_ascii_alphabetic() {
            Class::AbsoluteForm
        } else {
            return Err(format!("another target: {we:?} {they:?}"));
        };
        if class == Class::Fragment && !is_refused_later(we) {
            return Err(format!("a fragment passes: {we:?}"));
        }
        classes.push(class);
    }
    let reframed = [
        Class::LengthAndCoding,
        Class::Codings,
        Class::CodingUntilClose,
        Class::RepeatedLength,
        Class::LongLength,
        Class::BodilessFraming,
    ];
    // To put the framing right is to write these fields anew.
    if mended.iter().any(|class| reframed.contains(class)) {
        if without_framing(&we.fields) != without_framing(&theirs.fields) {
            return Err(format!("other fields: {we:?} {they:?}"));
        }
    } else if sorted_if(&we.fields, !mended.is_empty()) != sorted_if(&theirs.fields, !mended.is_empty()) {
        return Err(format!("other fields: {we:?} {they:?}"));
    }
    if we.whole && they.whole {
        if we.body != they.body || (we.trailers != they.trailers && !has(Class::TrailersTooLong)) {
            return Err(format!("another body: {we:?} {they:?}"));
        }
    } else if !we.body.starts_with(&they.body) && !they.body.starts_with(&we.body) {
        return Err(format!("another beginning of a body: {we:?} {they:?}"));
    }
    Ok(classes)
}

fn without_framing(fields: &[Pair]) -> Vec<Pair> {
    let stays = |(name, _): &&Pair| name != b"content-length" && name != b"transfer-encoding";
    sorted_if(&fields.iter().filter(stays).cloned().collect::<Vec<_>>(), true)
}

fn sorted_if(fields: &[Pair], sort: bool) -> Vec<Pair> {
    let mut fields = fields.to_vec();
    if sort {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
    }
    fields
}

/// They read what we refused: with its faults put right, we must read the same.
fn argued(first: &Reading, again: &Reading, they: &Seen, mended: &Mended, tally: &mut Tally) -> Result<(), String> {
    if first.refused.is_none() {
        return Err(format!("we wait for more where they read {they:?}"));
    }
    if mended.classes.is_empty() {
        return Err(format!("refused by us as {:?}, read by them: {they:?}", first.refused));
    }
    if mended.classes.contains(&Class::HeadTooLong) {
        // A bound cannot be put right.
        tally.note(&mended.classes);
        return Ok(());
    }
    let Some(we) = again.messages.first() else {
        return Err(format!("put right as {:?}, still refused as {:?}: {they:?}", mended.classes, again.refused));
    };
    if we.whole != they.whole {
        return Err(format!(
            "put right as {:?}, {:?}, and not as whole: {we:?} {they:?}",
            mended.classes, again.refused
        ));
    }
    let told = alike(we, they, &mended.classes).map_err(|why| format!("put right as {:?}: {why}", mended.classes))?;
    tally.note(&mended.classes);
    tally.note(&told);
    Ok(())
}

/// We read what they refused.
fn we_alone_read(we: &Seen, they: Option<&Seen>, text: &[u8], seed: u64, tally: &mut Tally) -> Result<(), String> {
    if they.is_none() && !we.start.0[0].is_ascii_digit() && Uri::try_from(&we.start.1[..]).is_err() {
        if is_refused_later(we) {
            tally.note(&[Class::TargetJudgedLater]);
            return Ok(());
        }
        let mended = ledger::query(text, &we.start.1);
        let again = ours::requests(&mended, seed);
        let they = theirs::requests(&Bytes::copy_from_slice(&mended), seed);
        return match (again.messages.first(), they.first()) {
            (Some(we), Some(they)) if we.whole == they.whole => {
                tally.note(&alike(we, they, &[])?);
                tally.note(&[Class::QueryBytes]);
                Ok(())
            }
            _ => Err(format!("a target that is no URI passes: {we:?}")),
        };
    }
    Err(format!("read by us alone: {we:?}, not {they:?}"))
}

/// Whether the canonical reading, without which nothing is forwarded, refuses the target.
fn is_refused_later(we: &Seen) -> bool {
    let text = [&we.start.0[..], b" ", &we.start.1, b" HTTP/1.1\r\nHost: orders\r\n\r\n"].concat();
    let mut fields = Vec::new();
    let head = super::head::request(&text, &mut fields).unwrap().unwrap();
    let asked = Asked::http1(&text, &head, &fields);
    asked.raw().map_or(true, |raw| canonicalise(&PathOptions::default(), &raw).is_err())
}

fn closes_beside_bytes(we: &Seen) -> bool {
    we.fields.iter().any(|(name, value)| name == b"connection" && value.iter().any(|byte| *byte >= 0x80))
}

impl Mended {
    fn none() -> Self {
        Self { text: Vec::new(), classes: Vec::new() }
    }
}

fn shown(why: &str, text: &[u8], mended: &Mended) -> String {
    let start = |text: &[u8]| text[..text.len().min(3000)].escape_ascii().to_string();
    format!("{why}\nbytes:  {}\nmended: {}", start(text), start(&mended.text))
}

//! The audit log: of a segment or head that is accepted there is no second spelling, and its links hold.

use ca::log::{Event, Hash, Head, Record, judge_segment};

pub(super) const WORDS: &[&[u8]] = &[
    b"{\"seq\":",
    b",\"time\":\"2027-01-15T08:00:00.000Z\"",
    b",\"event\":\"issued\"",
    b",\"event\":\"refused\"",
    b",\"event\":\"segment\"",
    b",\"event\":\"recovered\",\"cut_bytes\":",
    b",\"event\":\"denied\",\"subject\":\"\",\"detail\":\"\",\"bundle\":null,\"by\":\"\"",
    b",\"attestation\":null",
    b",\"attestation\":\"renewal\",\"renewed\":\"",
    b",\"attestation\":\"kubernetes\",\"cluster\":\"",
    b",\"attestation\":\"join-token\",\"token\":\"",
    b",\"caller\":\"10.0.0.1:80\"",
    b",\"caller\":null",
    b",\"prev\":\"",
    b",\"left_out\":0",
    b"\"}\n",
    b"null",
    b"\\u0000",
    b"\\ud83d\\ude00",
    b"\\\"",
    b"0",
    b"18446744073709551615",
    b"spiffe://example.org/a",
];

pub(super) fn run(input: &[u8]) {
    if let Ok(head) = Head::read(input) {
        assert_eq!(head.text(), input, "a second spelling of a head");
    }
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(record) = Record::read(line) {
            assert_eq!(written(&record), line, "a second spelling of a record");
        }
    }
    for number in [1, 2] {
        match judge_segment(input, number) {
            Ok(count) => is_linked(input, number, count),
            Err(finding) => assert!(finding.line.is_some() && !finding.to_string().is_empty()),
        }
    }
}

/// The rules once more, over the whole text.
fn is_linked(segment: &[u8], number: u64, count: u64) {
    let lines: Vec<&[u8]> = segment.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len() as u64, count);
    let records: Vec<Record> = lines.iter().map(|line| Record::read(line).unwrap()).collect();
    for (at, record) in records.iter().enumerate() {
        let begins = matches!(record.event, Event::Begun { .. } | Event::Segment { .. });
        assert_eq!(begins, at == 0);
        if at > 0 {
            assert_eq!(record.prev, Hash::of(lines[at - 1]));
            assert_eq!(record.seq, records[at - 1].seq + 1);
        }
    }
    assert_eq!(number == 1, matches!(records[0].event, Event::Begun { .. }));
}

fn written(record: &Record) -> Vec<u8> {
    let mut line = Vec::new();
    record.write(&mut line);
    line
}

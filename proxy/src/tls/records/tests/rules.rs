//! Each rule of what a peer may send, shown by the record that breaks it.

use super::{End, Pair};
use crate::tls::records::{
    inbound::{Inbound, Misbehaved, Opened, record_length},
    key::Key,
    outbound::Outbound,
};
use rustls::{AlertDescription, CipherSuite, ConnectionTrafficSecrets};
use std::io::IoSlice;

const KEY: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
    31,
];
const IV: [u8; 12] = [32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43];

fn aes() -> Key {
    Key::new(0, ConnectionTrafficSecrets::Aes256Gcm { key: KEY.into(), iv: IV.into() }).unwrap()
}

fn chacha() -> Key {
    Key::new(0, ConnectionTrafficSecrets::Chacha20Poly1305 { key: KEY.into(), iv: IV.into() }).unwrap()
}

/// Two ends that have just met, and the reading one's view of what the other sends.
struct Ends {
    sender: End,
    reader: End,
}

impl Ends {
    /// The client reads.
    fn new() -> Self {
        let (reader, sender) = Pair::new().meet();
        Self { sender, reader }
    }

    fn server_reads() -> Self {
        let (sender, reader) = Pair::new().meet();
        Self { sender, reader }
    }

    /// Sends one record of this inner plaintext, content type and padding included.
    fn send(&mut self, inner: &[u8]) -> Result<Opened, Misbehaved> {
        let record = self.sender.outbound.inner(inner);
        self.open(record)
    }

    fn open(&mut self, mut record: Vec<u8>) -> Result<Opened, Misbehaved> {
        assert_eq!(record_length(&record)?, Some(record.len()));
        self.reader.inbound.open(&mut record, &mut self.reader.source)
    }
}

fn refused(inner: &[u8]) -> Misbehaved {
    Ends::new().send(inner).unwrap_err()
}

#[test]
fn records_are_the_ones_another_implementation_makes() {
    // Computed with pyca/cryptography: "ping" unpadded, then "pong" with three octets of padding.
    for (key, ping, pong) in [
        (
            aes as fn() -> Key,
            "1703030015a253c8177b0bf819419cc768a484e729c013bf7569",
            "1703030018727a97edca7e096930a645c48ccec03b0de6fdfc0cd7e0d0",
        ),
        (
            chacha,
            "1703030015038ee61b066d91f0e976e6e528810188ce77c90689",
            "1703030018985cb3563b3334869bc81d68be05c839a50ff619284283db",
        ),
    ] {
        let mut source = Ends::new().sender.source;
        let mut outbound = Outbound::new(key(), Vec::new());
        assert_eq!(
            outbound.data(&[IoSlice::new(b"pi"), IoSlice::new(b""), IoSlice::new(b"ng")], &mut source).unwrap(),
            4
        );
        assert_eq!(hex(outbound.unsent()), ping);
        assert_eq!(hex(&outbound.inner(b"pong\x17\0\0\0")), pong);
        let mut inbound = Inbound::new(key());
        for (record, text) in [(ping, b"ping"), (pong, b"pong")] {
            let mut record = unhex(record);
            assert_eq!(inbound.open(&mut record, &mut source), Ok(Opened::Data(5..9)));
            assert_eq!(&record[5..9], text);
        }
    }
}

#[test]
fn a_header_is_judged_before_its_record_is_waited_for() {
    assert_eq!(record_length(&[]), Ok(None));
    assert_eq!(record_length(&[0x17, 3, 3, 0x40]), Ok(None));
    assert_eq!(record_length(&[0x17, 3, 3, 0x00, 0x11]), Ok(Some(22)));
    assert_eq!(record_length(&[0x17, 3, 3, 0x41, 0x00]), Ok(Some(5 + 16640)));
    assert_eq!(record_length(&[0x17, 3, 3, 0x41, 0x01]), Err(Misbehaved::RecordTooLong));
    assert_eq!(record_length(&[0x17, 3, 3, 0x00, 0x10]), Err(Misbehaved::RecordTooShort));
    assert_eq!(record_length(&[0x17, 3, 3, 0x00, 0x00]), Err(Misbehaved::RecordTooShort));
    assert_eq!(record_length(&[0x17, 3, 1, 0x00, 0x20]), Err(Misbehaved::RecordVersion));
    assert_eq!(record_length(&[0x17, 3, 4, 0x00, 0x20]), Err(Misbehaved::RecordVersion));
    assert_eq!(record_length(&[0x16, 3, 3, 0x00, 0x20]), Err(Misbehaved::UnprotectedRecord(22)));
    assert_eq!(record_length(&[0x15, 3, 3, 0x00, 0x02, 1, 0]), Err(Misbehaved::UnprotectedRecord(21)));
    // A change cipher spec is for the handshake only.
    assert_eq!(record_length(&[0x14, 3, 3, 0x00, 0x01, 1]), Err(Misbehaved::UnprotectedRecord(20)));
    assert_eq!(record_length(b"GET / HTTP/1.1"), Err(Misbehaved::UnprotectedRecord(b'G')));
}

#[test]
fn plaintext_may_fill_a_record_and_no_more() {
    let mut ends = Ends::new();
    let mut full = vec![b'x'; 1 << 14];
    full.push(23);
    assert_eq!(ends.send(&full), Ok(Opened::Data(5..5 + (1 << 14))));
    // Padding counts too, within the longest ciphertext.
    full.push(0);
    assert_eq!(ends.send(&full), Err(Misbehaved::RecordTooLong));
    let longest = [vec![b'x'; 100], vec![23], vec![0; 16640 - 16 - 101]].concat();
    assert_eq!(refused(&longest), Misbehaved::RecordTooLong);
}

#[test]
fn padding_is_taken_off() {
    let mut ends = Ends::new();
    assert_eq!(ends.send(b"hello\x17\0\0"), Ok(Opened::Data(5..10)));
    // Zeros before the content type are data.
    assert_eq!(ends.send(b"a\0\0\x17"), Ok(Opened::Data(5..8)));
    assert_eq!(refused(&[0; 40]), Misbehaved::NoContentType);
    assert_eq!(refused(&[0]), Misbehaved::NoContentType);
}

#[test]
fn only_three_content_types_are_taken() {
    for kind in [1, 20, 24, 25, 255] {
        assert_eq!(refused(&[1, kind]), Misbehaved::ContentType(kind));
    }
}

#[test]
fn a_close_is_an_end_and_other_alerts_are_errors() {
    assert_eq!(Ends::new().send(&[1, 0, 21]), Ok(Opened::Closed));
    assert_eq!(Ends::new().send(&[2, 0, 21]), Ok(Opened::Closed));
    assert_eq!(Ends::new().send(&[1, 90, 21]), Ok(Opened::Nothing));
    for (level, description, alert) in [
        (2, 42, AlertDescription::BadCertificate),
        (1, 45, AlertDescription::CertificateExpired),
        (2, 99, AlertDescription::Unknown(99)),
    ] {
        let error = refused(&[level, description, 21]);
        assert_eq!(error, Misbehaved::SentAlert(alert));
        assert_eq!(error.alert(), None);
    }
    for malformed in [&[0, 0, 21][..], &[3, 0, 21], &[1, 21], &[21], &[1, 0, 0, 21], &[1, 0, 1, 0, 21]] {
        assert_eq!(refused(malformed), Misbehaved::AlertForm);
    }
}

#[test]
fn records_without_data_are_few() {
    let mut ends = Ends::server_reads();
    for _ in 0..3 {
        for _ in 0..32 {
            assert_eq!(ends.send(&[23]), Ok(Opened::Nothing));
        }
        assert!(matches!(ends.send(b"x\x17"), Ok(Opened::Data(_))));
    }
    for _ in 0..32 {
        assert_eq!(ends.send(&[23, 0, 0]), Ok(Opened::Nothing));
    }
    assert_eq!(ends.send(&[23]), Err(Misbehaved::TooManyIdleRecords));
}

#[test]
fn a_key_update_changes_the_key_and_is_answered_when_asked() {
    let mut ends = Ends::server_reads();
    for round in 0..5 {
        ends.sender.outbound.key_update(&mut ends.sender.source).unwrap();
        let record = ends.sender.outbound.unsent().to_vec();
        ends.sender.outbound.sent(record.len());
        assert_eq!(ends.open(record), Ok(Opened::Nothing), "{round}");
        assert!(!ends.reader.inbound.take_owed_key_update());
        assert!(matches!(ends.send(b"x\x17"), Ok(Opened::Data(_))));
    }
    // One that asks for an answer; asking twice is answered once.
    for _ in 0..2 {
        assert_eq!(ends.send(&[24, 0, 0, 1, 1, 22]), Ok(Opened::Nothing));
        ends.sender =
            End { outbound: Outbound::new(ends.sender.source.next_outbound().unwrap(), Vec::new()), ..ends.sender };
    }
    assert!(ends.reader.inbound.take_owed_key_update());
    assert!(!ends.reader.inbound.take_owed_key_update());
    assert!(matches!(ends.send(b"x\x17"), Ok(Opened::Data(_))));
}

#[test]
fn after_a_key_update_the_old_key_opens_nothing() {
    let mut ends = Ends::new();
    assert_eq!(ends.send(&[24, 0, 0, 1, 0, 22]), Ok(Opened::Nothing));
    assert_eq!(ends.send(b"x\x17"), Err(Misbehaved::BadRecord));
}

#[test]
fn key_updates_without_end_are_refused() {
    let mut ends = Ends::server_reads();
    for _ in 0..32 {
        assert_eq!(ends.send(&[24, 0, 0, 1, 1, 22]), Ok(Opened::Nothing));
        ends.sender =
            End { outbound: Outbound::new(ends.sender.source.next_outbound().unwrap(), Vec::new()), ..ends.sender };
    }
    assert_eq!(ends.send(&[24, 0, 0, 1, 1, 22]), Err(Misbehaved::TooManyIdleRecords));
}

#[test]
fn key_updates_have_one_form() {
    for malformed in [&[24, 0, 0, 1, 2, 22][..], &[24, 0, 0, 0, 22], &[24, 0, 0, 2, 0, 0, 22]] {
        assert_eq!(refused(malformed), Misbehaved::KeyUpdateForm);
    }
    assert_eq!(refused(&[24, 0, 0, 1, 0, 24, 22]), Misbehaved::KeyUpdateNotAligned);
    assert_eq!(refused(&[24, 1, 0, 1, 0, 22]), Misbehaved::MessageTooLong);
}

#[test]
fn a_handshake_message_may_come_in_parts_and_nothing_between_them() {
    let mut ends = Ends::new();
    for part in [&[24, 22][..], &[0, 0, 22], &[1, 22]] {
        assert_eq!(ends.send(part), Ok(Opened::Nothing));
    }
    assert_eq!(ends.send(&[0, 22]), Ok(Opened::Nothing));
    // The key has changed: the message was read.
    assert_eq!(ends.send(b"x\x17"), Err(Misbehaved::BadRecord));

    for between in [&b"x\x17"[..], &[23], &[1, 0, 21]] {
        let mut ends = Ends::new();
        assert_eq!(ends.send(&[24, 0, 22]), Ok(Opened::Nothing));
        assert_eq!(ends.send(between), Err(Misbehaved::Interleaved));
    }
    assert_eq!(refused(&[22]), Misbehaved::EmptyHandshakeRecord);
}

#[test]
fn only_the_messages_of_an_open_connection_are_taken() {
    // Client hello, end of early data, encrypted extensions, certificate request, certificate, finished.
    for kind in [1, 5, 8, 13, 11, 20, 0, 255] {
        assert_eq!(refused(&[kind, 22]), Misbehaved::Handshake(kind));
    }
}

#[test]
fn tickets_are_for_clients() {
    // Lifetime, age, nonce, ticket, no extensions (RFC 8446 §4.6.1).
    let ticket = [&[4, 0, 0, 15, 0, 0, 0, 60, 1, 2, 3, 4, 1, 9, 0, 1, 7, 0, 0][..], &[22]].concat();
    assert_eq!(Ends::new().send(&ticket), Ok(Opened::Nothing));
    assert_eq!(Ends::server_reads().send(&ticket), Err(Misbehaved::Handshake(4)));
    // Two in one record are two messages.
    let two = [&ticket[..19], &ticket[..19], &[22]].concat();
    assert_eq!(Ends::new().send(&two), Ok(Opened::Nothing));
    let mut truncated = ticket.clone();
    truncated[3] = 14;
    truncated.remove(18);
    assert_eq!(refused(&truncated), Misbehaved::Ticket);
}

#[test]
fn a_sender_changes_its_key_in_time() {
    let mut ends = Ends::new();
    ends.sender.outbound.set_limit(3);
    let (mut updates, mut data) = (0, 0);
    for _ in 0..20 {
        ends.sender.outbound.data(&[IoSlice::new(b"x")], &mut ends.sender.source).unwrap();
        let mut bytes = ends.sender.outbound.unsent().to_vec();
        ends.sender.outbound.sent(bytes.len());
        while let Some(length) = record_length(&bytes).unwrap() {
            match ends.open(bytes.drain(..length).collect()).unwrap() {
                Opened::Data(_) => data += 1,
                Opened::Nothing => updates += 1,
                Opened::Closed => panic!("closed"),
            }
        }
    }
    assert_eq!((data, updates), (20, 6));
}

#[test]
fn records_out_of_order_repeated_or_lost_are_refused() {
    let records = |ends: &mut Ends| [b"a\x17", b"b\x17"].map(|inner| ends.sender.outbound.inner(inner));
    let mut ends = Ends::new();
    let [first, second] = records(&mut ends);
    assert_eq!(ends.open(second), Err(Misbehaved::BadRecord));
    assert!(ends.open(first).is_err());
    let mut ends = Ends::new();
    let [first, _] = records(&mut ends);
    assert!(ends.open(first.clone()).is_ok());
    assert_eq!(ends.open(first), Err(Misbehaved::BadRecord));
    // What we sent ourselves is not what the peer sends.
    let (client, _) = Pair::new().meet();
    let mut ends = Ends { sender: End { ..client }, reader: Pair::new().meet().0 };
    assert_eq!(ends.send(b"a\x17"), Err(Misbehaved::BadRecord));
}

#[test]
fn no_changed_bit_yields_plaintext() {
    let mut source = Ends::new().reader.source;
    for key in [aes as fn() -> Key, chacha] {
        let good = Outbound::new(key(), Vec::new()).inner(b"GET / HTTP/1.1\r\n\r\n\x17\0\0");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                match record_length(&bad) {
                    // A length that asks for more never completes; one that asks for less is judged as that record.
                    Ok(Some(length)) if length <= bad.len() => {
                        assert!(Inbound::new(key()).open(&mut bad[..length], &mut source).is_err(), "{at} {bit}");
                    }
                    Ok(_) => assert!((3..5).contains(&at)),
                    Err(_) => assert!(at < 5),
                }
            }
        }
        assert_eq!(Inbound::new(key()).open(&mut good.clone(), &mut source), Ok(Opened::Data(5..23)));
    }
}

#[test]
fn all_three_cipher_suites_are_spoken() {
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let (reader, sender) = Pair::new().with_suite(suite).meet();
        let mut ends = Ends { sender, reader };
        assert_eq!(ends.send(b"hello\x17"), Ok(Opened::Data(5..10)));
        ends.sender.outbound.key_update(&mut ends.sender.source).unwrap();
        let update = ends.sender.outbound.unsent().to_vec();
        ends.sender.outbound.sent(update.len());
        assert_eq!(ends.open(update), Ok(Opened::Nothing));
        assert_eq!(ends.send(b"hello\x17"), Ok(Opened::Data(5..10)));
    }
}

#[test]
fn keys_in_one_place_of_the_store_do_not_mix() {
    // More keys than the store holds, used in turn: each must be expanded again, and none mistaken for another.
    let mut source = Ends::new().reader.source;
    let mut ends: Vec<_> = (0..700_u64)
        .map(|number| {
            let mut iv = IV;
            iv[..8].copy_from_slice(&number.to_be_bytes());
            let key = || Key::new(0, ConnectionTrafficSecrets::Aes256Gcm { key: KEY.into(), iv: iv.into() }).unwrap();
            (Outbound::new(key(), Vec::new()), Inbound::new(key()))
        })
        .collect();
    for _ in 0..2 {
        for (outbound, inbound) in &mut ends {
            let mut record = outbound.inner(b"x\x17");
            assert_eq!(inbound.open(&mut record, &mut source), Ok(Opened::Data(5..6)));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

//! What one line of the log says.
//!
//! ```text
//! {"seq":7,"time":"2027-01-15T08:00:00.000Z","event":"issued",…,"prev":"<SHA-256 of the line before>"}
//! ```
//! Every event has its own keys, always all of them and in one order; what does not apply is `null`. A line is
//! believed only if writing it again gives the same bytes. There is no field that could hold a token: of a token
//! come its hash and what it proved, and text is bounded and escaped.

use std::net::SocketAddr;

use identity::SpiffeId;

use super::hash::Hash;
use super::line::{Misread, Reader, Writer};
use super::stamp::Stamp;
use super::value::{Serial, Text, serial, text};

/// A line: an event in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 1 for the first record of the log, one more for each further.
    pub seq: u64,
    /// When it happened, by the CA's clock.
    pub time: Stamp,
    /// What happened.
    pub event: Event,
    /// The hash of the line before, without its line feed; of nothing, [`Hash::ZERO`].
    pub prev: Hash,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The log begins: the first record, and no other.
    Begun {
        /// The trust domain of the CA.
        trust_domain: Text,
        /// The hash of the public key (DER SubjectPublicKeyInfo) that signs the heads.
        key: Hash,
    },
    /// A further segment begins: its first record, and no other.
    Segment {
        /// Its number.
        segment: u64,
        /// The hash of the last line of the segment before.
        previous: Hash,
    },
    /// What a crash had left behind the signed head was cut off. No receipt had been given for it.
    Recovered {
        /// How many bytes.
        cut_bytes: u64,
        /// Their hash.
        cut_hash: Hash,
    },
    /// A certificate was made. It leaves after this.
    Issued(Box<Issue>),
    /// Somebody asked and got nothing.
    Refused(Box<Refusal>),
    /// The CA or its operator did something else.
    Act(Box<Act>),
}

/// A certificate, who holds it, and why they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The serial number.
    pub serial: Serial,
    /// The one name in it.
    pub id: SpiffeId,
    /// The hash of its public key (DER SubjectPublicKeyInfo).
    pub spki: Hash,
    /// The hash of the whole certificate (DER).
    pub certificate: Hash,
    /// Its last second.
    pub not_after: Stamp,
    /// The key id of the root it leads to.
    pub root: Text,
    /// By which evidence.
    pub evidence: Evidence,
    /// To which first attestation its holder goes back.
    pub lineage: Lineage,
    /// Who holds it, the same before and after a renewal: `Holder` of attestation, as text.
    pub holder: Text,
    /// Who asked; `None` for the offline command.
    pub caller: Option<SocketAddr>,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A label from a fixed set, such as `csr_signature`.
    pub reason: Text,
    /// The name it would have had, if that was known.
    pub id: Option<SpiffeId>,
    /// The hash of the key it was for, if one was read.
    pub spki: Option<Hash>,
    /// What had been proved until then.
    pub evidence: Option<Evidence>,
    /// Who asked.
    pub caller: Option<SocketAddr>,
    /// How many refusals before this one were left out, because there were too many.
    pub left_out: u64,
}

/// Why a holder may have its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A Kubernetes projected token.
    Kubernetes {
        /// Of which cluster.
        cluster: Text,
        /// The pod's uid.
        pod: Text,
        /// The node it runs on.
        node: Option<Text>,
        /// The hash of the token's `jti`.
        jti: Option<Hash>,
    },
    /// A join token.
    JoinToken {
        /// Its id, which is not the token.
        token: Text,
    },
    /// A certificate of this CA that was still valid.
    Renewal {
        /// Its serial number.
        renewed: Serial,
    },
    /// The operator's word: whoever may use the root key.
    Operator {
        /// The user that ran the command.
        user: Text,
    },
}

/// The first attestation that a certificate goes back to, over all renewals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// This record is the first.
    Begins,
    /// An earlier record is.
    Continues {
        /// Its `seq`.
        first: u64,
        /// Its time.
        since: Stamp,
    },
}

/// Something that is not an answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Which kind.
    pub what: What,
    /// What it was done to: the key id of a root, an entry of the deny list, the id of a join token.
    pub subject: Text,
    /// Whatever else an auditor should know.
    pub detail: Text,
    /// The bundle's sequence number after it, where it changed or is told.
    pub bundle: Option<u64>,
    /// Who: a user, or the CA itself.
    pub by: Text,
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// The kinds of [`Act`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum What { $($(#[$doc])* $name,)* }

        impl What {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in the log.
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

labels! {
    /// The server begins to answer: with this root as the one that issues, in this phase of a rotation. What was done just before a
    /// crash, and is not on record, shows here.
    Started = "started",
    /// The server ends as it should.
    Stopped = "stopped",
    /// Records could not be kept for a while, and nothing was issued meanwhile; they can again.
    LogResumed = "log-resumed",
    /// A new root is there.
    RootAdded = "root-added",
    /// A rotation: the new root is in the bundle.
    RotationPrepared = "rotation-prepared",
    /// A rotation: the new root issues.
    RotationActivated = "rotation-activated",
    /// A rotation: the old root has left the bundle.
    RotationFinished = "rotation-finished",
    /// A rotation went a step back.
    RotationRolledBack = "rotation-rolled-back",
    /// The operator did not wait for all acknowledgements.
    RotationOverridden = "rotation-overridden",
    /// A root is taken for stolen.
    RootCompromised = "root-compromised",
    /// An entry came onto the deny list.
    Denied = "denied",
    /// An entry was taken from the deny list, or ended.
    DenialLifted = "denial-lifted",
    /// A join token was made.
    JoinTokenMade = "join-token-made",
    /// A join token was taken back.
    JoinTokenRevoked = "join-token-revoked",
    /// Everything had expired, and the operator began anew.
    Recovery = "recovery",
    /// The operator let the CA go on although the log has records from the future.
    ClockAccepted = "clock-accepted",
}

impl Record {
    /// Appends the line, without its line feed.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(self.seq, self.time, &self.event, &self.prev, out);
    }

    /// Reads a line without its line feed.
    ///
    /// # Errors
    /// What is not there, or not spelt as [`write`](Self::write) does.
    pub fn read(line: &[u8]) -> Result<Self, Misread> {
        let mut reader = Reader::new(line);
        let seq = reader.number("seq")?;
        let time = reader.stamp("time")?;
        let event = Event::read(&mut reader, seq, time)?;
        let prev = reader.hash("prev")?;
        reader.end()?;
        Ok(Self { seq, time, event, prev })
    }
}

/// Appends the line of an event in this place, without its line feed.
pub(crate) fn write(seq: u64, time: Stamp, event: &Event, prev: &Hash, out: &mut Vec<u8>) {
    let mut line = Writer::new(out);
    line.number("seq", seq);
    line.stamp("time", time);
    event.write(seq, time, &mut line);
    line.hash("prev", prev);
    line.end();
}

impl Event {
    fn write(&self, seq: u64, time: Stamp, line: &mut Writer<'_>) {
        match self {
            Self::Begun { trust_domain, key } => {
                line.text("event", "begun");
                line.number("schema", SCHEMA);
                line.text("trust_domain", trust_domain.as_str());
                line.hash("key", key);
            }
            Self::Segment { segment, previous } => {
                line.text("event", "segment");
                line.number("segment", *segment);
                line.hash("previous", previous);
            }
            Self::Recovered { cut_bytes, cut_hash } => {
                line.text("event", "recovered");
                line.number("cut_bytes", *cut_bytes);
                line.hash("cut_hash", cut_hash);
            }
            Self::Issued(issue) => {
                line.text("event", "issued");
                issue.write(seq, time, line);
            }
            Self::Refused(refusal) => {
                line.text("event", "refused");
                refusal.write(line);
            }
            Self::Act(act) => {
                line.text("event", act.what.label());
                act.write(line);
            }
        }
    }

    fn read(line: &mut Reader<'_>, seq: u64, time: Stamp) -> Result<Self, Misread> {
        let event = line.text("event")?;
        Ok(match event.as_str() {
            "begun" => {
                if line.number("schema")? != SCHEMA {
                    return Err(Misread("schema"));
                }
                Self::Begun { trust_domain: text(line, "trust_domain")?, key: line.hash("key")? }
            }
            "segment" => Self::Segment { segment: line.number("segment")?, previous: line.hash("previous")? },
            "recovered" => Self::Recovered { cut_bytes: line.number("cut_bytes")?, cut_hash: line.hash("cut_hash")? },
            "issued" => Self::Issued(Box::new(Issue::read(line, seq, time)?)),
            "refused" => Self::Refused(Box::new(Refusal::read(line)?)),
            other => {
                let what = What::ALL.iter().find(|what| what.label() == other).ok_or(Misread("event"))?;
                Self::Act(Box::new(Act::read(*what, line)?))
            }
        })
    }
}

impl Issue {
    fn write(&self, seq: u64, time: Stamp, line: &mut Writer<'_>) {
        line.text("serial", self.serial.as_str());
        line.text("id", self.id.as_str());
        line.hash("spki", &self.spki);
        line.hash("certificate", &self.certificate);
        line.stamp("not_after", self.not_after);
        line.text("root", self.root.as_str());
        Evidence::write(Some(&self.evidence), line);
        let (first, since) = match self.lineage {
            Lineage::Begins => (seq, time),
            Lineage::Continues { first, since } => (first, since),
        };
        line.number("lineage", first);
        line.stamp("lineage_since", since);
        line.text("holder", self.holder.as_str());
        write_caller(self.caller, line);
    }

    fn read(line: &mut Reader<'_>, seq: u64, time: Stamp) -> Result<Self, Misread> {
        Ok(Self {
            serial: serial(line, "serial")?,
            id: SpiffeId::parse(&line.text("id")?).map_err(|_| Misread("id"))?,
            spki: line.hash("spki")?,
            certificate: line.hash("certificate")?,
            not_after: line.stamp("not_after")?,
            root: text(line, "root")?,
            evidence: Evidence::read(line)?.ok_or(Misread("attestation"))?,
            lineage: match (line.number("lineage")?, line.stamp("lineage_since")?) {
                (first, since) if first == seq && since == time => Lineage::Begins,
                (first, since) if first != 0 && first < seq => Lineage::Continues { first, since },
                _ => return Err(Misread("lineage")),
            },
            holder: text(line, "holder")?,
            caller: read_caller(line)?,
        })
    }
}

impl Refusal {
    fn write(&self, line: &mut Writer<'_>) {
        line.text("reason", self.reason.as_str());
        line.text_or_null("id", self.id.as_ref().map(SpiffeId::as_str));
        line.hash_or_null("spki", self.spki.as_ref());
        Evidence::write(self.evidence.as_ref(), line);
        write_caller(self.caller, line);
        line.number("left_out", self.left_out);
    }

    fn read(line: &mut Reader<'_>) -> Result<Self, Misread> {
        Ok(Self {
            reason: text(line, "reason")?,
            id: match line.text_or_null("id")? {
                Some(id) => Some(SpiffeId::parse(&id).map_err(|_| Misread("id"))?),
                None => None,
            },
            spki: line.hash_or_null("spki")?,
            evidence: Evidence::read(line)?,
            caller: read_caller(line)?,
            left_out: line.number("left_out")?,
        })
    }
}

impl Evidence {
    fn write(evidence: Option<&Self>, line: &mut Writer<'_>) {
        match evidence {
            None => line.null("attestation"),
            Some(Self::Kubernetes { cluster, pod, node, jti }) => {
                line.text("attestation", "kubernetes");
                line.text("cluster", cluster.as_str());
                line.text("pod", pod.as_str());
                line.text_or_null("node", node.as_ref().map(Text::as_str));
                line.hash_or_null("jti", jti.as_ref());
            }
            Some(Self::JoinToken { token }) => {
                line.text("attestation", "join-token");
                line.text("token", token.as_str());
            }
            Some(Self::Renewal { renewed }) => {
                line.text("attestation", "renewal");
                line.text("renewed", renewed.as_str());
            }
            Some(Self::Operator { user }) => {
                line.text("attestation", "operator");
                line.text("user", user.as_str());
            }
        }
    }

    fn read(line: &mut Reader<'_>) -> Result<Option<Self>, Misread> {
        Ok(match line.text_or_null("attestation")?.as_deref() {
            None => None,
            Some("kubernetes") => Some(Self::Kubernetes {
                cluster: text(line, "cluster")?,
                pod: text(line, "pod")?,
                node: match line.text_or_null("node")? {
                    Some(node) => Some(Text::exactly(node).ok_or(Misread("node"))?),
                    None => None,
                },
                jti: line.hash_or_null("jti")?,
            }),
            Some("join-token") => Some(Self::JoinToken { token: text(line, "token")? }),
            Some("renewal") => Some(Self::Renewal { renewed: serial(line, "renewed")? }),
            Some("operator") => Some(Self::Operator { user: text(line, "user")? }),
            Some(_) => return Err(Misread("attestation")),
        })
    }
}

impl Act {
    fn write(&self, line: &mut Writer<'_>) {
        line.text("subject", self.subject.as_str());
        line.text("detail", self.detail.as_str());
        match self.bundle {
            Some(bundle) => line.number("bundle", bundle),
            None => line.null("bundle"),
        }
        line.text("by", self.by.as_str());
    }

    fn read(what: What, line: &mut Reader<'_>) -> Result<Self, Misread> {
        Ok(Self {
            what,
            subject: text(line, "subject")?,
            detail: text(line, "detail")?,
            bundle: line.number_or_null("bundle")?,
            by: text(line, "by")?,
        })
    }
}

fn write_caller(caller: Option<SocketAddr>, line: &mut Writer<'_>) {
    line.text_or_null("caller", caller.map(|caller| caller.to_string()).as_deref());
}

fn read_caller(line: &mut Reader<'_>) -> Result<Option<SocketAddr>, Misread> {
    match line.text_or_null("caller")? {
        Some(text) => match text.parse::<SocketAddr>() {
            // `1.2.3.4:080` is read as well, and is not what was written.
            Ok(caller) if caller.to_string() == text => Ok(Some(caller)),
            _ => Err(Misread("caller")),
        },
        None => Ok(None),
    }
}

/// Of the whole log; stands in its first record.
const SCHEMA: u64 = 1;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub(crate) mod tests {
    use super::super::MAX_LINE;
    use super::*;

    /// One of each kind, with every optional part present and absent.
    pub(crate) fn examples() -> Vec<Event> {
        let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
        let issue = |evidence, lineage, caller: Option<&str>| {
            Event::Issued(Box::new(Issue {
                serial: Serial::parse("0102030405060708090a0b0c0d0e0f10").unwrap(),
                id: id.clone(),
                spki: Hash::of(b"spki"),
                certificate: Hash::of(b"certificate"),
                not_after: stamp(1_800_086_400_000),
                root: "0123456789abcdef".into(),
                evidence,
                lineage,
                holder: "pod/main/2f1c".into(),
                caller: caller.map(|caller| caller.parse().unwrap()),
            }))
        };
        let pod = |node: Option<&str>, jti| Evidence::Kubernetes {
            cluster: "main".into(),
            pod: "2f1c \"quoted\" \u{1f600}\n".into(),
            node: node.map(Text::bounded),
            jti,
        };
        let renewed = Serial::parse("0f").unwrap();
        let earlier = Lineage::Continues { first: 1, since: stamp(1_799_999_000_000) };
        let mut all = vec![
            issue(pod(Some("node-1"), Some(Hash::of(b"jti"))), Lineage::Begins, Some("10.0.0.1:4711")),
            issue(pod(None, None), Lineage::Begins, Some("[fd00::1]:1")),
            issue(Evidence::Renewal { renewed }, earlier, None),
            issue(Evidence::JoinToken { token: "t-1".into() }, Lineage::Begins, None),
            issue(Evidence::Operator { user: "uid 0".into() }, Lineage::Begins, None),
            Event::Refused(Box::new(Refusal {
                reason: "csr_signature".into(),
                id: Some(id),
                spki: Some(Hash::of(b"spki")),
                evidence: Some(pod(None, None)),
                caller: Some("192.0.2.7:9".parse().unwrap()),
                left_out: 3,
            })),
            Event::Refused(Box::new(Refusal {
                reason: "token_expired".into(),
                id: None,
                spki: None,
                evidence: None,
                caller: None,
                left_out: 0,
            })),
            Event::Recovered { cut_bytes: 17, cut_hash: Hash::of(b"cut") },
        ];
        all.extend(What::ALL.iter().map(|what| {
            Event::Act(Box::new(Act {
                what: *what,
                subject: "0123456789abcdef".into(),
                detail: Text::default(),
                bundle: (*what == What::RotationPrepared).then_some(2),
                by: "uid 0".into(),
            }))
        }));
        all
    }

    pub(crate) fn stamp(millis: u64) -> Stamp {
        Stamp::of(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(millis))
    }

    fn records() -> Vec<Record> {
        let edges = [
            Event::Begun { trust_domain: "example.org".into(), key: Hash::of(b"key") },
            Event::Segment { segment: 2, previous: Hash::of(b"x") },
        ];
        let events = examples().into_iter().chain(edges);
        events.map(|event| Record { seq: 9, time: stamp(1_800_000_000_000), event, prev: Hash::of(b"x") }).collect()
    }

    fn line(record: &Record) -> Vec<u8> {
        let mut line = Vec::new();
        record.write(&mut line);
        line
    }

    #[test]
    fn every_record_is_one_line_of_json_and_comes_back() {
        for record in records() {
            let line = line(&record);
            assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')));
            let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(json["seq"], 9);
            assert_eq!(Record::read(&line).unwrap(), record, "{}", String::from_utf8_lossy(&line));
        }
    }

    /// Whatever byte is put in the place of another: the line is refused, or it is another line that is written
    /// just so, and then its hash tells.
    #[test]
    fn no_line_has_a_second_spelling() {
        for record in records() {
            let good = line(&record);
            for at in 0..good.len() {
                for byte in
                    [b' ', b'"', b'\\', b'0', b'a', b'A', b',', b'}', b'\n', 0, 0xff, good[at] ^ 1, good[at] ^ 0x20]
                {
                    let mut bad = good.clone();
                    bad[at] = byte;
                    if let Ok(read) = Record::read(&bad) {
                        assert_eq!(line(&read), bad);
                    }
                }
                let mut longer = good.clone();
                longer.insert(at, b' ');
                if let Ok(read) = Record::read(&longer) {
                    assert_eq!(line(&read), longer);
                }
                let mut shorter = good.clone();
                shorter.remove(at);
                if let Ok(read) = Record::read(&shorter) {
                    assert_eq!(line(&read), shorter);
                }
            }
        }
    }

    #[test]
    fn unknown_repeated_missing_and_moved_keys_are_refused() {
        let record = records().into_iter().find(|record| matches!(record.event, Event::Refused(_))).unwrap();
        let text = String::from_utf8(line(&record)).unwrap();
        let changed = [
            text.replace("\"left_out\":3", "\"left_out\":3,\"x\":1"),
            text.replace("\"left_out\":3", "\"left_out\":3,\"left_out\":3"),
            text.replace(",\"left_out\":3", ""),
            text.replace("{\"seq\":9,", "{").replace("\"prev\"", "\"seq\":9,\"prev\""),
            text.replace("\"refused\"", "\"refusal\""),
            text.replace("192.0.2.7:9", "192.0.2.7:09"),
            text.replace("192.0.2.7:9", "192.0.2.7"),
        ];
        for changed in changed {
            assert_ne!(changed, text);
            let read = Record::read(changed.as_bytes());
            assert!(read.is_err() || line(&read.unwrap()) != changed.as_bytes(), "{changed}");
        }
    }

    #[test]
    fn a_lineage_points_back() {
        let records = records();
        let text = String::from_utf8(line(&records[0])).unwrap();
        for (lineage, good) in
            [("\"lineage\":9", true), ("\"lineage\":8", true), ("\"lineage\":10", false), ("\"lineage\":0", false)]
        {
            assert_eq!(Record::read(text.replace("\"lineage\":9", lineage).as_bytes()).is_ok(), good, "{lineage}");
        }
    }

    #[test]
    fn long_text_is_cut_and_the_longest_line_fits() {
        let long = "\u{1}".repeat(10_000);
        assert!(Text::bounded(&long).as_str().ends_with("..."));
        assert!(Text::bounded(&"é".repeat(1000)).as_str().len() <= Text::MOST);
        let text = Text::bounded(&"\u{1}".repeat(Text::MOST));
        let id = SpiffeId::parse(&format!("spiffe://example.org/{}", "a".repeat(2000))).unwrap();
        let record = Record {
            seq: u64::MAX,
            time: stamp(0),
            event: Event::Issued(Box::new(Issue {
                serial: Serial::parse(&"ff".repeat(20)).unwrap(),
                id,
                spki: Hash::ZERO,
                certificate: Hash::ZERO,
                not_after: stamp(0),
                root: text.clone(),
                evidence: Evidence::Kubernetes {
                    cluster: text.clone(),
                    pod: text.clone(),
                    node: Some(text),
                    jti: None,
                },
                lineage: Lineage::Begins,
                holder: "pod/main/2f1c".into(),
                caller: None,
            })),
            prev: Hash::ZERO,
        };
        assert!(line(&record).len() < MAX_LINE);
        assert_eq!(Record::read(&line(&record)).unwrap(), record);
        let too_long = format!("\"{}\"", "a".repeat(Text::MOST + 1));
        let changed = String::from_utf8(line(&records()[0])).unwrap().replace("\"main\"", &too_long);
        assert_eq!(Record::read(changed.as_bytes()), Err(Misread("cluster")));
    }
}

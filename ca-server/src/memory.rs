//! What the log says of certificates that have not ended: who holds which, and which tokens were used for which key.
//!
//! The log is the only store. At the start this is rebuilt from it; from then on each record that became durable is added.

use ca::attest::{Evidence, Holder, Lineage, Refusal, Replay, ReplayLimits, TokenUse};
use ca::log::{self, Record};
use ca::rotation::{self, RootId, Roster};
use identity::Svid;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

/// Holders that are counted one by one. Each costs some 300 bytes.
const MOST_HOLDERS: usize = 200_000;
/// Certificates whose lineage is known, old ones of a holder included.
const MOST_SERIALS: usize = 400_000;

/// The memory.
pub(crate) struct Memory {
    pub(crate) replay: Replay,
    pub(crate) roster: Roster,
    by_serial: HashMap<Box<str>, Held>,
    /// By lineage: when its newest certificate was issued, and when that ends.
    newest: HashMap<u64, (SystemTime, SystemTime)>,
    /// By holder: its newest lineage. A pod that is attested anew has lost its key with its memory.
    lineages: HashMap<Box<str>, u64>,
    /// By lineage: open watches, of which a holder that reconnects has two for a moment.
    watches: HashMap<u64, u32>,
    ends: BTreeSet<(SystemTime, Box<str>)>,
}

/// A certificate that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) lineage: Lineage,
    /// The root it chains to.
    pub(crate) root: RootId,
    /// When it was issued.
    pub(crate) issued: SystemTime,
    /// SHA-256 of its DER. Who has the key of a root can make another certificate under the same number, with any name.
    pub(crate) certificate: [u8; 32],
}

/// What is remembered of one certificate.
pub(crate) struct Leaf<'a> {
    pub(crate) serial: &'a str,
    pub(crate) id: &'a str,
    pub(crate) held: Held,
    pub(crate) not_after: SystemTime,
    /// The number of the bundle that was sent along with it; 0 where that is not known.
    pub(crate) sequence: u64,
}

impl Memory {
    /// An empty one. A token is good for `keys_of_token` keys.
    pub(crate) fn new(keys_of_token: usize) -> Self {
        Self {
            replay: Replay::new(ReplayLimits { keys_of_token, ..ReplayLimits::default() }),
            roster: Roster::new(MOST_HOLDERS),
            by_serial: HashMap::new(),
            newest: HashMap::new(),
            lineages: HashMap::new(),
            watches: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Takes in one record of the log, read back at `now`. `published` is the number of the bundle in force and the second in
    /// which it was published: whoever was issued a certificate after that second has it. In that second nobody knows which
    /// came first.
    pub(crate) fn recall(
        &mut self,
        record: &Record,
        issue: &log::Issue,
        published: (u64, SystemTime),
        now: SystemTime,
    ) {
        let (Some(root), Some(holder)) = (RootId::parse(issue.root.as_str()), Holder::parse(issue.holder.as_str()))
        else {
            // A record of the offline command with a root that has left: nobody will come to renew it.
            return;
        };
        let time = record.time.time();
        let (first, since) = match issue.lineage {
            log::Lineage::Begins => (record.seq, time),
            log::Lineage::Continues { first, since } => (first, since.time()),
        };
        if let log::Evidence::Kubernetes { cluster, pod, jti: Some(jti), .. } = &issue.evidence {
            let token = TokenUse {
                cluster: cluster.as_str(),
                pod_uid: pod.as_str(),
                jti_hash: *jti.as_bytes(),
                until: time + LONGEST_TOKEN,
            };
            // Full memory, or a token that has ended: either way there is nothing to hold it to.
            let _: Result<(), Refusal> = self.replay.remember(&token, issue.spki.as_bytes(), now);
        }
        if issue.not_after.time() < now {
            return;
        }
        self.remember(Leaf {
            serial: issue.serial.as_str(),
            id: issue.id.as_str(),
            held: Held {
                lineage: Lineage { record: first, since, holder },
                root,
                issued: time,
                certificate: *issue.certificate.as_bytes(),
            },
            not_after: issue.not_after.time(),
            sequence: if time >= published.1 + Duration::from_secs(1) { published.0 } else { 0 },
        });
    }

    /// A certificate was issued.
    pub(crate) fn remember(&mut self, leaf: Leaf<'_>) {
        self.roster.issued(rotation::Issue {
            lineage: leaf.held.lineage.record,
            id: leaf.id,
            root: leaf.held.root,
            not_after: leaf.not_after,
            sequence: leaf.sequence,
        });
        self.supersede(&leaf.held.lineage);
        if self.by_serial.len() >= MOST_SERIALS {
            // The one that ends first could only have been renewed for that much longer.
            if let Some((_, serial)) = self.ends.pop_first() {
                self.by_serial.remove(&serial);
            }
        }
        let newest = self.newest.entry(leaf.held.lineage.record).or_insert((leaf.held.issued, leaf.not_after));
        *newest = (newest.0.max(leaf.held.issued), newest.1.max(leaf.not_after));
        self.ends.insert((leaf.not_after, leaf.serial.into()));
        self.by_serial.insert(leaf.serial.into(), leaf.held);
    }

    /// Nobody waits for the lineage before, whose key is gone. It may only be an older one: records are read back newest
    /// segment first.
    fn supersede(&mut self, lineage: &Lineage) {
        let holder = lineage.holder.to_string();
        let newest = self.lineages.entry(holder.into()).or_insert(lineage.record);
        let older = (*newest).min(lineage.record);
        *newest = (*newest).max(lineage.record);
        if older != *newest {
            self.roster.goodbye(older);
        }
    }

    /// What is known of a certificate; nothing of one that is not, octet for octet, what was issued.
    pub(crate) fn held(&self, svid: &Svid) -> Option<&Held> {
        self.by_serial.get(svid.serial()).filter(|held| held.certificate == *svid.hash())
    }

    /// When the newest certificate of a lineage was issued.
    pub(crate) fn newest(&self, lineage: u64) -> Option<SystemTime> {
        self.newest.get(&lineage).map(|(issued, _)| *issued)
    }

    /// A watch of a lineage begins.
    pub(crate) fn watch(&mut self, lineage: u64) {
        let watches = self.watches.entry(lineage).or_default();
        *watches = watches.saturating_add(1);
        self.roster.watching(lineage, true);
    }

    /// A watch of a lineage has ended; the holder watches no more when it was the last.
    pub(crate) fn unwatch(&mut self, lineage: u64) {
        let left = self.watches.get_mut(&lineage).map_or(0, |watches| {
            *watches = watches.saturating_sub(1);
            *watches
        });
        if left == 0 {
            self.watches.remove(&lineage);
            self.roster.watching(lineage, false);
        }
    }

    /// How many certificates have not ended.
    pub(crate) fn len(&self) -> usize {
        self.by_serial.len()
    }

    /// Forgets those that have.
    pub(crate) fn expire(&mut self, now: SystemTime) {
        while let Some((end, serial)) = self.ends.pop_first() {
            if end >= now {
                self.ends.insert((end, serial));
                break;
            }
            self.by_serial.remove(&serial);
        }
        self.newest.retain(|_, (_, end)| *end >= now);
        let newest = &self.newest;
        self.lineages.retain(|_, lineage| newest.contains_key(lineage));
        self.roster.expire(now);
    }
}

/// Which evidence stands in the log.
pub(crate) fn evidence(evidence: &Evidence) -> Option<log::Evidence> {
    let text = log::Text::bounded;
    Some(match evidence {
        Evidence::Token(token) => log::Evidence::Kubernetes {
            cluster: text(&token.cluster),
            pod: text(&token.pod_uid),
            node: token.node.as_deref().map(text),
            jti: Some(log::Hash::from_bytes(token.jti_hash)),
        },
        Evidence::Join { token_id } => log::Evidence::JoinToken { token: text(token_id) },
        Evidence::Renewal { serial, .. } => log::Evidence::Renewal { renewed: log::Serial::parse(serial)? },
        Evidence::Operator => log::Evidence::Operator { user: text("operator") },
    })
}

/// The longest that a token may live by the rules of this server after it was used: a day, and what clocks may be apart at its
/// begin and at its end.
pub(crate) const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 3600 + 2 * 60);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ca::attest::Attested;
    use ca::log::{Event, Hash, Serial, Stamp, Text};
    use identity::{SpiffeId, TrustDomain};
    use std::time::UNIX_EPOCH;

    #[test]
    fn another_certificate_under_a_known_number_is_not_known() {
        let now = SystemTime::now();
        let authority = ca::Authority::init(&TrustDomain::parse("example.org").unwrap(), now).unwrap();
        let issuer = authority.intermediate(now).unwrap();
        let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
        let attested = Attested::by_operator(id.clone());
        let (issued, _) = issuer.issue_with_new_key(&attested, Duration::from_secs(3600), now).unwrap();
        let svid = Svid::from_leaf(&issued.leaf).unwrap();
        let known = |certificate| {
            let mut memory = Memory::new(1);
            let lineage = Lineage { record: 3, since: now, holder: attested.holder().clone() };
            memory.remember(Leaf {
                serial: svid.serial(),
                id: id.as_str(),
                held: Held { lineage, root: RootId::parse("0123456789abcdef").unwrap(), issued: now, certificate },
                not_after: issued.not_after,
                sequence: 1,
            });
            memory.held(&svid).is_some()
        };
        assert!(known(Svid::hash_of(&issued.leaf)));
        assert!(!known(Svid::hash_of(b"made with the key of a root, and with another name")));
    }

    #[test]
    fn who_was_issued_in_the_second_of_a_bundle_is_not_taken_to_know_it() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        for (issued, knows) in [(9_999, false), (10_000, false), (10_999, false), (11_000, true)] {
            let mut memory = Memory::new(4);
            let issue = log::Issue {
                serial: Serial::parse("0a").unwrap(),
                id: identity::SpiffeId::parse("spiffe://example.org/vm/db").unwrap(),
                spki: Hash::of(b"key"),
                certificate: Hash::of(b"leaf"),
                not_after: Stamp::of(at(60_000)),
                root: Text::bounded(&RootId::of_key(b"root").to_string()),
                evidence: log::Evidence::Operator { user: Text::bounded("uid 0") },
                lineage: log::Lineage::Begins,
                holder: Text::bounded("machine/80d83542f6e729619f52cc5b58964612"),
                caller: None,
            };
            let record = Record {
                seq: 1,
                time: Stamp::of(at(issued)),
                event: Event::Issued(Box::new(issue.clone())),
                prev: Hash::ZERO,
            };
            memory.recall(&record, &issue, (2, at(10_000)), at(12_000));
            assert_eq!(memory.len(), 1);
            let verdict = memory.roster.verdict(2, 1, at(12_000));
            assert_eq!(verdict.met().is_some(), knows, "{issued}: {verdict:?}");
        }
    }
}

//! Who is denied in an emergency, until their leaves have ended.
//!
//! In come entries of the operator: a SPIFFE ID, a serial number or the SHA-256 of a public key, with a reason
//! and an end. Out comes whether something is denied, for the issuer, and the list with its version, for the
//! watchers. Pure; the folder keeps it as `denied.json`. Entries end by themselves, so the list stays short: a
//! stolen certificate ends with its lifetime. Bounded, closed schema.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use identity::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::error::CaError;
use crate::store::{Folder, Lock};

/// What is denied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Denied {
    /// Every certificate of this name, and issuing it.
    Id(SpiffeId),
    /// The certificate of this serial number: lower-case hex without leading zero octets, as `Issued` has it.
    Serial(String),
    /// Every certificate with this key: SHA-256 of its DER SubjectPublicKeyInfo, in lower-case hex.
    Key(String),
}

impl Denied {
    /// Reads a value of one of the kinds `id`, `serial`, `key`.
    pub fn parse(kind: &str, value: &str) -> Result<Self, DenyError> {
        let hex = |octets: std::ops::RangeInclusive<usize>| {
            let digits = value.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            digits && value.len().is_multiple_of(2) && octets.contains(&(value.len() / 2))
        };
        match kind {
            "id" => SpiffeId::parse(value).map(Self::Id).map_err(|error| DenyError::Value(error.to_string())),
            "serial" if hex(1..=20) => Ok(Self::Serial(value.to_owned())),
            "serial" => Err(DenyError::Value("a serial number is 1 to 20 octets in lower-case hex".into())),
            "key" if hex(32..=32) => Ok(Self::Key(value.to_owned())),
            "key" => Err(DenyError::Value("a key is the SHA-256 of its SubjectPublicKeyInfo in lower-case hex".into())),
            _ => Err(DenyError::Value(format!("{kind:?} is none of id, serial, key"))),
        }
    }

    /// `id`, `serial` or `key`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Id(_) => "id",
            Self::Serial(_) => "serial",
            Self::Key(_) => "key",
        }
    }

    /// The name, the number or the hash.
    pub fn value(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Serial(text) | Self::Key(text) => text,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.value())
    }
}

/// The value of [`Denied::Key`] for a DER SubjectPublicKeyInfo.
pub fn key_sha256(spki_der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki_der);
    digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is denied.
    pub denied: Denied,
    /// Why, for those who find it later.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
    /// The last second.
    pub until: SystemTime,
}

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    version: u64,
    entries: HashMap<Denied, Terms>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    reason: String,
    since: u64,
    until: u64,
}

impl DenyList {
    /// The list of a CA's folder, read without its lock; an empty one of version 0 where there is none.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        Self::read(&Folder::open(dir)?)
    }

    /// Changes the list of a CA's folder: what `change` makes of it is on the disk when this returns. A server may
    /// run meanwhile; it notices by the file.
    pub fn change(dir: &Path, change: impl FnOnce(&Self) -> Result<Self, DenyError>) -> Result<Self, CaError> {
        let folder = Folder::open(dir)?;
        let lock = Lock::take_denied(dir)?;
        let before = Self::read(&folder)?;
        let next = change(&before)?;
        next.names_ours(&before, folder.trust_domain())?;
        folder.write_denied(&lock, next.to_json().as_bytes())?;
        Ok(next)
    }

    /// A name of another trust domain would deny nobody: in an emergency a slip must not look like the act.
    fn names_ours(&self, before: &Self, ours: &TrustDomain) -> Result<(), DenyError> {
        let new = self.entries.keys().filter(|denied| !before.entries.contains_key(denied));
        let elsewhere = new.filter_map(|denied| match denied {
            Denied::Id(id) if id.trust_domain() != ours.as_str() => Some(id),
            Denied::Id(_) | Denied::Serial(_) | Denied::Key(_) => None,
        });
        elsewhere.map(|id| DenyError::Elsewhere(id.clone(), ours.clone())).next().map_or(Ok(()), Err)
    }

    fn read(folder: &Folder) -> Result<Self, CaError> {
        let path = || folder.dir().join("denied.json");
        match folder.denied()? {
            None => Ok(Self::default()),
            Some(text) => Self::from_json(&text).map_err(|detail| CaError::Malformed { path: path(), detail }),
        }
    }

    /// Grows by one with each change; what a watcher compares.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The entry that denies one of these at `now`.
    pub fn find(
        &self,
        id: &SpiffeId,
        serial: Option<&str>,
        key_sha256: Option<&str>,
        now: SystemTime,
    ) -> Option<Entry> {
        if self.entries.is_empty() {
            return None;
        }
        let asked = [
            Some(Denied::Id(id.clone())),
            serial.map(|serial| Denied::Serial(serial.to_owned())),
            key_sha256.map(|key| Denied::Key(key.to_owned())),
        ];
        asked.into_iter().flatten().find_map(|denied| {
            let terms = self.entries.get(&denied)?;
            (terms.until >= seconds(now)).then(|| entry(&denied, terms))
        })
    }

    /// The entries that hold at `now`, sorted.
    pub fn entries(&self, now: SystemTime) -> Vec<Entry> {
        let live = self.entries.iter().filter(|(_, terms)| terms.until >= seconds(now));
        let mut entries: Vec<_> = live.map(|(denied, terms)| entry(denied, terms)).collect();
        entries.sort_by(|a, b| a.denied.cmp(&b.denied));
        entries
    }

    /// The list with one more entry. An entry for the same thing is replaced. Entries whose time is over go.
    pub fn add(&self, denied: Denied, reason: &str, until: SystemTime, now: SystemTime) -> Result<Self, DenyError> {
        if until <= now {
            return Err(DenyError::Past);
        }
        let printable = reason.chars().all(|c| !c.is_control());
        if reason.is_empty() || reason.len() > MAX_REASON || !printable {
            return Err(DenyError::Reason);
        }
        let mut next = self.pruned(now)?;
        let terms = Terms { reason: reason.to_owned(), since: seconds(now), until: seconds(until) };
        next.entries.insert(denied, terms);
        match next.entries.len() > MAX_ENTRIES {
            true => Err(DenyError::Full),
            false => Ok(next),
        }
    }

    /// The list without an entry.
    pub fn remove(&self, denied: &Denied, now: SystemTime) -> Result<Self, DenyError> {
        let mut next = self.pruned(now)?;
        match next.entries.remove(denied) {
            Some(_) => Ok(next),
            None => Err(DenyError::Absent),
        }
    }

    fn pruned(&self, now: SystemTime) -> Result<Self, DenyError> {
        let live = self.entries.iter().filter(|(_, terms)| terms.until >= seconds(now));
        let entries = live.map(|(denied, terms)| (denied.clone(), terms.clone())).collect();
        Ok(Self { version: self.version.checked_add(1).ok_or(DenyError::Full)?, entries })
    }

    /// The list as one JSON object; the same list is the same text.
    pub fn to_json(&self) -> String {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(denied, _)| *denied);
        let entries = entries.into_iter().map(|(denied, terms)| FileEntry {
            kind: denied.kind().to_owned(),
            value: denied.value().to_owned(),
            reason: terms.reason.clone(),
            since: terms.since,
            until: terms.until,
        });
        let file = File { schema: SCHEMA, version: self.version, entries: entries.collect() };
        serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
    }

    /// Reads what [`to_json`](Self::to_json) wrote. The error continues a sentence that begins with the file.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text).map_err(|error| format!("is not a deny list: {error}"))?;
        if file.schema != SCHEMA {
            return Err(format!("was written by another version (`schema` {})", file.schema));
        }
        if file.entries.len() > MAX_ENTRIES {
            return Err(format!("holds more than {MAX_ENTRIES} entries"));
        }
        let mut entries = HashMap::new();
        for entry in file.entries {
            let denied = Denied::parse(&entry.kind, &entry.value).map_err(|error| format!("is wrong: {error}"))?;
            let terms = Terms { reason: entry.reason, since: entry.since, until: entry.until };
            if terms.since.max(terms.until) > LATEST {
                return Err("holds a time beyond the calendar".to_owned());
            }
            if let Some(twice) = entries.insert(denied, terms).map(|_| entry.value) {
                return Err(format!("holds {twice:?} twice"));
            }
        }
        Ok(Self { version: file.version, entries })
    }
}

/// How long an entry holds unless the operator says otherwise: as long as any leaf can live, and the skew.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(crate::profile::INTERMEDIATE_LIFETIME.as_secs() + 600);

/// Why the list did not take or give an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenyError {
    /// The value is not one of its kind.
    Value(String),
    /// The reason is empty, too long or not printable.
    Reason,
    /// The end is not in the future.
    Past,
    /// There are too many entries.
    Full,
    /// There is no such entry.
    Absent,
    /// A name of another trust domain than this CA's.
    Elsewhere(SpiffeId, TrustDomain),
}

impl fmt::Display for DenyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(detail) => f.write_str(detail),
            Self::Reason => write!(f, "the reason is 1 to {MAX_REASON} bytes of printable text"),
            Self::Past => f.write_str("the end of the entry is not in the future"),
            Self::Full => write!(f, "the list holds {MAX_ENTRIES} entries; for more than that, rotate the root"),
            Self::Absent => f.write_str("there is no such entry"),
            Self::Elsewhere(id, ours) => {
                write!(f, "`{id}` is of another trust domain; this CA issues names of `{ours}`, and denies those")
            }
        }
    }
}

impl std::error::Error for DenyError {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    version: u64,
    entries: Vec<FileEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    kind: String,
    value: String,
    reason: String,
    since: u64,
    until: u64,
}

fn entry(denied: &Denied, terms: &Terms) -> Entry {
    Entry { denied: denied.clone(), reason: terms.reason.clone(), since: at(terms.since), until: at(terms.until) }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().min(LATEST)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST))
}

/// 9999-12-31 23:59:59, the last second of X.509 (RFC 5280 §4.1.2.5).
const LATEST: u64 = 253_402_300_799;

const SCHEMA: u32 = 1;

/// The list goes to every watcher whole; who has more to deny than this has lost a root.
pub const MAX_ENTRIES: usize = 10_000;

const MAX_REASON: usize = 256;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    fn web() -> SpiffeId {
        id("spiffe://example.org/ns/shop/sa/web")
    }

    fn list() -> DenyList {
        let key = "ab".repeat(32);
        let list = DenyList::default().add(Denied::Id(web()), "stolen", at(100), at(10)).unwrap();
        let list = list.add(Denied::parse("serial", "0a").unwrap(), "stolen", at(200), at(10)).unwrap();
        list.add(Denied::parse("key", &key).unwrap(), "weak", at(300), at(10)).unwrap()
    }

    #[test]
    fn each_kind_is_found_until_its_end() {
        let (list, db) = (list(), id("spiffe://example.org/ns/shop/sa/db"));
        let key = "ab".repeat(32);
        assert_eq!(list.find(&web(), None, None, at(100)).unwrap().reason, "stolen");
        assert_eq!(list.find(&web(), None, None, at(101)), None);
        assert_eq!(list.find(&db, Some("0a"), None, at(200)).unwrap().denied, Denied::Serial("0a".into()));
        assert_eq!(list.find(&db, None, Some(&key), at(300)).unwrap().until, at(300));
        assert_eq!(list.find(&db, Some("0b"), Some(&"ac".repeat(32)), at(10)), None);
        assert_eq!(list.entries(at(101)).len(), 2);
    }

    #[test]
    fn every_change_has_a_version_and_old_entries_go() {
        let list = list();
        assert_eq!(list.version(), 3);
        let after = list.remove(&Denied::Serial("0a".into()), at(150)).unwrap();
        assert_eq!((after.version(), after.entries.len()), (4, 1));
        assert_eq!(after.remove(&Denied::Id(web()), at(150)), Err(DenyError::Absent));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for (kind, value) in [
            ("id", "spiffe://Example.org/x"),
            ("serial", ""),
            ("serial", "0A"),
            ("serial", "abc"),
            ("serial", &"00".repeat(21)),
            ("key", "ab"),
            ("name", "x"),
        ] {
            assert!(matches!(Denied::parse(kind, value), Err(DenyError::Value(_))), "{kind} {value}");
        }
        let add = |reason: &str, until| DenyList::default().add(Denied::Id(web()), reason, at(until), at(10));
        assert_eq!(add("", 20), Err(DenyError::Reason));
        assert_eq!(add("a\nb", 20), Err(DenyError::Reason));
        assert_eq!(add(&"a".repeat(257), 20), Err(DenyError::Reason));
        assert_eq!(add("a", 10), Err(DenyError::Past));
    }

    #[test]
    fn the_list_is_bounded() {
        let entries = (0..MAX_ENTRIES).map(|n| (Denied::Serial(format!("{n:08x}")), 100));
        let terms = |until| Terms { reason: "x".into(), since: 0, until };
        let entries = entries.map(|(denied, until)| (denied, terms(until))).collect();
        let full = DenyList { version: 1, entries };
        assert_eq!(full.add(Denied::Id(web()), "x", at(90), at(10)), Err(DenyError::Full));
        // Replacing is possible, and so is adding when the others are over.
        full.add(Denied::Serial("00000000".into()), "x", at(90), at(10)).unwrap();
        assert_eq!(full.add(Denied::Id(web()), "x", at(190), at(101)).unwrap().entries.len(), 1);
        assert_eq!(DenyList::from_json(full.to_json().as_bytes()).unwrap(), full);
    }

    #[test]
    fn the_file_is_a_closed_schema() {
        let good = list().to_json();
        assert_eq!(DenyList::from_json(good.as_bytes()).unwrap(), list());
        let refused = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            DenyList::from_json(good.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        assert!(refused("\"schema\": 1", "\"schema\": 2").contains("another version"));
        assert!(refused("\"version\": 3", "\"version\": 3, \"x\": 1").contains("unknown field"));
        assert!(refused("\"kind\": \"serial\"", "\"kind\": \"serials\"").contains("none of"));
        assert!(refused("\"reason\"", "\"because\"").contains("unknown field"));
        assert!(refused("\"until\": 200", "\"until\": 253402300800").contains("calendar"));
        for end in 0..good.trim_end().len() {
            assert!(DenyList::from_json(&good.as_bytes()[..end]).is_err());
        }
    }
}

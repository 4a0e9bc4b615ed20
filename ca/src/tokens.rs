//! The folder of join tokens.
//!
//! ```text
//! ca/tokens/          0700
//!   <id>.json         0600, a token that may be used: its hash, name and end
//!   <id>.used         the same file under its second name, once it has been
//! ```
//! In come requests of the operator and tokens of machines; out come proofs. A token is used up by one hard link
//! from its first name to its second, which the file system grants once: of any number of racers one wins, and
//! a file that comes back from a backup loses to the mark that is already there. The mark is on the disk
//! before the proof exists, so a crash can burn a token and never free one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use identity::{SpiffeId, TrustDomain};

use crate::attest::join::{self, Record};
use crate::attest::{Admission, Attested, JoinToken, Refusal};
use crate::error::CaError;

/// The join tokens of one CA.
#[derive(Clone, Debug)]
pub struct Tokens {
    dir: PathBuf,
    trust_domain: TrustDomain,
}

/// A new token. The only time that it can be shown.
#[derive(Debug)]
pub struct Created {
    /// The token.
    pub token: JoinToken,
    /// Its public name, for [`Tokens::revoke`].
    pub id: String,
    /// Its end.
    pub expires: SystemTime,
}

/// What the operator can see of a token later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its public name.
    pub id: String,
    /// The name it is good for.
    pub spiffe_id: SpiffeId,
    /// When it was made.
    pub created: SystemTime,
    /// Its end.
    pub expires: SystemTime,
    /// Whether it has been used.
    pub used: bool,
}

impl Tokens {
    /// How long a token lives unless the operator says otherwise.
    pub const TTL: Duration = Duration::from_secs(600);

    /// Of the CA in this folder. Nothing is read or made yet.
    pub fn of(ca_folder: &Path, trust_domain: &TrustDomain) -> Self {
        Self { dir: ca_folder.join("tokens"), trust_domain: trust_domain.clone() }
    }

    /// Makes a token for one name from 32 random octets, alive for `ttl`, at most a day.
    pub fn create(&self, id: &SpiffeId, ttl: Duration, random: &[u8; 32], now: SystemTime) -> Result<Created, CaError> {
        if id.trust_domain() != self.trust_domain.as_str() {
            return Err(CaError::OtherDomain { id: id.clone(), trust_domain: self.trust_domain.as_str().to_owned() });
        }
        if id.path().is_empty() {
            return Err(CaError::NoPath(id.clone()));
        }
        if ttl.as_secs() == 0 || ttl > MAX_TTL {
            return Err(CaError::JoinToken("lives at least a second and at most a day"));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(|e| self.error("create", e))?;
        self.sweep(now)?;
        if self.list()?.len() >= MAX_TOKENS {
            return Err(CaError::JoinToken("is one too many; revoke some"));
        }
        let token = JoinToken::new(random);
        let record = Record::new(&token, id, ttl, now).ok_or(CaError::JoinToken("ends outside the calendar"))?;
        self.write(&record).map_err(|error| self.error("write", error))?;
        Ok(Created { id: record.id(), expires: record.expires, token })
    }

    /// All tokens that have not been swept away, by their public names.
    pub fn list(&self) -> Result<Vec<Listed>, CaError> {
        let mut listed: Vec<Listed> = Vec::new();
        for (id, used) in self.files()? {
            // Between reading the folder and the file it may have been used or revoked.
            let Some(record) = self.read(&self.path(&id, used)).map_err(|error| self.error("read", error))? else {
                continue;
            };
            // After a crash in between a token has both names, and has been used.
            if let Some(both) = listed.iter_mut().find(|other| other.id == id) {
                both.used = true;
                continue;
            }
            let Record { spiffe_id, created, expires, .. } = record;
            listed.push(Listed { id, spiffe_id, created, expires, used });
        }
        listed.sort_by(|one, two| one.id.cmp(&two.id));
        Ok(listed)
    }

    /// Takes a token back by its public name; whether it was there unused.
    pub fn revoke(&self, id: &str) -> Result<bool, CaError> {
        if !join::is_token_id(id) {
            return Err(CaError::JoinToken(
                "has a public name of 32 hex digits, as listed; the token itself is not it",
            ));
        }
        match fs::remove_file(self.path(id, false)) {
            Ok(()) => self.sync().map(|()| true).map_err(|error| self.error("write", error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.error("remove from", error)),
        }
    }

    /// Looks a presented token up, without using it: a request that is refused for something else leaves it.
    pub fn admit(&self, presented: &str, now: SystemTime) -> Result<Admission, Refusal> {
        let token = JoinToken::parse(presented)?;
        let id = token.id();
        if let Some(record) = self.read(&self.path(&id, true)).map_err(storage)? {
            return record.admit(&token, now).and(Err(Refusal::JoinUsed));
        }
        let record = self.read(&self.path(&id, false)).map_err(storage)?.ok_or(Refusal::JoinUnknown)?;
        // A file can be restored into the folder of another CA.
        if record.spiffe_id.trust_domain() != self.trust_domain.as_str() {
            return Err(Refusal::JoinUnknown);
        }
        record.admit(&token, now)
    }

    /// Uses a token up. Of several callers with one token one gets the proof.
    pub fn consume(&self, admission: Admission, now: SystemTime) -> Result<Attested, Refusal> {
        if now >= admission.expires() {
            return Err(Refusal::JoinExpired);
        }
        let id = admission.token_id();
        let (live, used) = (self.path(&id, false), self.path(&id, true));
        match fs::hard_link(&live, &used) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Refusal::JoinUsed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody else was faster: by using it, or by revoking it.
                let was_used = fs::symlink_metadata(&used).is_ok();
                return Err(if was_used { Refusal::JoinUsed } else { Refusal::JoinUnknown });
            }
            Err(error) => return Err(storage(error)),
        }
        match fs::remove_file(&live) {
            // Revoked after the link was made. The mark stays; nobody gets this token any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refusal::JoinUnknown),
            other => other.and_then(|()| self.sync()).map_err(storage)?,
        }
        Ok(admission.used_up())
    }

    /// Removes tokens and marks a day after their end, so that until then a late machine hears why; returns how
    /// many.
    pub fn sweep(&self, now: SystemTime) -> Result<usize, CaError> {
        let mut swept = 0;
        for (id, used) in self.files()? {
            let path = self.path(&id, used);
            let record = self.read(&path).map_err(|error| self.error("read", error))?;
            let over = record.and_then(|record| record.expires.checked_add(KEPT)).is_some_and(|end| now >= end);
            if over {
                match fs::remove_file(&path) {
                    Ok(()) => swept += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(self.error("remove from", error)),
                }
            }
        }
        Ok(swept)
    }

    /// Public names and whether used, of all files of ours; others are reported, except those being written.
    fn files(&self) -> Result<Vec<(String, bool)>, CaError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.error("read", error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| self.error("read", error))?.file_name();
            let name = name.to_str().unwrap_or_default();
            if name.starts_with('.') && name.ends_with(".new") {
                continue;
            }
            match name.split_once('.') {
                Some((id, "json")) if join::is_token_id(id) => files.push((id.to_owned(), false)),
                Some((id, "used")) if join::is_token_id(id) => files.push((id.to_owned(), true)),
                _ => {
                    let detail = format!("holds {name:?}, which is no token of ours");
                    return Err(CaError::Malformed { path: self.dir.clone(), detail });
                }
            }
        }
        Ok(files)
    }

    /// `None` when there is no such file.
    fn read(&self, path: &Path) -> io::Result<Option<Record>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut text)?;
        let own = |record: &Record| path.file_stem().and_then(|stem| stem.to_str()) == Some(&record.id());
        let record = Record::read(&text).filter(own);
        record.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a file of a token is damaged"))
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let id = record.id();
        let beside = self.dir.join(format!(".{id}.new"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let written = file
            .write_all(record.write().as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&beside, self.path(&id, false)));
        let removed = fs::remove_file(&beside);
        written.and(removed).and_then(|()| self.sync())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self, id: &str, used: bool) -> PathBuf {
        self.dir.join(format!("{id}.{}", if used { "used" } else { "json" }))
    }

    fn error(&self, verb: &'static str, error: io::Error) -> CaError {
        CaError::Io { verb, path: self.dir.clone(), error }
    }
}

fn storage(error: io::Error) -> Refusal {
    Refusal::JoinStorage(error.to_string())
}

const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
const KEPT: Duration = Duration::from_secs(24 * 3600);
const MAX_TOKENS: usize = 10_000;

/// A record with the longest name is below 2.5 KiB.
const MAX_FILE: u64 = 4 << 10;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Barrier;
    use tempfile::TempDir;

    const TEN_MINUTES: Duration = Tokens::TTL;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn name() -> SpiffeId {
        SpiffeId::parse("spiffe://example.org/host/db-1").unwrap()
    }

    fn folder() -> (TempDir, Tokens) {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::of(dir.path(), &TrustDomain::parse("example.org").unwrap());
        (dir, tokens)
    }

    fn create(tokens: &Tokens, random: u8) -> Created {
        tokens.create(&name(), TEN_MINUTES, &[random; 32], now()).unwrap()
    }

    fn refused(tokens: &Tokens, token: &JoinToken, now: SystemTime) -> Refusal {
        tokens.admit(token.secret(), now).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_token_is_good_once() {
        let (_dir, tokens) = folder();
        let created = create(&tokens, 1);
        let admission = tokens.admit(created.token.secret(), now()).unwrap();
        let second = tokens.admit(created.token.secret(), now()).unwrap();
        assert_eq!(admission.spiffe_id(), &name());
        let attested = tokens.consume(admission, now()).unwrap();
        assert_eq!(attested.id(), &name());
        assert_eq!(tokens.consume(second, now()), Err(Refusal::JoinUsed));
        assert_eq!(refused(&tokens, &created.token, now()), Refusal::JoinUsed);
        assert_eq!(tokens.list().unwrap().iter().map(|token| token.used).collect::<Vec<_>>(), [true]);
    }

    #[test]
    fn of_many_racers_one_wins() {
        for round in 0..20 {
            let (_dir, tokens) = folder();
            let created = create(&tokens, round);
            let start = Barrier::new(8);
            let wins: usize = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            let admission = tokens.admit(created.token.secret(), now()).unwrap();
                            start.wait();
                            usize::from(tokens.consume(admission, now()).is_ok())
                        })
                    })
                    .collect();
                racers.into_iter().map(|racer| racer.join().unwrap()).sum()
            });
            assert_eq!(wins, 1);
        }
    }

    #[test]
    fn a_file_from_a_backup_does_not_bring_a_used_token_back() {
        let (dir, tokens) = folder();
        let created = create(&tokens, 1);
        let path = dir.path().join("tokens").join(format!("{}.json", created.id));
        let backup = fs::read(&path).unwrap();
        let early = tokens.admit(created.token.secret(), now()).unwrap();
        let late = tokens.admit(created.token.secret(), now()).unwrap();
        assert!(tokens.consume(early, now()).is_ok());
        fs::write(&path, backup).unwrap();
        assert_eq!(refused(&tokens, &created.token, now()), Refusal::JoinUsed);
        assert_eq!(tokens.consume(late, now()), Err(Refusal::JoinUsed));
        assert_eq!(tokens.list().unwrap().iter().map(|token| token.used).collect::<Vec<_>>(), [true]);
    }

    #[test]
    fn what_ends_ends() {
        let (_dir, tokens) = folder();
        let created = create(&tokens, 1);
        let end = now() + TEN_MINUTES;
        assert_eq!(created.expires, end);
        let admission = tokens.admit(created.token.secret(), end - Duration::from_secs(1)).unwrap();
        assert_eq!(refused(&tokens, &created.token, end), Refusal::JoinExpired);
        assert_eq!(tokens.consume(admission, end), Err(Refusal::JoinExpired));
        assert_eq!(tokens.sweep(end + KEPT - Duration::from_secs(1)).unwrap(), 0);
        assert_eq!(tokens.sweep(end + KEPT).unwrap(), 1);
        assert_eq!(refused(&tokens, &created.token, now()), Refusal::JoinUnknown);
    }

    #[test]
    fn the_mark_of_a_used_token_outlives_it() {
        let (_dir, tokens) = folder();
        let created = create(&tokens, 1);
        let admission = tokens.admit(created.token.secret(), now()).unwrap();
        assert!(tokens.consume(admission, now()).is_ok());
        assert_eq!(tokens.sweep(now() + TEN_MINUTES).unwrap(), 0);
        assert_eq!(refused(&tokens, &created.token, now()), Refusal::JoinUsed);
        assert_eq!(tokens.sweep(now() + TEN_MINUTES + KEPT).unwrap(), 1);
    }

    #[test]
    fn a_token_taken_back_is_unknown() {
        let (_dir, tokens) = folder();
        let created = create(&tokens, 1);
        let admission = tokens.admit(created.token.secret(), now()).unwrap();
        assert!(tokens.revoke(&created.id).unwrap());
        assert!(!tokens.revoke(&created.id).unwrap());
        assert_eq!(tokens.consume(admission, now()), Err(Refusal::JoinUnknown));
        assert_eq!(refused(&tokens, &created.token, now()), Refusal::JoinUnknown);
        for id in ["", "../root", created.token.secret(), &created.id.to_uppercase()] {
            assert!(matches!(tokens.revoke(id), Err(CaError::JoinToken(_))), "{id}");
        }
    }

    #[test]
    fn the_folder_holds_no_secret_and_is_closed_to_others() {
        let (dir, tokens) = folder();
        let created = create(&tokens, 1);
        let folder = dir.path().join("tokens");
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        let files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files, [folder.join(format!("{}.json", created.id))]);
        assert_eq!(fs::metadata(&files[0]).unwrap().mode() & 0o7777, 0o600);
        let text = fs::read_to_string(&files[0]).unwrap();
        let random = created.token.secret().rsplit('-').next().unwrap();
        assert!(!text.contains(random) && !files[0].to_str().unwrap().contains(random));
        let listed = tokens.list().unwrap();
        let [one] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((&one.id, &one.spiffe_id, one.created, one.used), (&created.id, &name(), now(), false));
    }

    #[test]
    fn tokens_are_for_names_of_ours_and_for_a_while() {
        let (_dir, tokens) = folder();
        let create = |id: &str, ttl| {
            tokens.create(&SpiffeId::parse(id).unwrap(), Duration::from_secs(ttl), &[1; 32], now()).unwrap_err()
        };
        assert!(matches!(create("spiffe://example.com/x", 60), CaError::OtherDomain { .. }));
        assert!(matches!(create("spiffe://example.org", 60), CaError::NoPath(_)));
        assert!(matches!(create("spiffe://example.org/x", 0), CaError::JoinToken(_)));
        assert!(matches!(create("spiffe://example.org/x", 86_401), CaError::JoinToken(_)));
        assert!(tokens.list().unwrap().is_empty());
        // The same random octets again would be the same token.
        self::create(&tokens, 1);
        assert!(matches!(create("spiffe://example.org/x", 60), CaError::Io { .. }));
    }

    #[test]
    fn strange_and_damaged_files_are_said() {
        let (dir, tokens) = folder();
        let created = create(&tokens, 1);
        let other = create(&tokens, 2);
        let path = |id: &str| dir.path().join("tokens").join(format!("{id}.json"));
        // A record under the name of another.
        fs::copy(path(&other.id), path(&created.id)).unwrap();
        assert!(matches!(refused(&tokens, &created.token, now()), Refusal::JoinStorage(_)));
        fs::write(path(&created.id), "{").unwrap();
        assert!(matches!(refused(&tokens, &created.token, now()), Refusal::JoinStorage(_)));
        assert!(matches!(tokens.list(), Err(CaError::Io { .. })));
        fs::write(dir.path().join("tokens").join("notes.txt"), "").unwrap();
        assert!(matches!(tokens.list(), Err(CaError::Malformed { .. })));
        assert!(tokens.admit(other.token.secret(), now()).is_ok());
        // A folder of another trust domain.
        let elsewhere = Tokens::of(dir.path(), &TrustDomain::parse("example.com").unwrap());
        assert_eq!(refused(&elsewhere, &other.token, now()), Refusal::JoinUnknown);
    }
}

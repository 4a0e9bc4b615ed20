//! A rotation that survives its process: the folder and the state machine together.
//!
//! In come a folder and the operator's or the server's wish; out comes the folder after it, or as it was. Each
//! step first puts down what it needs, then replaces `state.json`, which is the moment it has happened, then
//! clears up. Whoever is killed in between finds the old state or the new one, and both are whole. The folder's
//! lock is held as long as this value lives, so a server and a command never both change it. Expired roots may
//! be opened here: getting out of an expiry is one of the things this is for.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use identity::TrustDomain;

use crate::authority::{Authority, open_certificate, open_root};
use crate::error::CaError;
use crate::profile::ROOT_LIFETIME;
use crate::root::Root;
use crate::rotation::{Advice, Cleared, Go, LastLeaf, Phase, RootId, Rotation, Schedule};
use crate::store::{Folder, Keys, Lock, RootFiles};

/// A CA's folder, held for changes.
#[derive(Debug)]
pub struct RotatingFolder {
    folder: Folder,
    rotation: Rotation,
    lock: Lock,
}

impl RotatingFolder {
    /// Opens a folder and takes its lock; clears up what a killed process left.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let folder = Folder::open(dir)?;
        let lock = Lock::take(dir)?;
        let rotation = folder.state()?;
        let opened = Self { folder, rotation, lock };
        for root in opened.rotation.bundle() {
            open_certificate(&opened.folder, root)?;
        }
        opened.folder.sweep(&opened.lock, &opened.rotation)?;
        Ok(opened)
    }

    /// The state on the disk.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// The trust domain of the roots.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.folder.trust_domain()
    }

    /// The roots as they are now; refused when the one that issues may not at `now`.
    pub fn authority(&self, keys: Keys<'_>, now: SystemTime) -> Result<Authority, CaError> {
        Authority::of(&self.folder, self.rotation.clone(), keys, now)
    }

    /// Founds a second root, with a key encrypted like the first's, and brings it into the bundle. The key is
    /// written into the folder; who keeps keys in a mounted Secret moves it there before it issues.
    pub fn prepare(&mut self, keys: Keys<'_>, now: SystemTime) -> Result<(), CaError> {
        // The passphrase must be the one in use, or the next start could not open both. A key that is lost is a
        // reason to rotate, not against it.
        match open_root(&self.folder, self.rotation.issuing(), keys) {
            Err(CaError::KeyAbsent { .. }) => {}
            Err(CaError::Io { error, path, .. })
                if error.kind() == io::ErrorKind::NotFound && Some(&*path) != keys.secret => {}
            other => drop(other?),
        }
        let root = Root::found(self.folder.trust_domain(), ROOT_LIFETIME, now)?;
        let next = self.rotation.prepare(root.certificate.as_new(), now)?;
        self.add(&root, keys)?;
        self.commit(next)
    }

    /// Lets the prepared root issue. Refused when its key cannot be opened.
    pub fn activate(&mut self, go: Go, splay: Duration, keys: Keys<'_>, now: SystemTime) -> Result<(), CaError> {
        let next = self.rotation.activate(go, splay, now)?;
        open_root(&self.folder, next.issuing(), keys)?;
        self.commit(next)
    }

    /// One step back. Refused when the key of the root that would issue cannot be opened.
    pub fn rollback(
        &mut self,
        last_leaf: impl Fn(RootId) -> LastLeaf,
        schedule: &Schedule,
        keys: Keys<'_>,
        now: SystemTime,
    ) -> Result<(), CaError> {
        let leaving = self.rotation.next().map_or(LastLeaf::Unknown, last_leaf);
        let next = self.rotation.rollback(leaving, schedule, now)?;
        open_root(&self.folder, next.issuing(), keys)?;
        self.commit(next)
    }

    /// Takes roots out of the bundle whose time has come.
    pub fn finish(
        &mut self,
        last_leaf: impl Fn(RootId) -> LastLeaf,
        cleared: &[Cleared],
        schedule: &Schedule,
        now: SystemTime,
    ) -> Result<(), CaError> {
        let next = self.rotation.finish(last_leaf, cleared, schedule, now)?;
        self.commit(next)
    }

    /// Marks a root as compromised; founds another where none waits to take over.
    pub fn compromise(
        &mut self,
        root: RootId,
        leave_by: SystemTime,
        splay: Duration,
        keys: Keys<'_>,
        now: SystemTime,
    ) -> Result<(), CaError> {
        let replacement = match self.rotation.needs_replacement(root) {
            true => Some(Root::found(self.folder.trust_domain(), ROOT_LIFETIME, now)?),
            false => None,
        };
        let new = replacement.as_ref().map(|root| root.certificate.as_new());
        let next = self.rotation.compromise(root, new, leave_by, splay, now)?;
        match &replacement {
            Some(root) => self.add(root, keys)?,
            None => drop(open_root(&self.folder, next.issuing(), keys)?),
        }
        self.commit(next)
    }

    /// Gives the bundle a number above `known`, after an old folder was restored.
    pub fn resume_above(&mut self, known: u64, now: SystemTime) -> Result<(), CaError> {
        let next = self.rotation.resume_above(known, now)?;
        self.commit(next)
    }

    /// The way out when the root that issues has expired: lets a root issue that is valid, and founds one where
    /// none is. Answers with what was done, in order; nothing when nothing has expired. Nobody is waited for,
    /// since nobody holds a valid leaf of an expired root.
    pub fn recover(&mut self, schedule: &Schedule, keys: Keys<'_>, now: SystemTime) -> Result<Vec<Recovery>, CaError> {
        let mut done = Vec::new();
        let expired = |rotation: &Rotation, root| rotation.not_after(root).is_none_or(|end| end < now);
        if !expired(&self.rotation, self.rotation.issuing()) {
            return Ok(done);
        }
        if self.rotation.next().is_some_and(|next| expired(&self.rotation, next)) {
            self.rollback(|_| LastLeaf::Unknown, schedule, keys, now)?;
            done.push(Recovery::DroppedNext);
        }
        if self.rotation.phase() == Phase::Activated {
            // A retiring root that is still valid is the better one to go on with.
            let mut retiring = self.rotation.retiring();
            let old = retiring.next().filter(|root| !expired(&self.rotation, *root));
            let old = old.filter(|root| self.rotation.leaves_by(*root).is_none() && retiring.next().is_none());
            if let Some(old) = old {
                drop(retiring);
                self.rollback(|_| LastLeaf::Unknown, schedule, keys, now)?;
                done.push(Recovery::RolledBack(old));
                return Ok(done);
            }
            drop(retiring);
            if self.finish(|_| LastLeaf::Unknown, &[], schedule, now).is_ok() {
                done.push(Recovery::Finished);
            }
        }
        if self.rotation.phase() == Phase::Activated {
            // Others must stay a while. The expired one is treated as if it were known: another issues at once.
            self.compromise(self.rotation.issuing(), now, schedule.splay, keys, now)?;
            let heir = self.rotation.issuing();
            done.extend([Recovery::Founded(heir), Recovery::Activated(heir)]);
            return Ok(done);
        }
        if self.rotation.next().is_none() {
            self.prepare(keys, now)?;
            done.extend(self.rotation.next().map(Recovery::Founded));
        }
        let unasked = Go::Override { left_out: Vec::new(), total: Some(0) };
        self.activate(unasked, schedule.splay, keys, now)?;
        done.push(Recovery::Activated(self.rotation.issuing()));
        // Refused until clocks that are behind have passed the end as well.
        if self.finish(|_| LastLeaf::Unknown, &[], schedule, now).is_ok() {
            done.push(Recovery::Finished);
        }
        Ok(done)
    }

    fn add(&self, root: &Root, keys: Keys<'_>) -> Result<(), CaError> {
        let certificate = &root.certificate;
        let files =
            RootFiles { id: certificate.id, pem: &certificate.pem, key: root.key_der(), passphrase: keys.passphrase };
        self.folder.add_root(&self.lock, &files)
    }

    fn commit(&mut self, next: Rotation) -> Result<(), CaError> {
        if let Err(error) = self.folder.write_state(&self.lock, &next) {
            // The disk knows whether it has happened; memory must not believe otherwise.
            if let Ok(state) = self.folder.state() {
                self.rotation = state;
            }
            return Err(error);
        }
        self.rotation = next;
        // The step has happened. What cannot be cleared up now is when the folder is opened next.
        let _ = self.folder.sweep(&self.lock, &self.rotation);
        Ok(())
    }
}

/// What [`RotatingFolder::recover`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The prepared root had expired as well, and is out of the bundle.
    DroppedNext,
    /// The retiring root is still valid and issues again.
    RolledBack(RootId),
    /// A new root was founded.
    Founded(RootId),
    /// This root issues now.
    Activated(RootId),
    /// Expired roots left the bundle.
    Finished,
}

/// What `status` says of a folder. Read without the lock: a server may run.
#[derive(Debug)]
pub struct Report {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The state.
    pub rotation: Rotation,
    /// What should happen, most urgent first.
    pub advice: Vec<Advice>,
    /// Every root's first and last second, in the bundle's order.
    pub roots: Vec<(RootId, SystemTime, SystemTime)>,
    /// The bundle as PEM.
    pub bundle_pem: String,
}

impl Report {
    /// Reads a folder, expired or not.
    pub fn read(
        dir: &Path,
        last_leaf: impl Fn(RootId) -> LastLeaf,
        schedule: &Schedule,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let folder = Folder::open(dir)?;
        let rotation = folder.state()?;
        let mut roots = Vec::new();
        let mut bundle_pem = String::new();
        let mut life = Duration::ZERO;
        for root in rotation.bundle() {
            let certificate = open_certificate(&folder, root)?;
            if root == rotation.issuing() {
                life = certificate.validity.length();
            }
            roots.push((root, certificate.validity.not_before, certificate.validity.not_after));
            bundle_pem.push_str(&certificate.pem);
        }
        let advice = rotation.advice(life, last_leaf, schedule, now);
        Ok(Self { trust_domain: folder.trust_domain().clone(), rotation, advice, roots, bundle_pem })
    }
}

#[cfg(test)]
mod tests;

//! How one root takes the place of another: the state machine.
//!
//! In come a state, what the operator or the server wants, and the time; out comes the next state, or a sentence
//! that says why not yet. Pure: files are [`crate::RotatingFolder`]'s, acknowledgements are [`Roster`]'s.
//!
//! ```text
//!            prepare                activate                 finish
//! Steady{A} ─────────▶ Prepared{A,B} ─────────▶ Activated{B,A} ─────────▶ Steady{B}
//!     ▲   bundle A+B, A issues  │  ▲   bundle B+A, B issues  │          bundle B
//!     └───────── rollback ──────┘  └──────── rollback ───────┘
//!     └───── compromise of A: bundle B+A, B issues at once, A leaves by a set time ─────▶
//! ```
//! What always holds: the root that issues is in the bundle; a root leaves the bundle only when every leaf that
//! chains to it has ended, or because it is compromised; the sequence grows by one with each change of the
//! bundle's content or order, and with nothing else.

mod advice;
mod file;
mod holders;

pub use advice::{Advice, Schedule};
pub use holders::{Awaited, Cleared, GateMet, Issue, MAX_NACK, Roster, Verdict};

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::profile::INTERMEDIATE_LIFETIME;

/// The name of a root: the first 8 octets of the SHA-256 of its DER SubjectPublicKeyInfo, in lower-case hex. It
/// is also in the root's subject and the name of its folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId([u8; 8]);

impl RootId {
    /// The name of the root with this DER SubjectPublicKeyInfo.
    pub fn of_key(spki_der: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki_der);
        let mut octets = [0; 8];
        octets.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(octets)
    }

    /// Reads 16 lower-case hex digits; nothing else is a name.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 16 || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootId({self})")
    }
}

/// A root as the state machine sees it. Times are whole seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    id: RootId,
    not_after: u64,
    /// When it last stopped issuing; `None` when it never issued, or issues now.
    stopped: Option<u64>,
}

impl Root {
    /// The last second in which a leaf of a root that no longer issues can be valid: an intermediate was made
    /// before the root stopped, and no leaf outlives its intermediate or its root. `None`: it never issued.
    fn leaves_end_by(&self) -> Option<u64> {
        self.stopped.map(|stopped| stopped.saturating_add(INTERMEDIATE_LIFETIME.as_secs()).min(self.not_after))
    }
}

/// A root that issues no more and waits to leave the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Retiring {
    root: Root,
    /// Set when the root is compromised: it leaves at this second, whoever still holds leaves of it.
    leave_by: Option<u64>,
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// One root, which issues.
    Steady,
    /// A second root is in the bundle and does not issue. Waits for everybody to know it.
    Prepared,
    /// The new root issues; older ones are in the bundle until their last leaf has ended.
    Activated,
}

impl Phase {
    /// As written in files and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Prepared => "prepared",
            Self::Activated => "activated",
        }
    }
}

/// The request to everybody to renew before their half life, since another root issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renew {
    since: u64,
    splay: u64,
}

impl Renew {
    /// A leaf issued before this time is to be renewed. Also serves as the number of the request: a watcher
    /// that has acted on one `since` does not act on it again.
    pub fn since(&self) -> SystemTime {
        at(self.since)
    }

    /// Over how long the renewals are spread.
    pub fn splay(&self) -> Duration {
        Duration::from_secs(self.splay)
    }

    /// How long one holder waits after it heard the request: its random number's part of the splay, so that
    /// not everybody comes at once.
    pub fn delay(&self, random: u32) -> Duration {
        let millis = u128::from(self.splay) * 1000 * u128::from(random) / (u128::from(u32::MAX) + 1);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// Why the new root was let issue; kept in the state for whoever asks later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Every holder of an unexpired leaf knew the new root.
    Gate,
    /// The operator went ahead. Who did not know the new root yet: the names that were known, at most
    /// [`MAX_NAMED`], and how many there were in all, when anybody could know.
    Override {
        /// SPIFFE IDs.
        left_out: Vec<String>,
        /// How many in all; `None` where nobody was there to count.
        total: Option<u64>,
    },
    /// The root before it is compromised; nobody was waited for.
    Compromise,
}

/// The evidence with which `activate` is asked for.
#[derive(Clone, Debug)]
pub enum Go {
    /// The gate's own proof.
    Met(GateMet),
    /// The operator's word, with who is left out as far as known.
    Override {
        /// SPIFFE IDs of those who are known not to know the new root.
        left_out: Vec<String>,
        /// How many there are in all; `None` where nobody can count, as without a server.
        total: Option<u64>,
    },
}

/// What is known of the last leaf that chains to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLeaf {
    /// Nothing: the bound from the intermediate's life stands.
    Unknown,
    /// The log has none that is unexpired.
    None,
    /// The log's latest ends at this time.
    Ends(SystemTime),
}

/// A root for [`Rotation::prepare`] or [`Rotation::compromise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRoot {
    /// Its name.
    pub id: RootId,
    /// Its last second.
    pub not_after: SystemTime,
}

/// The state of a trust domain's roots: which are in the bundle, in which order, which issues, since when.
///
/// Each method that changes something answers with the next state and leaves this one as it is; the caller
/// makes the next one durable before anybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    sequence: u64,
    /// When this sequence was published.
    published: u64,
    issuing: Root,
    /// Invariant: present only when `retiring` is empty.
    next: Option<Root>,
    retiring: Vec<Retiring>,
    renew: Option<Renew>,
    passed: Option<Passed>,
}

impl Rotation {
    /// The state of a new CA: one root, sequence 1.
    pub fn founded(root: NewRoot, now: SystemTime) -> Self {
        Self {
            sequence: 1,
            published: seconds(now),
            issuing: fresh(root),
            next: None,
            retiring: Vec::new(),
            renew: None,
            passed: None,
        }
    }

    /// Where the rotation stands.
    pub fn phase(&self) -> Phase {
        match (&self.next, self.retiring.is_empty()) {
            (Some(_), _) => Phase::Prepared,
            (None, false) => Phase::Activated,
            (None, true) => Phase::Steady,
        }
    }

    /// The bundle's number (SPIFFE bundle format, `spiffe_sequence`).
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the bundle of this number was published.
    pub fn published(&self) -> SystemTime {
        at(self.published)
    }

    /// The root that signs intermediates.
    pub fn issuing(&self) -> RootId {
        self.issuing.id
    }

    /// The root that waits to issue.
    pub fn next(&self) -> Option<RootId> {
        self.next.as_ref().map(|root| root.id)
    }

    /// The roots that wait to leave the bundle.
    pub fn retiring(&self) -> impl Iterator<Item = RootId> {
        self.retiring.iter().map(|retiring| retiring.root.id)
    }

    /// When a compromised root leaves; `None` when the root is not known as compromised.
    pub fn leaves_by(&self, root: RootId) -> Option<SystemTime> {
        self.retiring.iter().find(|retiring| retiring.root.id == root)?.leave_by.map(at)
    }

    /// The roots in the order of the bundle: the one that issues first.
    pub fn bundle(&self) -> Vec<RootId> {
        let rest = self.next.iter().chain(self.retiring.iter().map(|retiring| &retiring.root));
        std::iter::once(&self.issuing).chain(rest).map(|root| root.id).collect()
    }

    /// The last second of a root of the bundle.
    pub fn not_after(&self, root: RootId) -> Option<SystemTime> {
        self.roots().find(|candidate| candidate.id == root).map(|root| at(root.not_after))
    }

    /// The request to renew early, while one stands.
    pub fn renew(&self) -> Option<Renew> {
        self.renew
    }

    /// Why the root that issues now was let, while others retire.
    pub fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// Brings a second root into the bundle.
    pub fn prepare(&self, root: NewRoot, now: SystemTime) -> Result<Self, Refused> {
        match self.phase() {
            Phase::Steady => {}
            Phase::Prepared => return Err(Refused::AlreadyPrepared),
            Phase::Activated => return Err(Refused::StillRetiring),
        }
        self.check_new(root, now)?;
        Ok(Self { next: Some(fresh(root)), passed: None, renew: None, ..self.published_anew(now)? })
    }

    /// Lets the new root issue, when everybody knows it or the operator says so; asks everybody to renew within
    /// `splay`.
    pub fn activate(&self, go: Go, splay: Duration, now: SystemTime) -> Result<Self, Refused> {
        let next = self.next.clone().ok_or(Refused::NotPrepared)?;
        if next.not_after <= seconds(now) {
            return Err(Refused::Expired(next.id));
        }
        let passed = match go {
            Go::Met(met) if met.sequence() != self.sequence => return Err(Refused::OtherGate),
            Go::Met(_) => Passed::Gate,
            Go::Override { left_out, total } => {
                let named = left_out.into_iter().filter(|name| name.len() <= MAX_NAME);
                let left_out = named.take(MAX_NAMED).collect();
                Passed::Override { left_out, total }
            }
        };
        let retiring = vec![Retiring { root: self.issuing.stopped(now), leave_by: None }];
        self.reign(next, retiring, passed, splay, now)
    }

    /// One step back: from prepared to the old root alone, from activated to prepared.
    ///
    /// `last_leaf` is that of the root that would leave: one that has issued does not leave before its leaves.
    pub fn rollback(&self, last_leaf: LastLeaf, schedule: &Schedule, now: SystemTime) -> Result<Self, Refused> {
        if let Some(next) = &self.next {
            let until = leaves_until(next, last_leaf, schedule.skew);
            if seconds(now) <= until {
                return Err(Refused::LeavesLive { root: next.id, until: at(until) });
            }
            return Ok(Self { next: None, renew: None, passed: None, ..self.published_anew(now)? });
        }
        let (old, others) = self.retiring.split_first().ok_or(Refused::NothingToRollBack)?;
        if !others.is_empty() || old.leave_by.is_some() {
            return Err(Refused::Compromised);
        }
        if old.root.not_after <= seconds(now) {
            return Err(Refused::Expired(old.root.id));
        }
        Ok(Self {
            issuing: Root { stopped: None, ..old.root.clone() },
            next: Some(self.issuing.stopped(now)),
            retiring: Vec::new(),
            renew: Some(Renew { since: seconds(now), splay: schedule.splay.as_secs() }),
            passed: None,
            ..self.published_anew(now)?
        })
    }

    /// Takes every retiring root out of the bundle whose time has come: its last leaf and the skew are past, or
    /// it is compromised and its time is up, or it is compromised and `cleared` proves that everybody moved on.
    pub fn finish(
        &self,
        last_leaf: impl Fn(RootId) -> LastLeaf,
        cleared: &[Cleared],
        schedule: &Schedule,
        now: SystemTime,
    ) -> Result<Self, Refused> {
        let until = |retiring: &Retiring| {
            let root = &retiring.root;
            let leaves = leaves_until(root, last_leaf(root.id), schedule.skew);
            retiring.leave_by.map_or(leaves, |leave_by| leave_by.min(leaves))
        };
        let proven = |retiring: &Retiring| {
            retiring.leave_by.is_some() && cleared.iter().any(|proof| proof.root() == retiring.root.id)
        };
        let stays = |retiring: &&Retiring| !proven(retiring) && seconds(now) <= until(retiring);
        let staying: Vec<Retiring> = self.retiring.iter().filter(stays).cloned().collect();
        if staying.len() == self.retiring.len() {
            let first = self.retiring.iter().min_by_key(|retiring| until(retiring));
            return Err(first.map_or(Refused::NothingRetires, |retiring| Refused::LeavesLive {
                root: retiring.root.id,
                until: at(until(retiring)),
            }));
        }
        let over = staying.is_empty();
        Ok(Self {
            retiring: staying,
            renew: self.renew.filter(|_| !over),
            passed: self.passed.clone().filter(|_| !over),
            ..self.published_anew(now)?
        })
    }

    /// Marks a root as known to others. It stops issuing at once and leaves the bundle at `leave_by`, or earlier
    /// when nobody holds a leaf of it any more; everybody is asked to renew within `splay`.
    ///
    /// A `replacement` is needed when the root that issues is compromised and no other waits to issue. It must
    /// not be given where it is not needed: a key that lies about unused is one more to lose.
    pub fn compromise(
        &self,
        root: RootId,
        replacement: Option<NewRoot>,
        leave_by: SystemTime,
        splay: Duration,
        now: SystemTime,
    ) -> Result<Self, Refused> {
        let leave_by = seconds(leave_by);
        if !self.roots().any(|candidate| candidate.id == root) {
            return Err(Refused::UnknownRoot(root));
        }
        match (self.needs_replacement(root), replacement) {
            (true, None) => return Err(Refused::NeedsReplacement(root)),
            (false, Some(_)) => return Err(Refused::ReplacementUnused),
            (true, Some(replacement)) => self.check_new(replacement, now)?,
            (false, None) => {}
        }
        if root == self.issuing.id {
            let tainted = Retiring { root: self.issuing.stopped(now), leave_by: Some(leave_by) };
            let heir = replacement.map(fresh).or_else(|| self.next.clone()).ok_or(Refused::NeedsReplacement(root))?;
            if heir.not_after <= seconds(now) {
                return Err(Refused::Expired(heir.id));
            }
            let heir = Root { stopped: None, ..heir };
            let retiring = std::iter::once(tainted).chain(self.retiring.iter().cloned()).collect();
            return self.reign(heir, retiring, Passed::Compromise, splay, now);
        }
        if let Some(next) = self.next.as_ref().filter(|next| next.id == root) {
            if next.stopped.is_none() {
                // It never issued: nothing in the world depends on it.
                return Ok(Self { next: None, renew: None, passed: None, ..self.published_anew(now)? });
            }
            // From a rollback: it has leaves, whose holders are to renew under the root that issues.
            return Ok(Self {
                next: None,
                retiring: vec![Retiring { root: next.clone(), leave_by: Some(leave_by) }],
                renew: Some(Renew { since: seconds(now), splay: splay.as_secs() }),
                passed: Some(Passed::Compromise),
                ..self.clone()
            });
        }
        // The bundle stays as it is until the root leaves, so the sequence does too.
        let mut after = self.clone();
        for retiring in after.retiring.iter_mut().filter(|retiring| retiring.root.id == root) {
            retiring.leave_by = Some(retiring.leave_by.map_or(leave_by, |before| before.min(leave_by)));
        }
        after.renew = Some(Renew { since: seconds(now), splay: splay.as_secs() });
        Ok(after)
    }

    /// Whether [`compromise`](Self::compromise) of this root asks for a new one.
    pub fn needs_replacement(&self, root: RootId) -> bool {
        root == self.issuing.id && self.next.is_none()
    }

    /// The same roots under a number above `known`: after an old state was restored, readers that have seen a
    /// higher number would refuse ours as going backwards (SPIFFE bundle format, `spiffe_sequence`).
    pub fn resume_above(&self, known: u64, now: SystemTime) -> Result<Self, Refused> {
        let sequence = known.max(self.sequence).checked_add(1).ok_or(Refused::SequenceSpent)?;
        Ok(Self { sequence, published: seconds(now), ..self.clone() })
    }

    fn reign(
        &self,
        heir: Root,
        retiring: Vec<Retiring>,
        passed: Passed,
        splay: Duration,
        now: SystemTime,
    ) -> Result<Self, Refused> {
        if retiring.len() > MAX_RETIRING {
            return Err(Refused::TooManyRoots);
        }
        Ok(Self {
            issuing: Root { stopped: None, ..heir },
            next: None,
            retiring,
            renew: Some(Renew { since: seconds(now), splay: splay.as_secs() }),
            passed: Some(passed),
            ..self.published_anew(now)?
        })
    }

    fn check_new(&self, root: NewRoot, now: SystemTime) -> Result<(), Refused> {
        if self.roots().any(|candidate| candidate.id == root.id) {
            return Err(Refused::KnownRoot(root.id));
        }
        if root.not_after <= now {
            return Err(Refused::Expired(root.id));
        }
        Ok(())
    }

    fn published_anew(&self, now: SystemTime) -> Result<Self, Refused> {
        let sequence = self.sequence.checked_add(1).ok_or(Refused::SequenceSpent)?;
        Ok(Self { sequence, published: seconds(now), ..self.clone() })
    }

    fn roots(&self) -> impl Iterator<Item = &Root> {
        let rest = self.next.iter().chain(self.retiring.iter().map(|retiring| &retiring.root));
        std::iter::once(&self.issuing).chain(rest)
    }
}

impl Root {
    fn stopped(&self, now: SystemTime) -> Self {
        Self { stopped: Some(seconds(now)), ..self.clone() }
    }
}

/// Until when a root that does not issue must stay, for the sake of its leaves; 0 when it has none.
fn leaves_until(root: &Root, last_leaf: LastLeaf, skew: Duration) -> u64 {
    let Some(bound) = root.leaves_end_by() else {
        return 0;
    };
    match last_leaf {
        LastLeaf::None => 0,
        LastLeaf::Unknown => bound.saturating_add(skew.as_secs()),
        LastLeaf::Ends(end) => bound.min(seconds(end)).saturating_add(skew.as_secs()),
    }
}

/// Why a step is not possible. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A root waits already.
    AlreadyPrepared,
    /// A rotation is not over.
    StillRetiring,
    /// No root waits to issue.
    NotPrepared,
    /// The gate's proof is about another bundle.
    OtherGate,
    /// The root would issue nothing that is valid.
    Expired(RootId),
    /// The root is in the bundle already.
    KnownRoot(RootId),
    /// The root is not in the bundle.
    UnknownRoot(RootId),
    /// Nothing has been changed that could be taken back.
    NothingToRollBack,
    /// The root to go back to is compromised, or there are several.
    Compromised,
    /// No root waits to leave.
    NothingRetires,
    /// Leaves of the root are in use, or may be.
    LeavesLive {
        /// The root.
        root: RootId,
        /// The last second in which one of them may be valid somewhere.
        until: SystemTime,
    },
    /// No root waits that could take over.
    NeedsReplacement(RootId),
    /// A root waits or issues that can take over.
    ReplacementUnused,
    /// The bundle would grow beyond its bound.
    TooManyRoots,
    /// The bundle's number cannot grow any more.
    SequenceSpent,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyPrepared => f.write_str("a new root is prepared already; activate it or roll back first"),
            Self::StillRetiring => f.write_str("the last rotation is not over; finish it or roll back first"),
            Self::NotPrepared => f.write_str("no new root is prepared; prepare one first"),
            Self::OtherGate => f.write_str("the acknowledgements are of another bundle than the one in force"),
            Self::Expired(root) => write!(f, "root {root} has expired; nothing it signs is valid"),
            Self::KnownRoot(root) => write!(f, "root {root} is in the bundle already"),
            Self::UnknownRoot(root) => write!(f, "root {root} is not in the bundle"),
            Self::NothingToRollBack => f.write_str("no rotation is under way that could be rolled back"),
            Self::Compromised => {
                f.write_str("the root before is compromised, or there are several: there is no way back, only `finish`")
            }
            Self::NothingRetires => f.write_str("no root waits to leave the bundle"),
            Self::LeavesLive { root, until } => write!(
                f,
                "certificates of root {root} may be in use until {}; it stays in the bundle until then",
                crate::error::Utc(*until)
            ),
            Self::NeedsReplacement(root) => write!(f, "root {root} issues and no other waits; found a new one with it"),
            Self::ReplacementUnused => f.write_str("another root can take over already; none is to be founded"),
            Self::TooManyRoots => f.write_str("too many roots are retiring; finish first"),
            Self::SequenceSpent => f.write_str("the bundle's sequence number cannot grow any more"),
        }
    }
}

impl std::error::Error for Refused {}

fn fresh(root: NewRoot) -> Root {
    Root { id: root.id, not_after: seconds(root.not_after), stopped: None }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().min(LATEST)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST))
}

/// 9999-12-31 23:59:59, the last second of X.509 (RFC 5280 §4.1.2.5).
const LATEST: u64 = 253_402_300_799;

/// At most so many names of those left out are kept; the count is of all.
pub const MAX_NAMED: usize = 20;

/// The longest SPIFFE ID (SPIFFE-ID §2.3).
const MAX_NAME: usize = 2048;

/// Roots that retire at once. Two are the ordinary case; the rest is for compromises during a rotation.
const MAX_RETIRING: usize = 8;

#[cfg(test)]
mod tests;

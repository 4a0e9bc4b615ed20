//! The persisted rotation: whole histories, and a death at every change of the disk.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::denied::{Denied, DenyList};
use crate::rotation::{Phase, Refused};
use crate::store::{kill_after, revive};
use std::fs;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn found(dir: &Path) {
    let domain = TrustDomain::parse("example.org").unwrap();
    Authority::init(&domain, now()).unwrap().save(dir, None).unwrap();
}

fn unasked() -> Go {
    Go::Override { left_out: Vec::new(), total: None }
}

/// One step of a rotation, long after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Prepare,
    Activate,
    Rollback,
    Finish,
    Compromise,
}

impl Step {
    fn take(self, folder: &mut RotatingFolder) -> Result<(), CaError> {
        let (keys, schedule, splay) = (Keys::default(), Schedule::default(), Duration::ZERO);
        match self {
            Self::Prepare => folder.prepare(keys, now()),
            Self::Activate => folder.activate(unasked(), splay, keys, now()),
            Self::Rollback => folder.rollback(|_| LastLeaf::Unknown, &schedule, keys, now() + 30 * DAY),
            Self::Finish => folder.finish(|_| LastLeaf::Unknown, &[], &schedule, now() + 60 * DAY),
            Self::Compromise => {
                let root = folder.rotation().issuing();
                folder.compromise(root, now(), splay, keys, now())
            }
        }
    }
}

/// What comes before the step that is killed, and the step.
const HISTORIES: [(&[Step], Step); 8] = [
    (&[], Step::Prepare),
    (&[Step::Prepare], Step::Activate),
    (&[Step::Prepare], Step::Rollback),
    (&[Step::Prepare, Step::Activate], Step::Rollback),
    (&[Step::Prepare, Step::Activate], Step::Finish),
    (&[], Step::Compromise),
    (&[Step::Prepare], Step::Compromise),
    (&[Step::Compromise], Step::Finish),
];

fn live_through(dir: &Path, history: &[Step]) -> Rotation {
    found(dir);
    let mut folder = RotatingFolder::open(dir).unwrap();
    for step in history {
        step.take(&mut folder).unwrap();
    }
    folder.rotation().clone()
}

#[test]
fn a_death_at_any_change_of_the_disk_leaves_the_old_state_or_the_new_one() {
    for (history, step) in HISTORIES {
        let (mut deaths, mut before_it, mut after_it) = (0, 0, 0);
        loop {
            let dir = tempfile::tempdir().unwrap();
            let before = live_through(dir.path(), history);
            let mut folder = RotatingFolder::open(dir.path()).unwrap();
            kill_after(deaths);
            let taken = step.take(&mut folder);
            let struck = revive();
            let believed = folder.rotation().clone();
            drop(folder);

            let mut folder = RotatingFolder::open(dir.path()).unwrap();
            assert_eq!(believed, *folder.rotation(), "memory and disk");
            folder.authority(Keys::default(), now()).unwrap().intermediate(now()).unwrap();
            let happened = *folder.rotation() != before;
            // What was answered with success has happened.
            assert!(happened || taken.is_err());
            match happened {
                true => after_it += 1,
                false => {
                    before_it += 1;
                    step.take(&mut folder).unwrap();
                }
            }
            // Exactly the roots of the state are among the roots.
            let mut names: Vec<_> = fs::read_dir(dir.path().join("roots"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let mut roots: Vec<_> = folder.rotation().bundle().iter().map(ToString::to_string).collect();
            roots.sort();
            assert_eq!(names, roots, "{history:?} {step:?} after {deaths}");
            if !struck {
                taken.unwrap();
                break;
            }
            deaths += 1;
        }
        assert!(before_it >= 5 && after_it >= 1, "{history:?} {step:?}: {before_it} {after_it}");
    }
}

#[test]
fn the_active_root_signs_and_the_bundle_has_the_states_order() {
    let dir = tempfile::tempdir().unwrap();
    let state = live_through(dir.path(), &[Step::Prepare, Step::Activate]);
    assert_eq!(state.phase(), Phase::Activated);
    let authority = Authority::load(dir.path(), None, now()).unwrap();
    assert_eq!(authority.root_id(), state.issuing());
    assert_eq!(authority.bundle().roots().len(), 2);
    assert!(authority.bundle_pem().starts_with(&authority.root_pem()));
    assert_eq!(authority.rotation().sequence(), 3);
    let id = identity::SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
    let (issued, _) = authority
        .intermediate(now())
        .unwrap()
        .issue_with_new_key(&crate::attest::Attested::by_operator(id), DAY, now())
        .unwrap();
    let alone = identity::Bundle::from_pem(authority.trust_domain().clone(), authority.root_pem().as_bytes()).unwrap();
    let chain: Vec<_> = pem::parse_many(issued.chain_pem()).unwrap();
    let chain: Vec<_> = chain.into_iter().map(|pem| identity::CertificateDer::from(pem.into_contents())).collect();
    identity::verify(&chain, &alone, identity::Usage::Client, now()).unwrap();
}

#[test]
fn state_and_roots_must_fit() {
    let dir = tempfile::tempdir().unwrap();
    let state = live_through(dir.path(), &[Step::Prepare]);
    let root = |root: RootId| dir.path().join("roots").join(root.to_string());
    let (issuing, next) = (root(state.issuing()), root(state.next().unwrap()));
    fs::rename(next.join("root.key"), next.join("elsewhere")).unwrap();
    assert!(matches!(Authority::load(dir.path(), None, now()), Err(CaError::Io { .. })), "the next root's key");
    fs::rename(next.join("elsewhere"), next.join("root.key")).unwrap();
    fs::copy(next.join("root.pem"), issuing.join("root.pem")).unwrap();
    assert!(matches!(Authority::load(dir.path(), None, now()), Err(CaError::OtherRoot { .. })));
    assert!(matches!(RotatingFolder::open(dir.path()), Err(CaError::OtherRoot { .. })));
    fs::remove_dir_all(&issuing).unwrap();
    assert!(matches!(Authority::load(dir.path(), None, now()), Err(CaError::Io { .. })));
}

#[test]
fn a_retiring_root_may_have_lost_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let state = live_through(dir.path(), &[Step::Compromise]);
    let old = state.retiring().next().unwrap();
    fs::remove_file(dir.path().join("roots").join(old.to_string()).join("root.key")).unwrap();
    Authority::load(dir.path(), None, now()).unwrap();
}

#[test]
fn a_root_that_left_is_put_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    let before = live_through(dir.path(), &[]).issuing();
    let mut folder = RotatingFolder::open(dir.path()).unwrap();
    for step in [Step::Prepare, Step::Activate, Step::Finish] {
        step.take(&mut folder).unwrap();
    }
    let aside = dir.path().join("retired").join(before.to_string());
    assert!(aside.join("root.pem").is_file() && aside.join("root.key").is_file());
    assert_eq!(folder.rotation().bundle().len(), 1);
}

#[test]
fn only_one_process_changes_the_folder_and_readers_are_not_kept_away() {
    let dir = tempfile::tempdir().unwrap();
    found(dir.path());
    let held = RotatingFolder::open(dir.path()).unwrap();
    assert!(matches!(RotatingFolder::open(dir.path()), Err(CaError::Locked(_))));
    Authority::load(dir.path(), None, now()).unwrap();
    Report::read(dir.path(), |_| LastLeaf::Unknown, &Schedule::default(), now()).unwrap();
    drop(held);
    RotatingFolder::open(dir.path()).unwrap();
}

#[test]
fn an_expired_root_can_still_be_rotated_away() {
    let dir = tempfile::tempdir().unwrap();
    found(dir.path());
    let late = now() + 4000 * DAY;
    assert!(matches!(Authority::load(dir.path(), None, late), Err(CaError::Expired(_))));
    let report = Report::read(dir.path(), |_| LastLeaf::Unknown, &Schedule::default(), late).unwrap();
    assert_eq!(report.advice[0], Advice::Expired(report.rotation.issuing()));
    let mut folder = RotatingFolder::open(dir.path()).unwrap();
    folder.prepare(Keys::default(), late).unwrap();
    folder.activate(unasked(), Duration::ZERO, Keys::default(), late).unwrap();
    // Its leaves ended when it did.
    folder.finish(|_| LastLeaf::Unknown, &[], &Schedule::default(), late).unwrap();
    drop(folder);
    Authority::load(dir.path(), None, late).unwrap().intermediate(late).unwrap();
}

#[test]
fn a_new_root_has_the_passphrase_of_the_first_or_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let domain = TrustDomain::parse("example.org").unwrap();
    Authority::init(&domain, now()).unwrap().save(dir.path(), Some(b"right")).unwrap();
    let mut folder = RotatingFolder::open(dir.path()).unwrap();
    let with = |passphrase| Keys { passphrase, secret: None };
    assert!(matches!(folder.prepare(with(None), now()), Err(CaError::PassphraseNeeded)));
    assert!(matches!(folder.prepare(with(Some(b"wrong")), now()), Err(CaError::PassphraseWrong)));
    assert_eq!(folder.rotation().phase(), Phase::Steady);
    folder.prepare(with(Some(b"right")), now()).unwrap();
    folder.authority(with(Some(b"right")), now()).unwrap();
    let refused = folder.prepare(with(Some(b"right")), now());
    assert!(matches!(refused, Err(CaError::Refused(Refused::AlreadyPrepared))));
}

#[test]
fn the_deny_list_is_replaced_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    found(dir.path());
    // A server holds the folder.
    let _held = RotatingFolder::open(dir.path()).unwrap();
    let add = |list: &DenyList, number: u32| {
        let denied = Denied::parse("serial", &format!("{number:04x}")).unwrap();
        list.add(denied, "stolen", now() + DAY, now())
    };
    let mut list = DenyList::load(dir.path()).unwrap();
    let mut deaths = 0;
    loop {
        kill_after(deaths);
        let written = DenyList::change(dir.path(), |list| add(list, deaths));
        let struck = revive();
        let read = DenyList::load(dir.path()).unwrap();
        match read == list {
            true => drop(written.unwrap_err()),
            false => assert_eq!(read, add(&list, deaths).unwrap()),
        }
        list = read;
        if !struck {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 5);
    fs::write(dir.path().join("denied.json"), "{}").unwrap();
    assert!(matches!(DenyList::load(dir.path()), Err(CaError::Malformed { .. })));
}

#[test]
fn recovery_finds_the_way_out_of_an_expiry_from_every_state() {
    let schedule = Schedule::default();
    let late = now() + 4000 * DAY;
    let recover = |history: &[Step]| {
        let dir = tempfile::tempdir().unwrap();
        live_through(dir.path(), history);
        let mut folder = RotatingFolder::open(dir.path()).unwrap();
        assert_eq!(folder.recover(&schedule, Keys::default(), now()).unwrap(), [], "nothing has expired");
        let done = folder.recover(&schedule, Keys::default(), late).unwrap();
        folder.authority(Keys::default(), late).unwrap().intermediate(late).unwrap();
        assert_eq!(folder.rotation().phase(), Phase::Steady);
        let kinds = done.iter().map(|step| match step {
            Recovery::DroppedNext => 'd',
            Recovery::RolledBack(_) => 'r',
            Recovery::Founded(_) => 'f',
            Recovery::Activated(_) => 'a',
            Recovery::Finished => 'e',
        });
        kinds.collect::<String>()
    };
    assert_eq!(recover(&[]), "fae");
    assert_eq!(recover(&[Step::Prepare]), "dfae");
    assert_eq!(recover(&[Step::Prepare, Step::Activate]), "efae");
    assert_eq!(recover(&[Step::Compromise]), "efae");
}

/// A second after the end, clocks that are behind may still use leaves of the roots before.
#[test]
fn recovery_does_not_wait_for_what_must_stay_a_while() {
    let dir = tempfile::tempdir().unwrap();
    live_through(dir.path(), &[Step::Prepare]);
    let mut folder = RotatingFolder::open(dir.path()).unwrap();
    let just = now() + ROOT_LIFETIME + Duration::from_secs(1);
    folder.activate(unasked(), Duration::ZERO, Keys::default(), just - DAY).unwrap();
    let before = folder.rotation().clone();
    let done = folder.recover(&Schedule::default(), Keys::default(), just).unwrap();
    let heir = folder.rotation().issuing();
    assert_eq!(done, [Recovery::Founded(heir), Recovery::Activated(heir)]);
    assert_eq!(folder.rotation().bundle(), [vec![heir], before.bundle()].concat());
    folder.authority(Keys::default(), just).unwrap().intermediate(just).unwrap();
    folder.finish(|_| LastLeaf::Unknown, &[], &Schedule::default(), just + DAY).unwrap();
    assert_eq!(folder.rotation().phase(), Phase::Steady);
}

#[test]
fn a_lost_key_is_rotated_away_and_a_prepared_root_outlives_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = live_through(dir.path(), &[]).issuing();
    fs::remove_file(dir.path().join("roots").join(first.to_string()).join("root.key")).unwrap();
    let mut folder = RotatingFolder::open(dir.path()).unwrap();
    let soon = now() + 3650 * DAY;
    folder.prepare(Keys::default(), soon).unwrap();
    // The first has ended, the second has not.
    let late = soon + 10 * DAY;
    let done = folder.recover(&Schedule::default(), Keys::default(), late).unwrap();
    assert_eq!(done, [Recovery::Activated(folder.rotation().issuing()), Recovery::Finished]);
}

//! The machine over random histories, and each refusal by name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;

fn root(number: u16) -> NewRoot {
    NewRoot { id: RootId::of_key(&number.to_be_bytes()), not_after: at(400 * DAY) }
}

fn id(number: u16) -> RootId {
    root(number).id
}

fn schedule() -> Schedule {
    Schedule::default()
}

fn unasked() -> Go {
    Go::Override { left_out: Vec::new(), total: None }
}

fn steady() -> Rotation {
    Rotation::founded(root(1), at(1000))
}

fn prepared() -> Rotation {
    steady().prepare(root(2), at(2000)).unwrap()
}

fn activated() -> Rotation {
    prepared().activate(unasked(), schedule().splay, at(3000)).unwrap()
}

#[test]
fn an_ordinary_rotation_is_a_then_ab_then_ba_then_b() {
    let state = steady();
    assert_eq!((state.phase(), state.bundle(), state.sequence()), (Phase::Steady, vec![id(1)], 1));
    let state = state.prepare(root(2), at(2000)).unwrap();
    assert_eq!((state.phase(), state.bundle(), state.sequence()), (Phase::Prepared, vec![id(1), id(2)], 2));
    assert_eq!((state.issuing(), state.renew()), (id(1), None));
    let mut roster = Roster::new(10);
    let met = roster.verdict(state.sequence(), 10, at(3000)).met().unwrap();
    let state = state.activate(Go::Met(met), schedule().splay, at(3000)).unwrap();
    assert_eq!((state.phase(), state.bundle(), state.sequence()), (Phase::Activated, vec![id(2), id(1)], 3));
    assert_eq!((state.issuing(), state.passed()), (id(2), Some(&Passed::Gate)));
    assert_eq!(state.renew().unwrap().since(), at(3000));
    let ends = |end| move |_| LastLeaf::Ends(at(end));
    let early = state.finish(ends(9000), &[], &schedule(), at(9600)).unwrap_err();
    assert_eq!(early, Refused::LeavesLive { root: id(1), until: at(9600) });
    let state = state.finish(ends(9000), &[], &schedule(), at(9601)).unwrap();
    assert_eq!((state.phase(), state.bundle(), state.sequence()), (Phase::Steady, vec![id(2)], 4));
    assert_eq!((state.renew(), state.passed()), (None, None));
}

#[test]
fn without_a_log_a_root_stays_as_long_as_any_intermediate_of_it_could() {
    let until = 3000 + WEEK + 600;
    let finish = |now| activated().finish(|_| LastLeaf::Unknown, &[], &schedule(), at(now));
    assert_eq!(finish(until).unwrap_err(), Refused::LeavesLive { root: id(1), until: at(until) });
    assert_eq!(finish(until + 1).unwrap().phase(), Phase::Steady);
    // A log that claims more than can be is not waited for beyond the bound.
    assert!(activated().finish(|_| LastLeaf::Ends(at(99 * DAY)), &[], &schedule(), at(until + 1)).is_ok());
}

#[test]
fn there_is_a_way_back_from_each_step() {
    let back = prepared().rollback(LastLeaf::Unknown, &schedule(), at(2500)).unwrap();
    assert_eq!((back.phase(), back.bundle(), back.sequence()), (Phase::Steady, vec![id(1)], 3));
    let back = activated().rollback(LastLeaf::Unknown, &schedule(), at(4000)).unwrap();
    assert_eq!((back.phase(), back.bundle(), back.sequence()), (Phase::Prepared, vec![id(1), id(2)], 4));
    assert_eq!((back.issuing(), back.next()), (id(1), Some(id(2))));
    // The second root has issued by now, and stays for the sake of its leaves.
    let until = at(4000 + WEEK + 600);
    let early = back.rollback(LastLeaf::Unknown, &schedule(), until).unwrap_err();
    assert_eq!(early, Refused::LeavesLive { root: id(2), until });
    let back = back.rollback(LastLeaf::None, &schedule(), at(4001)).unwrap();
    assert_eq!((back.phase(), back.bundle()), (Phase::Steady, vec![id(1)]));
}

#[test]
fn what_is_not_the_moment_is_refused_by_name() {
    let splay = schedule().splay;
    let now = at(5000);
    assert_eq!(prepared().prepare(root(3), now), Err(Refused::AlreadyPrepared));
    assert_eq!(activated().prepare(root(3), now), Err(Refused::StillRetiring));
    assert_eq!(steady().prepare(root(1), now), Err(Refused::KnownRoot(id(1))));
    assert_eq!(steady().prepare(NewRoot { not_after: now, ..root(2) }, now), Err(Refused::Expired(id(2))));
    assert_eq!(steady().activate(unasked(), splay, now), Err(Refused::NotPrepared));
    assert_eq!(activated().activate(unasked(), splay, now), Err(Refused::NotPrepared));
    assert_eq!(prepared().activate(unasked(), splay, at(400 * DAY)), Err(Refused::Expired(id(2))));
    let other = Roster::new(1).verdict(1, 1, now).met().unwrap();
    assert_eq!(prepared().activate(Go::Met(other), splay, now), Err(Refused::OtherGate));
    assert_eq!(steady().rollback(LastLeaf::None, &schedule(), now), Err(Refused::NothingToRollBack));
    assert_eq!(steady().finish(|_| LastLeaf::None, &[], &schedule(), now), Err(Refused::NothingRetires));
    assert_eq!(prepared().finish(|_| LastLeaf::None, &[], &schedule(), now), Err(Refused::NothingRetires));
    let taint = |state: Rotation, which, new| state.compromise(which, new, now, splay, now);
    assert_eq!(taint(steady(), id(9), None), Err(Refused::UnknownRoot(id(9))));
    assert_eq!(taint(steady(), id(1), None), Err(Refused::NeedsReplacement(id(1))));
    assert_eq!(taint(steady(), id(1), Some(root(1))), Err(Refused::KnownRoot(id(1))));
    assert_eq!(taint(prepared(), id(1), Some(root(3))), Err(Refused::ReplacementUnused));
    let tainted = taint(activated(), id(1), None).unwrap();
    assert_eq!(tainted.rollback(LastLeaf::None, &schedule(), now), Err(Refused::Compromised));
    let mut crowded = steady();
    for number in 2..=9 {
        crowded = taint(crowded.clone(), crowded.issuing(), Some(root(number))).unwrap();
    }
    assert_eq!(taint(crowded, id(9), Some(root(10))), Err(Refused::TooManyRoots));
    let last = Rotation { sequence: u64::MAX, ..steady() };
    assert_eq!(last.prepare(root(2), now), Err(Refused::SequenceSpent));
}

#[test]
fn a_compromised_root_stops_at_once_and_leaves_by_its_time_or_when_everybody_moved_on() {
    let leave_by = at(4000);
    let splay = schedule().splay_compromised;
    let state = steady().compromise(id(1), Some(root(2)), leave_by, splay, at(3000)).unwrap();
    assert_eq!((state.issuing(), state.bundle(), state.sequence()), (id(2), vec![id(2), id(1)], 2));
    assert_eq!((state.passed(), state.leaves_by(id(1))), (Some(&Passed::Compromise), Some(leave_by)));
    assert_eq!(state.renew().unwrap().splay(), splay);
    let live = |_| LastLeaf::Ends(at(90_000));
    assert_eq!(
        state.finish(live, &[], &schedule(), at(4000)),
        Err(Refused::LeavesLive { root: id(1), until: leave_by })
    );
    assert_eq!(state.finish(live, &[], &schedule(), at(4001)).unwrap().bundle(), [id(2)]);
    let cleared = Roster::new(1).cleared(id(1), at(3001)).unwrap();
    assert_eq!(state.finish(live, &[cleared], &schedule(), at(3001)).unwrap().bundle(), [id(2)]);
    // The proof serves compromised roots alone: an ordinary one waits for its leaves.
    assert!(activated().finish(live, &[cleared], &schedule(), at(3001)).is_err());
}

#[test]
fn a_compromise_is_answered_from_every_state() {
    let splay = schedule().splay_compromised;
    let taint = |state: &Rotation, which, new| state.compromise(which, new, at(9000), splay, at(5000)).unwrap();
    // The old root while a new one waits: the new one takes over.
    let state = taint(&prepared(), id(1), None);
    assert_eq!((state.issuing(), state.bundle()), (id(2), vec![id(2), id(1)]));
    // The new root before it issued: it goes without a trace.
    let state = taint(&prepared(), id(2), None);
    assert_eq!((state.phase(), state.bundle(), state.sequence()), (Phase::Steady, vec![id(1)], 3));
    // The new root after a rollback: it has leaves.
    let back = activated().rollback(LastLeaf::Unknown, &schedule(), at(4000)).unwrap();
    let state = taint(&back, id(2), None);
    assert_eq!((state.phase(), state.bundle(), state.sequence()), (Phase::Activated, vec![id(1), id(2)], 4));
    // The old root while it retires: sooner, never later.
    let state = taint(&activated(), id(1), None);
    assert_eq!((state.leaves_by(id(1)), state.sequence()), (Some(at(9000)), 3));
    let state = state.compromise(id(1), None, at(9999), splay, at(5000)).unwrap();
    assert_eq!(state.leaves_by(id(1)), Some(at(9000)));
    // The new root while the old one retires: a third takes over.
    let state = taint(&activated(), id(2), Some(root(3)));
    assert_eq!((state.issuing(), state.bundle()), (id(3), vec![id(3), id(2), id(1)]));
    assert_eq!((state.leaves_by(id(2)), state.leaves_by(id(1))), (Some(at(9000)), None));
}

#[test]
fn a_restored_state_goes_on_above_what_was_seen() {
    let state = steady().resume_above(41, at(1)).unwrap();
    assert_eq!((state.sequence(), state.bundle()), (42, vec![id(1)]));
    assert_eq!(prepared().resume_above(0, at(1)).unwrap().sequence(), 3);
    assert_eq!(steady().resume_above(u64::MAX, at(1)), Err(Refused::SequenceSpent));
}

#[test]
fn renewals_are_spread_over_the_splay() {
    let renew = Renew { since: 0, splay: 600 };
    assert_eq!(renew.delay(0), Duration::ZERO);
    assert_eq!(renew.delay(1 << 31), Duration::from_secs(300));
    assert!(renew.delay(u32::MAX) < Duration::from_secs(600));
    assert!(renew.delay(u32::MAX) > Duration::from_secs(599));
    assert_eq!(Renew { since: 0, splay: 0 }.delay(u32::MAX), Duration::ZERO);
}

#[test]
fn names_of_roots_are_sixteen_digits() {
    let name = id(1).to_string();
    assert_eq!(RootId::parse(&name), Some(id(1)));
    for wrong in ["", "0", "+123456789abcdef", "0123456789ABCDEF", "0123456789abcdef0", "../../../../etc/x"] {
        assert_eq!(RootId::parse(wrong), None, "{wrong}");
    }
}

#[derive(Clone, Debug)]
enum Event {
    Prepare,
    Activate,
    Rollback,
    Finish,
    Compromise(prop::sample::Index, u64),
    Issue(u64),
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Prepare),
        Just(Event::Activate),
        Just(Event::Rollback),
        Just(Event::Finish),
        (any::<prop::sample::Index>(), 0..3 * DAY).prop_map(|(which, by)| Event::Compromise(which, by)),
        (1..WEEK).prop_map(Event::Issue),
        (1..2 * DAY).prop_map(Event::Later),
    ]
}

/// A world around the machine: what leaves there really are, and what a log would say.
struct World {
    state: Rotation,
    now: u64,
    roots: u16,
    leaves: BTreeMap<RootId, u64>,
    compromised: Vec<RootId>,
    log: bool,
}

impl World {
    fn last(&self, root: RootId) -> LastLeaf {
        match (self.log, self.leaves.get(&root)) {
            (false, _) => LastLeaf::Unknown,
            (true, Some(end)) if *end >= self.now => LastLeaf::Ends(at(*end)),
            (true, _) => LastLeaf::None,
        }
    }

    fn new_root(&self) -> NewRoot {
        NewRoot { not_after: at(self.now + 90 * DAY), ..root(self.roots + 1) }
    }

    fn apply(&mut self, event: &Event) {
        let now = at(self.now);
        let splay = schedule().splay;
        let next = match event {
            Event::Prepare => self.state.prepare(self.new_root(), now),
            Event::Activate => self.state.activate(unasked(), splay, now),
            Event::Rollback => {
                let leaving = self.state.next().map_or(LastLeaf::Unknown, |root| self.last(root));
                self.state.rollback(leaving, &schedule(), now)
            }
            Event::Finish => self.state.finish(|root| self.last(root), &[], &schedule(), now),
            Event::Compromise(which, by) => {
                let root = *which.get(&self.state.bundle());
                self.compromised.push(root);
                let new = self.state.needs_replacement(root).then(|| self.new_root());
                self.state.compromise(root, new, at(self.now + by), splay, now)
            }
            Event::Issue(ttl) => {
                let issuing = self.state.issuing();
                let root_ends = seconds(self.state.not_after(issuing).unwrap());
                if root_ends > self.now {
                    let end = (self.now + ttl).min(root_ends);
                    let last = self.leaves.entry(issuing).or_default();
                    *last = end.max(*last);
                }
                return;
            }
            Event::Later(by) => {
                self.now += by;
                return;
            }
        };
        if let Ok(next) = next {
            self.check(&next);
            if next.bundle().contains(&self.new_root().id) {
                self.roots += 1;
            }
            self.state = next;
        }
    }

    fn check(&self, next: &Rotation) {
        let (before, after) = (self.state.bundle(), next.bundle());
        assert!(after.contains(&next.issuing()));
        assert_eq!(after[0], next.issuing());
        for root in before.iter().filter(|root| !after.contains(root)) {
            let live = self.leaves.get(root).is_some_and(|end| *end >= self.now);
            assert!(!live || self.compromised.contains(root), "{root} left with leaves in use");
        }
        match before == after {
            true => assert_eq!(next.sequence(), self.state.sequence()),
            false => assert_eq!(next.sequence(), self.state.sequence() + 1),
        }
        assert!(next.phase() != Phase::Steady || after.len() == 1);
        assert_eq!(Rotation::from_json(next.to_json().as_bytes()).as_ref(), Ok(next));
    }

    /// Steps that any operator can take, with nothing but patience.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.now += 200 * DAY;
            self.apply(&Event::Rollback);
            self.apply(&Event::Finish);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_the_promises_hold_and_steady_is_reached(
        events in proptest::collection::vec(event(), 0..60), log in any::<bool>()
    ) {
        let state = Rotation::founded(NewRoot { not_after: at(90 * DAY), ..root(1) }, at(0));
        let mut world = World { state, now: 0, roots: 1, leaves: BTreeMap::new(), compromised: Vec::new(), log };
        for event in &events {
            world.apply(event);
        }
        world.settle();
        prop_assert_eq!(world.state.phase(), Phase::Steady);
    }
}

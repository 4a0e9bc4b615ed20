//! Watching over the open streams of one worker: the rules changed, or nothing has moved for too long.
//!
//! A stream that has to wait leaves its waker here, instead of starting a timer of its own: one sweep each tick looks at all
//! of them, so a request that is answered at once costs no timer at all. The resolution is [`TICK`], always late.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
    time::Duration,
};

/// Time between two sweeps.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// How long a stream may stand still where memory runs short.
const HURRIED: Duration = Duration::from_secs(1);

/// The open streams of a worker.
#[derive(Default)]
pub(crate) struct Watches {
    epoch: Cell<u64>,
    tick: Cell<u64>,
    /// Nobody may stand still for longer than [`HURRIED`].
    hurried: Cell<bool>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Default, Clone)]
struct Slot {
    waker: Option<Waker>,
    /// Tick of the last byte that moved.
    moved: u64,
    idle_ticks: u64,
}

/// One stream's place. Cheap until the stream first has to wait.
#[derive(Default)]
pub(crate) struct Place(Cell<Option<usize>>);

impl Watches {
    /// Streams that were permitted in an older epoch than this must be judged again.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// The stream has to wait: wake it when the rules change, or when nothing moved for `idle`.
    /// Returns true when nothing has moved for that long already.
    pub(crate) fn wait(&self, place: &Place, cx: &Context<'_>, idle: Duration) -> bool {
        let mut slots = self.slots.borrow_mut();
        let index = match place.0.get() {
            Some(index) => index,
            None => {
                let index = self.free.borrow_mut().pop().unwrap_or(slots.len());
                place.0.set(Some(index));
                if index >= slots.len() {
                    slots.resize_with(index + 1, Slot::default);
                }
                if let Some(slot) = slots.get_mut(index) {
                    *slot = Slot { waker: None, moved: self.tick.get(), idle_ticks: 0 };
                }
                index
            }
        };
        let Some(slot) = slots.get_mut(index) else {
            return false;
        };
        slot.idle_ticks = ticks(idle);
        if !slot.waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        self.is_late(slot)
    }

    /// Bytes moved on the stream.
    pub(crate) fn moved(&self, place: &Place) {
        if let Some(index) = place.0.get()
            && let Some(slot) = self.slots.borrow_mut().get_mut(index)
        {
            slot.moved = self.tick.get();
        }
    }

    /// Wakes one stream.
    pub(crate) fn wake(&self, place: &Place) {
        let waker = place.0.get().and_then(|index| self.slots.borrow().get(index)?.waker.clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The stream is over.
    pub(crate) fn leave(&self, place: &Place) {
        if let Some(index) = place.0.take() {
            if let Some(slot) = self.slots.borrow_mut().get_mut(index) {
                *slot = Slot::default();
            }
            self.free.borrow_mut().push(index);
        }
    }

    /// Gives up places that nothing has held since a busier time.
    pub(crate) fn shrink(&self) {
        let mut slots = self.slots.borrow_mut();
        let mut free = self.free.borrow_mut();
        let mut empty = vec![false; slots.len()];
        for index in free.iter() {
            if let Some(empty) = empty.get_mut(*index) {
                *empty = true;
            }
        }
        let kept = empty.iter().rposition(|empty| !empty).map_or(0, |last| last + 1);
        slots.truncate(kept);
        slots.shrink_to_fit();
        free.retain(|index| *index < kept);
        free.shrink_to_fit();
    }

    /// A tick went by.
    pub(crate) fn sweep(&self) {
        self.tick.set(self.tick.get() + 1);
        self.wake_those(|slot| slot.waker.is_some() && self.is_late(slot));
    }

    /// From now on, or no longer, a stream may stand still for a moment only, whatever it was promised.
    pub(crate) fn hurry(&self, hurried: bool) {
        self.hurried.set(hurried);
    }

    fn is_late(&self, slot: &Slot) -> bool {
        let patience = if self.hurried.get() { slot.idle_ticks.min(ticks(HURRIED)) } else { slot.idle_ticks };
        self.tick.get().saturating_sub(slot.moved) >= patience
    }

    /// Rules or credentials changed: every stream must be judged again, now.
    pub(crate) fn raise(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.wake_those(|_| true);
    }

    /// Wakes every stream, so that it looks around.
    pub(crate) fn wake_all(&self) {
        self.wake_those(|_| true);
    }

    fn wake_those(&self, which: impl Fn(&Slot) -> bool) {
        // Collected first: waking may run code that comes back here.
        let wakers: Vec<Waker> =
            self.slots.borrow().iter().filter(|slot| which(slot)).filter_map(|slot| slot.waker.clone()).collect();
        for waker in wakers {
            waker.wake();
        }
    }
}

/// Ticks that make up at least `idle`: rounded up, and one more because the current one has already begun.
fn ticks(idle: Duration) -> u64 {
    u64::try_from(idle.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_idle_only_after_its_whole_time() {
        let watches = Watches::default();
        let place = Place::default();
        let cx = Context::from_waker(Waker::noop());
        let idle = TICK * 2;
        assert!(!watches.wait(&place, &cx, idle));
        watches.sweep();
        watches.sweep();
        assert!(!watches.wait(&place, &cx, idle), "the first tick may have been about to end");
        watches.moved(&place);
        watches.sweep();
        assert!(!watches.wait(&place, &cx, idle));
        watches.sweep();
        watches.sweep();
        assert!(watches.wait(&place, &cx, idle));
    }

    #[test]
    fn where_memory_runs_short_a_stream_may_stand_still_for_a_second() {
        let watches = Watches::default();
        let place = Place::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(!watches.wait(&place, &cx, Duration::from_secs(60)));
        (0..3).for_each(|_| watches.sweep());
        assert!(!watches.wait(&place, &cx, Duration::from_secs(60)));
        watches.hurry(true);
        assert!(watches.wait(&place, &cx, Duration::from_secs(60)));
        watches.hurry(false);
        assert!(!watches.wait(&place, &cx, Duration::from_secs(60)));
    }

    #[test]
    fn places_behind_the_last_one_held_are_given_up() {
        let watches = Watches::default();
        let places: Vec<Place> = (0..10).map(|_| Place::default()).collect();
        let cx = Context::from_waker(Waker::noop());
        for place in &places {
            watches.wait(place, &cx, Duration::from_secs(1));
        }
        for (at, place) in places.iter().enumerate().filter(|(at, _)| *at != 3) {
            watches.leave(place);
            assert_ne!(at, 3);
        }
        watches.shrink();
        assert_eq!(watches.slots.borrow().len(), 4);
        let next: Vec<Place> = (0..4).map(|_| Place::default()).collect();
        next.iter().for_each(|place| assert!(!watches.wait(place, &cx, Duration::from_secs(1))));
        let mut held: Vec<_> = next.iter().map(|place| place.0.get()).chain([places[3].0.get()]).collect();
        held.sort_unstable();
        held.dedup();
        assert_eq!(held.len(), 5, "no place is held twice");
    }

    #[test]
    fn places_are_used_again() {
        let watches = Watches::default();
        let (first, second) = (Place::default(), Place::default());
        let cx = Context::from_waker(Waker::noop());
        watches.wait(&first, &cx, Duration::from_secs(1));
        watches.wait(&second, &cx, Duration::from_secs(1));
        assert_ne!(first.0.get(), second.0.get());
        let index = first.0.get();
        watches.leave(&first);
        let third = Place::default();
        watches.wait(&third, &cx, Duration::from_secs(1));
        assert_eq!(third.0.get(), index);
    }
}

//! Who has to leave when too many handshakes are under way: nobody is proved yet, so nobody can be preferred for who it is.
//!
//! In: the source address of each connection whose handshake begins. Out: a [`Seat`], and word to one of those seated when a
//! newcomer finds none free. The newcomer is always let in, for a real caller needs its seat for milliseconds and one who
//! stalls would keep it for `handshake_timeout`: closing newcomers would let the staller win. Who leaves is the one that has
//! waited longest, of the source that has most seats. So one source that opens any number of connections pushes out its own.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
};
use tokio::sync::oneshot;

/// The handshakes of one worker that wait for the other end.
pub(crate) struct Crowd {
    seats: usize,
    next: Cell<u64>,
    /// By arrival. Invariant: `len() <= seats`.
    seated: RefCell<BTreeMap<u64, Waiting>>,
}

struct Waiting {
    source: IpAddr,
    /// Dropped to tell the owner of the seat that it has to leave.
    _stay: oneshot::Sender<()>,
}

/// A place for one handshake; free again when dropped.
pub(crate) struct Seat {
    crowd: Rc<Crowd>,
    number: u64,
    stay: oneshot::Receiver<()>,
}

impl Crowd {
    /// For at most `seats` handshakes at a time, and at least one.
    pub(crate) fn new(seats: usize) -> Rc<Self> {
        Rc::new(Self { seats: seats.max(1), next: Cell::new(0), seated: RefCell::default() })
    }

    /// A seat for a handshake with `source`, at somebody's cost if there is none free.
    pub(crate) fn enter(self: &Rc<Self>, source: IpAddr) -> Seat {
        let mut seated = self.seated.borrow_mut();
        if seated.len() >= self.seats
            && let Some(number) = longest_of_most(seated.iter().map(|(number, waiting)| (*number, waiting.source)))
        {
            seated.remove(&number);
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let (send, stay) = oneshot::channel();
        // One address has one form: a mapped one (RFC 4291 §2.5.5.2) must not count as another source.
        seated.insert(number, Waiting { source: source.to_canonical(), _stay: send });
        Seat { crowd: Rc::clone(self), number, stay }
    }

    /// How many are seated.
    pub(crate) fn len(&self) -> usize {
        self.seated.borrow().len()
    }
}

impl Seat {
    /// Runs a handshake in this seat. `None`: somebody else needed the seat first.
    pub(crate) async fn hold<T>(mut self, handshake: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // A handshake that is done is done, whoever wants the seat now.
            biased;
            done = handshake => Some(done),
            _ = &mut self.stay => None,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.seated.borrow_mut().remove(&self.number);
    }
}

/// Of seats in the order of their arrival: the first one of the source that has most of them; of two such sources, the one
/// that came first.
fn longest_of_most(seats: impl Iterator<Item = (u64, IpAddr)>) -> Option<u64> {
    let mut sources: HashMap<IpAddr, (usize, u64)> = HashMap::new();
    for (number, source) in seats {
        sources.entry(source).or_insert((0, number)).0 += 1;
    }
    let most = sources.into_values().max_by_key(|(count, first)| (*count, std::cmp::Reverse(*first)));
    most.map(|(_, first)| first)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_taken(seat: &mut Seat) -> bool {
        seat.stay.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn one_source_pushes_out_its_own() {
        let crowd = Crowd::new(3);
        let mut other = crowd.enter(ip(1));
        let mut flood: Vec<Seat> = (0..10).map(|_| crowd.enter(ip(2))).collect();
        assert_eq!(crowd.len(), 3);
        assert!(!is_taken(&mut other), "who came first but alone stays");
        let taken: Vec<bool> = flood.iter_mut().map(is_taken).collect();
        assert_eq!(taken, [true, true, true, true, true, true, true, true, false, false]);
    }

    #[test]
    fn among_equals_the_longest_leaves_and_the_newcomer_stays() {
        let crowd = Crowd::new(2);
        let (mut first, mut second) = (crowd.enter(ip(1)), crowd.enter(ip(2)));
        let mut third = crowd.enter(ip(3));
        assert_eq!([&mut first, &mut second, &mut third].map(is_taken), [true, false, false]);
    }

    #[test]
    fn a_seat_is_free_again_once_it_is_let_go() {
        let crowd = Crowd::new(2);
        let mut stays = crowd.enter(ip(1));
        for _ in 0..10 {
            drop(crowd.enter(ip(1)));
        }
        assert!(!is_taken(&mut stays));
        assert_eq!(crowd.len(), 1);
        drop(stays);
        assert_eq!(crowd.len(), 0);
    }

    #[test]
    fn a_mapped_address_is_the_same_source() {
        let crowd = Crowd::new(2);
        let mut other = crowd.enter(ip(1));
        let mut plain = crowd.enter(ip(2));
        let _mapped = crowd.enter("::ffff:10.0.0.2".parse().unwrap());
        assert!(is_taken(&mut other), "two sources with one seat each: the first leaves");
        let _again = crowd.enter(ip(3));
        assert!(is_taken(&mut plain), "two seats of one source: its first leaves");
    }
}

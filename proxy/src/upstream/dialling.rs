//! HTTP/2 connections that are being made, and the requests that wait for them.
//!
//! A hundred streams may need a connection before the first one has it. Each making its own would mean a hundred handshakes, and
//! a hundred connections that carry one request each; so whoever finds one being made waits for it, and gets what comes of it:
//! a share, or the same failure. The connection is made by a task of its own: a request that is taken back ends nobody else's.
//! When the last one has gone, so has the task.

use super::pool::{Key, Lease};
use crate::http::{Failure, h2::Width};
use identity::SpiffeId;
use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    rc::Rc,
};
use tokio::{sync::Notify, task::AbortHandle};

/// What must be the same for a request to wait for a connection.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(super) key: Key,
    pub(super) expected: Option<SpiffeId>,
    /// The credentials, and the generation of the rules: who may answer follows from both.
    pub(super) stamp: u64,
    pub(super) generation: u64,
    pub(super) width: Width,
}

impl Room for Wanted {
    fn room(&self) -> usize {
        self.width.streams()
    }
}

/// What is wanted says how many may share it.
pub(crate) trait Room: PartialEq + 'static {
    fn room(&self) -> usize;
}

/// What can be made for several at once.
pub(crate) trait Shared: Sized + 'static {
    /// One more share.
    fn share(&self) -> Option<Self>;
}

impl Shared for Lease {
    /// Others use it as well, and may bring it to its end before this request is sent: it counts as used before.
    fn share(&self) -> Option<Self> {
        let upstream = self.upstream.share()?;
        Some(Self { upstream, made: Rc::clone(&self.made), reused: true })
    }
}

/// What is being made by one worker: connections, unless a test says otherwise.
pub(crate) struct Diallings<W = Wanted, M = Lease>(Rc<RefCell<List<W, M>>>);

type List<W, M> = Vec<Rc<Dialling<W, M>>>;

/// One of them.
struct Dialling<W, M> {
    wanted: W,
    /// How many wait for it.
    waiting: Cell<usize>,
    task: OnceCell<AbortHandle>,
    ended: Notify,
    /// A share for each who waits, made at once: they count as in flight from the beginning.
    outcome: RefCell<Option<Result<Vec<M>, Failure>>>,
}

/// Somebody who waits.
struct Waiter<'a, W, M> {
    dialling: Rc<Dialling<W, M>>,
    all: &'a Diallings<W, M>,
}

impl<W, M> Default for Diallings<W, M> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<W: Room, M: Shared> Diallings<W, M> {
    /// What comes of the one that is being made; of `make`, when there is none with room for one more.
    pub(super) async fn join<F>(&self, wanted: W, make: impl FnOnce() -> F) -> Result<M, Failure>
    where
        F: Future<Output = Result<M, Failure>> + 'static,
    {
        let dialling = self.find(&wanted).unwrap_or_else(|| self.begin(wanted, make()));
        dialling.waiting.set(dialling.waiting.get() + 1);
        Waiter { dialling, all: self }.wait().await
    }

    /// Whether such a one is being made already, and has no room.
    pub(super) fn is_full(&self, wanted: &W) -> bool {
        self.0.borrow().iter().any(|dialling| dialling.wanted == *wanted && !dialling.has_room())
    }

    fn find(&self, wanted: &W) -> Option<Rc<Dialling<W, M>>> {
        let all = self.0.borrow();
        let mut fitting = all.iter().filter(|dialling| dialling.wanted == *wanted);
        fitting.find(|dialling| dialling.has_room()).cloned()
    }

    fn begin(&self, wanted: W, making: impl Future<Output = Result<M, Failure>> + 'static) -> Rc<Dialling<W, M>> {
        let dialling = Rc::new(Dialling {
            wanted,
            waiting: Cell::default(),
            task: OnceCell::new(),
            ended: Notify::new(),
            outcome: RefCell::default(),
        });
        self.0.borrow_mut().push(Rc::clone(&dialling));
        let (all, this) = (Self(Rc::clone(&self.0)), Rc::clone(&dialling));
        let task = tokio::task::spawn_local(async move {
            let made = making.await;
            all.remove(&this);
            this.end(made);
        });
        dialling.task.get_or_init(|| task.abort_handle());
        dialling
    }
}

impl<W, M> Diallings<W, M> {
    fn remove(&self, which: &Rc<Dialling<W, M>>) {
        self.0.borrow_mut().retain(|one| !Rc::ptr_eq(one, which));
    }
}

impl<W: Room, M: Shared> Dialling<W, M> {
    fn has_room(&self) -> bool {
        self.waiting.get() < self.wanted.room()
    }

    fn end(&self, made: Result<M, Failure>) {
        let outcome = made.map(|made| match self.waiting.get() {
            1 => vec![made],
            waiting => (0..waiting).filter_map(|_| made.share()).collect(),
        });
        *self.outcome.borrow_mut() = Some(outcome);
        self.ended.notify_waiters();
    }
}

impl<W, M> Waiter<'_, W, M> {
    async fn wait(&self) -> Result<M, Failure> {
        loop {
            let ended = self.dialling.ended.notified();
            if let Some(outcome) = &mut *self.dialling.outcome.borrow_mut() {
                let shares = outcome.as_mut().map_err(|failure| failure.clone())?;
                return shares.pop().ok_or(Failure::UpstreamClosed);
            }
            ended.await;
        }
    }
}

impl<W, M> Drop for Waiter<'_, W, M> {
    fn drop(&mut self) {
        let left = self.dialling.waiting.get().saturating_sub(1);
        self.dialling.waiting.set(left);
        if left == 0 {
            self.all.remove(&self.dialling);
            if let Some(task) = self.dialling.task.get() {
                task.abort();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use tokio::sync::oneshot;
    use tokio::task::LocalSet;

    /// A share says how many there are.
    #[derive(Debug)]
    struct Thing(Rc<()>);

    impl Shared for Thing {
        fn share(&self) -> Option<Self> {
            Some(Self(Rc::clone(&self.0)))
        }
    }

    const ROOM: usize = 5;

    impl Room for &'static str {
        fn room(&self) -> usize {
            ROOM
        }
    }

    type Things = Diallings<&'static str, Thing>;

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn who_comes_while_one_is_being_made_gets_a_share_of_it() {
        let things = Things::default();
        let made = Cell::new(0);
        let (end, ended) = oneshot::channel();
        let mut end = Some((end, ended));
        LocalSet::new()
            .run_until(async {
                let (end, ended) = end.take().unwrap();
                let first = things.join("a", || {
                    made.set(made.get() + 1);
                    async {
                        ended.await.unwrap();
                        Ok(Thing(Rc::new(())))
                    }
                });
                let none = || -> std::future::Pending<Result<Thing, Failure>> { panic!("it waits for the first") };
                let mut all = vec![Box::pin(first) as Pin<Box<dyn Future<Output = _>>>];
                for _ in 1..ROOM {
                    all.push(Box::pin(things.join("a", none)));
                }
                assert!(all.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
                assert!(things.is_full(&"a") && !things.is_full(&"b"));
                // Full, or something else: another one is made.
                for wanted in ["a", "b"] {
                    let other = things.join(wanted, || {
                        made.set(made.get() + 1);
                        pending()
                    });
                    assert!(poll(pin!(other)).is_pending());
                }
                assert_eq!(made.get(), 3);
                end.send(()).unwrap();
                let mut shares = Vec::new();
                for one in all {
                    shares.push(one.await.unwrap());
                }
                assert_eq!(Rc::strong_count(&shares.first().unwrap().0), ROOM);
                assert!(things.0.borrow().is_empty());
            })
            .await;
    }

    #[tokio::test]
    async fn a_failure_is_everybodys() {
        let things = Things::default();
        LocalSet::new()
            .run_until(async {
                let fail = || async { Err(Failure::Overflow) };
                let none = || -> std::future::Pending<Result<Thing, Failure>> { panic!("it waits for the first") };
                let (one, other) = tokio::join!(things.join("a", fail), things.join("a", none));
                assert!(matches!((one, other), (Err(Failure::Overflow), Err(Failure::Overflow))));
            })
            .await;
    }

    #[tokio::test]
    async fn it_is_ended_with_the_last_who_waits_and_not_before() {
        let things = Things::default();
        let held = Rc::new(());
        LocalSet::new()
            .run_until(async {
                let making = || {
                    let held = Rc::clone(&held);
                    async move {
                        let _held = held;
                        pending().await
                    }
                };
                let mut one = Box::pin(things.join("a", making));
                let mut other = Box::pin(things.join("a", making));
                assert!(poll(one.as_mut()).is_pending() && poll(other.as_mut()).is_pending());
                assert_eq!(Rc::strong_count(&held), 2, "made once");
                drop(one);
                tokio::task::yield_now().await;
                assert_eq!(Rc::strong_count(&held), 2);
                drop(other);
                let gone = poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if Rc::strong_count(&held) == 1 { Poll::Ready(()) } else { Poll::Pending }
                });
                gone.await;
                assert!(things.0.borrow().is_empty());
            })
            .await;
    }
}

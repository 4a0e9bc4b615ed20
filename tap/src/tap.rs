//! The handle that the data path holds: admit, offer, count.
//!
//! In: exchanges from any worker thread. Out: copies in a queue bounded in bytes, and one thread that empties it.
//! Nothing here waits: admission is a few atomic additions, a full queue drops the whole exchange and counts it.
//! The queue is only ever polled by its reader, so a sender never meets a lock that the low-priority thread holds.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::counters::{Counters, Reason, Tally};
use crate::exchange::Exchange;
use crate::packet::Tuple;
use crate::place::Place;
use crate::rate::RateCap;
use crate::record::{Facts, Flow, Record, Told, What};
use crate::redact::Redaction;
use crate::settings::{Sensor, Settings};
use crate::station;
use crate::stream::Event;
use crate::worker;

/// A running tap. Cheap to clone; every worker thread holds its own clone.
#[derive(Debug, Clone)]
pub struct Tap {
    pub(crate) shared: Arc<Shared>,
    queue: SyncSender<Work>,
    thread: Thread,
}

/// The tap's thread, held by whoever started the tap. Dropping it tells the thread to finish what is queued and end.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Whether a tap's sensor is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Somebody takes what is copied, as far as can be told: over UDP nobody has to answer.
    pub up: bool,
    /// Since when that is so.
    pub since: Instant,
    /// When the tap was started.
    pub started: Instant,
}

/// Room for one exchange. Dropped without being offered, it counts the exchange as dropped.
#[derive(Debug)]
#[must_use = "an admission that is not offered counts as a drop"]
pub struct Admission {
    shared: Arc<Shared>,
    /// Bytes of the tap's budget this exchange holds.
    reserved: usize,
    /// Body bytes of the exchange, known once it is offered.
    body: u64,
    /// It counts as matched. One that is held for its end does not yet, and leaves no trace if it is dropped.
    counted: bool,
    fate: Fate,
    /// Who else wants to know where its packets lie.
    place: Option<Arc<Place>>,
}

impl Tap {
    /// Opens the socket or the file and starts the thread.
    ///
    /// # Errors
    /// `InvalidInput` for settings no packet can be built with; otherwise what the system said about the socket, the
    /// directory or the thread. That nobody answers at the sensor's address is no error.
    pub fn start(settings: Settings) -> io::Result<(Self, Running)> {
        settings.check()?;
        let slots = settings.queue_bytes / ADMIT_COST + SPARE_SLOTS;
        let (queue, work) = sync_channel(slots);
        let shared = Arc::new(Shared::new(settings));
        let station = station::open(&shared)?;
        let name = format!("tap-{}", shared.settings.name);
        let for_thread = Arc::clone(&shared);
        let handle = thread::Builder::new().name(name).spawn(move || worker::run(&for_thread, &work, station))?;
        let tap = Self { shared: Arc::clone(&shared), queue, thread: handle.thread().clone() };
        Ok((tap, Running { shared, thread: Some(handle) }))
    }

    /// Asks for room for one exchange, at its head. Counts it as matched; `None` means it is already counted as
    /// dropped.
    #[must_use]
    pub fn admit(&self) -> Option<Admission> {
        self.shared.tally.matched.fetch_add(1, Relaxed);
        self.reserve(true).map_err(|reason| self.shared.tally.drop_one(reason)).ok()
    }

    /// Asks for room for one exchange of which only its end tells whether it is meant for this tap. Counts nothing yet:
    /// the admission is to be offered, which counts it as matched, or [forgotten](Admission::forget).
    ///
    /// # Errors
    /// Why it would be dropped; [`Tap::refuse`] counts that, should it turn out to be meant.
    pub fn hold(&self) -> Result<Admission, Reason> {
        self.reserve(false).map_err(|reason| if reason == Reason::QueueFull { Reason::HoldOverflow } else { reason })
    }

    /// Counts one exchange as matched and dropped.
    pub fn refuse(&self, reason: Reason) {
        self.shared.tally.matched.fetch_add(1, Relaxed);
        self.shared.tally.drop_one(reason);
    }

    fn reserve(&self, counted: bool) -> Result<Admission, Reason> {
        let shared = &self.shared;
        if shared.stopping.load(Relaxed) {
            return Err(Reason::Shutdown);
        }
        if shared.down.load(Relaxed) {
            return Err(Reason::TapDown);
        }
        if shared.cap.as_ref().is_some_and(|cap| !cap.is_open(shared.nanos())) {
            return Err(Reason::RateCap);
        }
        if !shared.reserve(ADMIT_COST) {
            return Err(Reason::QueueFull);
        }
        let shared = Arc::clone(shared);
        Ok(Admission { shared, reserved: ADMIT_COST, body: 0, counted, fate: Fate::Open, place: None })
    }

    /// Hands over a finished exchange. Secrets are masked and the text is written before it enters the queue.
    pub fn offer(&self, mut admission: Admission, record: Record) {
        admission.count();
        if let Some(exchange) = self.prepare(&mut admission, record) {
            self.enqueue(Work::Exchange(Box::new((admission, exchange))));
        }
    }

    /// Hands over the facts of a finished exchange, for a tap of records.
    pub fn offer_record(&self, mut admission: Admission, record: Record, facts: Facts) {
        admission.count();
        let seen = body_len(&record);
        admission.body = seen;
        add(&self.shared.tally.body_seen, seen);
        match Told::of(record, facts) {
            Ok(told) => self.tell(admission, told),
            Err(reason) => admission.refuse(reason),
        }
    }

    /// Hands over the facts of a finished connection that was not HTTP, for a tap of records.
    pub fn offer_flow(&self, mut admission: Admission, flow: Flow) {
        admission.count();
        self.tell(admission, Told::of_flow(flow));
    }

    /// Hands over that a request could not even be read, and with which status it was answered, for a tap of records.
    pub fn offer_unread(&self, mut admission: Admission, flow: Flow, status: u16) {
        admission.count();
        self.tell(admission, Told::of_unread(flow, status));
    }

    fn tell(&self, mut admission: Admission, told: Told) {
        if !self.shared.earns(told.cost()) {
            admission.refuse(Reason::RateCap);
        } else if admission.settle(told.cost()) {
            self.enqueue(Work::Record(Box::new((admission, told))));
        }
    }

    /// Makes an exchange ready for the queue and its place there as large as it is; `None` when it is dropped.
    pub(crate) fn prepare(&self, admission: &mut Admission, record: Record) -> Option<Exchange> {
        let seen = body_len(&record);
        admission.body = seen;
        add(&self.shared.tally.body_seen, seen);
        let exchange = Exchange::of(record, self.shared.settings.max_body, self.shared.settings.http);
        let exchange = exchange.and_then(|e| if self.shared.earns(e.len()) { Ok(e) } else { Err(Reason::RateCap) });
        match exchange {
            Ok(exchange) => admission.settle(exchange.cost()).then_some(exchange),
            Err(reason) => {
                admission.give_up(reason);
                None
            }
        }
    }

    /// Tells that a real connection is closed, so that its synthetic connections end now instead of after 30 s.
    /// Never waits; with a full queue the idle timeout does it.
    pub fn closed(&self, connection: u64) {
        self.enqueue(Work::Closed(connection));
    }

    /// Sends to another address from now on, or to none: then exchanges are dropped `tap_down`. Synthetic
    /// connections end at the old sensor and begin anew at the next one. For control tasks, not for the data path.
    ///
    /// The same address again changes nothing. A tap that listens or writes files has no such address.
    pub fn set_sensor(&self, sensor: Option<SocketAddr>) {
        *self.shared.lock_next() = Some(sensor);
        self.shared.changed.store(true, SeqCst);
        // A datagram needs nobody's consent, so that admission may begin before the thread has heard.
        match (sensor, &self.shared.settings.sensor) {
            (Some(_), Sensor::Vxlan { .. }) => self.shared.set_down(false),
            (Some(_), _) => {}
            (None, _) => self.shared.set_down(true),
        }
        self.thread.unpark();
    }

    /// Where a tap that listens does so, its port known.
    pub fn listening(&self) -> Option<SocketAddr> {
        *self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tap's name.
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// What is masked for this tap.
    pub fn redaction(&self) -> &Arc<Redaction> {
        &self.shared.settings.redaction
    }

    /// Body bytes worth collecting per message.
    pub fn max_body(&self) -> usize {
        self.shared.settings.max_body
    }

    /// A snapshot of the counters.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Whether somebody takes what is copied, and since when that is so.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    fn enqueue(&self, work: Work) {
        match self.try_enqueue(work) {
            Err((Work::Exchange(boxed), reason)) => boxed.0.refuse(reason),
            Err((Work::Record(boxed), reason)) => boxed.0.refuse(reason),
            _ => {}
        }
    }

    /// Gives the work back, with the reason, when it cannot be queued.
    pub(crate) fn try_enqueue(&self, work: Work) -> Result<(), (Work, Reason)> {
        match self.queue.try_send(work) {
            Ok(()) => {
                self.wake();
                Ok(())
            }
            Err(TrySendError::Full(work)) => Err((work, Reason::QueueFull)),
            Err(TrySendError::Disconnected(work)) => Err((work, Reason::Shutdown)),
        }
    }

    /// A thread that gathers looks at the queue by itself and soon: waking it for every exchange would cost more than
    /// the packets do. Only one that sleeps must hear of work, and one that gathers while the room runs out.
    fn wake(&self) {
        // With the thread's own fence: either we see that it sleeps, or it sees what was just queued.
        fence(SeqCst);
        let shared = &self.shared;
        if shared.asleep.load(Relaxed) && shared.asleep.swap(false, Relaxed)
            || shared.queued.load(Relaxed) > shared.settings.queue_bytes / HURRY
        {
            self.thread.unpark();
        }
    }
}

impl Running {
    /// Takes no more exchanges, sends what is queued, ends the synthetic connections with FIN. Waits at most `wait`;
    /// what is not sent by then is dropped as `shutdown`. Says whether the thread has ended.
    pub fn stop(mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        self.shared.stopping.store(true, SeqCst);
        let Some(handle) = self.thread.take() else {
            return true;
        };
        handle.thread().unpark();
        while !handle.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        self.shared.abandon.store(true, SeqCst);
        handle.thread().unpark();
        // The thread looks at `abandon` between any two datagrams, so this second wait is short.
        let until = Instant::now() + Duration::from_millis(100);
        while !handle.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        handle.is_finished()
    }

    /// The counters, after every [`Tap`] is gone too.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        if let Some(handle) = &self.thread {
            handle.thread().unpark();
        }
    }
}

impl Admission {
    /// Where its packets will lie, for [`Facts::place`] of the same exchange.
    pub fn place(&mut self) -> Arc<Place> {
        Arc::clone(self.place.get_or_insert_with(|| Place::new(&self.shared)))
    }

    /// Its packets begin on this connection.
    pub(crate) fn lies_on(&self, tuple: Tuple) {
        if let Some(place) = &self.place {
            place.tell(Some(tuple));
        }
    }

    /// Takes `bytes` more of the tap's budget, as a body grows. False: there is no room, stop collecting; the whole
    /// exchange will be dropped as `queue_full`.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        if self.fate != Fate::Open {
            return false;
        }
        let granted = self.shared.reserve(bytes);
        if granted {
            self.reserved += bytes;
        } else {
            self.fate = Fate::Dropped(Reason::QueueFull);
            // What was collected so far is worthless now; others may use the room.
            self.release_to(0);
        }
        granted
    }

    /// A held exchange turned out not to be meant for this tap: nothing is counted.
    pub fn forget(mut self) {
        self.release_to(0);
        debug_assert!(!self.counted, "an exchange that counts as matched cannot be unmatched");
    }

    pub(crate) fn count(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.shared.tally.matched.fetch_add(1, Relaxed);
        }
    }

    /// Gives the exchange up for a reason.
    pub fn refuse(mut self, reason: Reason) {
        self.count();
        self.give_up(reason);
    }

    fn give_up(&mut self, reason: Reason) {
        if self.fate == Fate::Open {
            self.fate = Fate::Dropped(reason);
        }
    }

    /// It is built into packets: count it as mirrored, with its body bytes and whether one was cut.
    pub(crate) fn mirrored(mut self, exchange: &Exchange) {
        let tally = &self.shared.tally;
        let copied = exchange.body_bytes();
        tally.mirrored.fetch_add(1, Relaxed);
        add(&tally.body_mirrored, copied);
        add(&tally.body_truncated, self.body.saturating_sub(copied));
        add(&tally.truncated, u64::from(exchange.is_cut()));
        add(&tally.length_conflicts, exchange.length_conflicts());
        tally.flagged(exchange.masked().credentials);
        self.fate = Fate::Mirrored;
    }

    /// It is written as a record, which holds no bodies.
    pub(crate) fn told(mut self, told: &Told) {
        let tally = &self.shared.tally;
        tally.mirrored.fetch_add(1, Relaxed);
        add(&tally.body_truncated, self.body);
        if let What::Exchange { masked, .. } = &told.what {
            tally.flagged(masked.credentials);
        }
        self.fate = Fate::Mirrored;
    }

    /// Its request was sent again, or tried to be: counts as mirrored, with the bytes of the request's body.
    pub(crate) fn repeated(mut self, body: u64, length_conflicts: u64) {
        let tally = &self.shared.tally;
        tally.mirrored.fetch_add(1, Relaxed);
        add(&tally.body_mirrored, body);
        add(&tally.body_truncated, self.body.saturating_sub(body));
        add(&tally.length_conflicts, length_conflicts);
        self.fate = Fate::Mirrored;
    }

    /// A stream's opening is built into packets, with the exchange before it if there is one.
    pub(crate) fn opened(mut self, exchange: Option<&Exchange>) {
        match exchange {
            Some(exchange) => self.mirrored(exchange),
            None => {
                self.shared.tally.mirrored.fetch_add(1, Relaxed);
                self.fate = Fate::Mirrored;
            }
        }
    }

    /// Brings the reservation to what the finished copy really holds.
    fn settle(&mut self, cost: usize) -> bool {
        if cost <= self.reserved {
            self.release_to(cost);
            return self.fate == Fate::Open;
        }
        let missing = cost - self.reserved;
        self.reserve(missing)
    }

    fn release_to(&mut self, keep: usize) {
        let surplus = self.reserved.saturating_sub(keep);
        self.shared.queued.fetch_sub(surplus, Relaxed);
        self.reserved -= surplus;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.release_to(0);
        if let Some(place) = &self.place {
            place.tell(None);
        }
        let reason = match self.fate {
            _ if !self.counted => return,
            Fate::Mirrored => return,
            Fate::Dropped(reason) => reason,
            Fate::Open if self.shared.stopping.load(Relaxed) => Reason::Shutdown,
            Fate::Open => Reason::Abandoned,
        };
        self.shared.tally.drop_one(reason);
        self.shared.tally.body_dropped.fetch_add(self.body, Relaxed);
    }
}

/// What becomes of an admitted exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Dropped(Reason),
    Mirrored,
}

/// What travels to the tap's thread.
#[derive(Debug)]
pub(crate) enum Work {
    Exchange(Box<(Admission, Exchange)>),
    Record(Box<(Admission, Told)>),
    /// Of the stream on this real connection.
    Stream(u64, Box<Event>),
    Closed(u64),
}

/// What the handles and the thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) tally: Tally,
    cap: Option<RateCap>,
    /// The clock of `cap` starts here.
    started: Instant,
    /// Bytes held by admitted exchanges; never above `settings.queue_bytes`.
    queued: AtomicUsize,
    /// Nobody takes what is copied: refuse at admission.
    down: AtomicBool,
    /// When that last changed, in nanoseconds after `started`.
    turned: AtomicU64,
    /// Take nothing more, finish what is queued.
    pub(crate) stopping: AtomicBool,
    /// Leave at once.
    pub(crate) abandon: AtomicBool,
    /// The thread sleeps until somebody wakes it.
    asleep: AtomicBool,
    /// `next` holds a new address.
    changed: AtomicBool,
    next: Mutex<Option<Option<SocketAddr>>>,
    /// Where a listening tap listens.
    pub(crate) listening: Mutex<Option<SocketAddr>>,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            cap: settings.rate_cap.map(RateCap::new),
            started: Instant::now(),
            settings,
            tally: Tally::default(),
            queued: AtomicUsize::new(0),
            down: AtomicBool::new(true),
            turned: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            abandon: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            next: Mutex::new(None),
            listening: Mutex::new(None),
        }
    }

    /// Whether anybody takes what is copied.
    pub(crate) fn set_down(&self, down: bool) {
        if self.down.swap(down, SeqCst) != down {
            self.turned.store(self.nanos(), Relaxed);
        }
    }

    fn state(&self) -> State {
        let since = self.started.checked_add(Duration::from_nanos(self.turned.load(Relaxed))).unwrap_or(self.started);
        State { up: !self.down.load(SeqCst), since, started: self.started }
    }

    /// The address set since the last call: `Some(None)` means there is no sensor any more.
    pub(crate) fn take_change(&self) -> Option<Option<SocketAddr>> {
        // The flag spares the thread the lock between any two exchanges.
        if !self.changed.swap(false, SeqCst) {
            return None;
        }
        self.lock_next().take()
    }

    /// To be told before the last look at the queue and after the sleep.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Relaxed);
        fence(SeqCst);
    }

    fn lock_next(&self) -> MutexGuard<'_, Option<Option<SocketAddr>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from what the rate cap allows.
    pub(crate) fn earns(&self, bytes: usize) -> bool {
        self.cap.as_ref().is_none_or(|cap| cap.take(bytes, self.nanos()))
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Gives room back.
    pub(crate) fn release(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let before = self.queued.fetch_add(bytes, Relaxed);
        let fits = before.checked_add(bytes).is_some_and(|after| after <= self.settings.queue_bytes);
        if !fits {
            self.queued.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    pub(crate) fn counters(&self) -> Counters {
        self.tally.snapshot(self.queued.load(Relaxed) as u64)
    }
}

/// Most exchanges have nothing to add to most counters, and an atomic addition is not free.
fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Relaxed);
    }
}

fn body_len(record: &Record) -> u64 {
    let one = |m: &crate::record::Message| m.body_len.max(m.body.len() as u64);
    one(&record.request) + record.response.as_ref().map_or(0, one)
}

/// Budget taken at admission, before anything is known: about what a small exchange holds. Offering corrects it.
pub(crate) const ADMIT_COST: usize = 1024;
/// The thread stops gathering when more than this part of the budget is taken.
const HURRY: usize = 4;
/// Slots beyond those the byte budget can fill, for notices of closed connections.
const SPARE_SLOTS: usize = 1024;

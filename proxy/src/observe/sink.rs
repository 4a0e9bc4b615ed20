//! Lines on their way to stdout, stderr or a file, without ever holding a worker up.
//!
//! Each worker appends to buffers of its own; one thread a destination empties them every few milliseconds. A worker takes
//! a lock that only that thread contends for, for the time of a swap. When the reader of our output stalls, buffers fill to
//! their bound and further lines are dropped and counted: watching never costs the watched.
//!
//! While lines keep coming, the thread goes by the clock and no worker has to wake it. Only when it has found nothing does
//! it wait to be woken, by the first line after that.

use crate::limits;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Where access-log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    Off,
    File(PathBuf),
}

/// One writer's buffer.
#[derive(Clone)]
pub(crate) struct Lines {
    buffer: Arc<Buffer>,
    signal: Arc<Signal>,
}

struct Buffer {
    bytes: Mutex<Vec<u8>>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Signal {
    /// The thread will look at the buffers without being told.
    awake: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    buffers: Vec<Arc<Buffer>>,
}

/// Two threads, each with the buffers it empties: a reader of stderr that stalls must not hold the access log up.
pub(crate) struct Sink {
    destination: Arc<Mutex<Destination>>,
    access: Pump,
    events: Pump,
}

struct Pump {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sink {
    /// Starts the log threads.
    pub(crate) fn start(destination: Destination) -> io::Result<Self> {
        if let Destination::File(path) = &destination {
            open(path)?;
        }
        let destination = Arc::new(Mutex::new(destination));
        let current = Arc::clone(&destination);
        let mut stdout = Out::to(io::stdout());
        let mut file: Option<(PathBuf, Out<File>)> = None;
        let access = Pump::start("log", move |lines| {
            let destination = lock(&current).clone();
            match destination {
                Destination::Off => 0,
                Destination::Stdout => {
                    // Held over all of them: records of a tap may be written there as well.
                    let _whole = io::stdout().lock();
                    stdout.write(lines)
                }
                Destination::File(path) => {
                    if file.as_ref().is_none_or(|(open, _)| *open != path) {
                        file = open(&path).ok().map(|file| (path, Out::to(file)));
                    }
                    file.as_mut().map_or_else(|| count(lines), |(_, file)| file.write(lines))
                }
            }
        })?;
        let mut stderr = Out::to(io::stderr());
        let events = Pump::start("events", move |lines| stderr.write(lines))?;
        Ok(Self { destination, access, events })
    }

    /// A buffer for access-log lines.
    pub(crate) fn access(&self) -> Lines {
        self.access.lines()
    }

    /// A buffer for lines on stderr: refusals and events.
    pub(crate) fn events(&self) -> Lines {
        self.events.lines()
    }

    /// Changes where access-log lines go from now on. A file that cannot be opened leaves things as they are.
    pub(crate) fn redirect(&self, destination: Destination) -> io::Result<()> {
        if let Destination::File(path) = &destination {
            open(path)?;
        }
        *lock(&self.destination) = destination;
        Ok(())
    }

    /// Lines dropped because a buffer was full, or because they could not be written.
    pub(crate) fn dropped(&self) -> u64 {
        self.access.dropped() + self.events.dropped()
    }

    /// Writes what is waiting and ends the threads; waits for each at most `patience`.
    pub(crate) fn stop(&self, patience: Duration) {
        for pump in [&self.access, &self.events] {
            pump.stop(patience);
        }
    }
}

impl Pump {
    /// `write` takes whole lines and gives how many of them were lost.
    fn start(name: &str, write: impl FnMut(&[u8]) -> u64 + Send + 'static) -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let for_thread = Arc::clone(&signal);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&for_thread, write))?;
        Ok(Self { signal, thread: Mutex::new(Some(thread)) })
    }

    fn lines(&self) -> Lines {
        let buffer = Arc::new(Buffer { bytes: Mutex::new(Vec::new()), dropped: AtomicU64::new(0) });
        lock(&self.signal.state).buffers.push(Arc::clone(&buffer));
        Lines { buffer, signal: Arc::clone(&self.signal) }
    }

    fn dropped(&self) -> u64 {
        lock(&self.signal.state).buffers.iter().map(|buffer| buffer.dropped.load(Ordering::Relaxed)).sum()
    }

    fn stop(&self, patience: Duration) {
        lock(&self.signal.state).stop = true;
        self.signal.wake.notify_one();
        let Some(thread) = lock(&self.thread).take() else { return };
        let until = Instant::now() + patience;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Lines {
    /// Appends whole lines; drops and counts them when the buffer is full.
    pub(crate) fn write(&self, lines: &[u8]) {
        self.add(|bytes| bytes.extend_from_slice(lines));
    }

    /// Appends the line that `write` makes, and its end; drops and counts it when the buffer is full. The line is made in
    /// its place, under the lock: `write` must not write other lines.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.add(|bytes| {
            write(bytes);
            bytes.push(b'\n');
        });
    }

    fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut bytes = lock(&self.buffer.bytes);
            let before = bytes.len();
            write(&mut bytes);
            if bytes.len() > limits::LOG_BUFFER {
                bytes.truncate(before);
                self.buffer.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        // Only the first line after the thread went to sleep pays for waking it. The lock orders this look after the
        // thread's going to sleep, if it has missed the line.
        if !self.signal.awake.load(Ordering::Relaxed) && !self.signal.awake.swap(true, Ordering::AcqRel) {
            // The thread is before its look at the flag or in its wait, but not between the two. Woken with the lock free, it
            // need not wait again.
            drop(lock(&self.signal.state));
            self.signal.wake.notify_one();
        }
    }
}

fn run(signal: &Signal, mut write: impl FnMut(&[u8]) -> u64) {
    let mut taken = Vec::new();
    let mut buffers = Vec::new();
    loop {
        let stop = {
            let mut state = lock(&signal.state);
            while !state.stop && !signal.awake.load(Ordering::Acquire) {
                state = signal.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if buffers.len() != state.buffers.len() {
                buffers.clone_from(&state.buffers);
            }
            state.stop
        };
        if !stop {
            std::thread::sleep(limits::LOG_INTERVAL);
        }
        let mut drain_all = || buffers.iter().fold(false, |any, buffer| drain(buffer, &mut taken, &mut write) | any);
        if !drain_all() {
            // What comes after this look is told; what came before it is found by it.
            signal.awake.store(false, Ordering::Release);
            if drain_all() {
                signal.awake.store(true, Ordering::Release);
            }
        }
        if stop {
            return;
        }
    }
}

/// Writes what has gathered, if anything has.
fn drain(buffer: &Buffer, taken: &mut Vec<u8>, write: &mut dyn FnMut(&[u8]) -> u64) -> bool {
    taken.clear();
    std::mem::swap(&mut *lock(&buffer.bytes), taken);
    let found = !taken.is_empty();
    if found {
        // A full disk or a closed pipe: lines are lost, and said to be.
        buffer.dropped.fetch_add(write(taken), Ordering::Relaxed);
    }
    // One burst must not keep a large buffer for ever; one that is used to a quarter is not worth a new one each time.
    if taken.capacity() > (64 * 1024).max(taken.len() * 4) {
        *taken = Vec::new();
    }
    found
}

/// Where lines go, and whether the last one there was cut.
struct Out<W> {
    to: W,
    torn: bool,
}

impl<W: Write> Out<W> {
    fn to(to: W) -> Self {
        Self { to, torn: false }
    }

    /// Writes whole lines, and gives how many of them were lost. One that a full disk cut is lost, and is ended before
    /// anything else is written: it must not run into a good one.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.torn {
            self.torn = !matches!(self.to.write(b"\n"), Ok(1));
            if self.torn {
                return count(lines);
            }
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(written @ 1..) => {
                    self.torn = rest.get(written - 1).is_none_or(|last| *last != b'\n');
                    rest = rest.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        // What is left in a buffer goes with the next lines.
        let _ = self.to.flush();
        count(rest)
    }
}

fn count(lines: &[u8]) -> u64 {
    u64::try_from(lines.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u64::MAX)
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A panic while a log buffer is held leaves only text behind: going on is right.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_file_in_order_and_a_full_buffer_counts() {
        let path = std::env::temp_dir().join(format!("sekisho-sink-{}", std::process::id()));
        let sink = Sink::start(Destination::File(path.clone())).unwrap();
        let lines = sink.access();
        lines.write(b"one\n");
        lines.write(b"two\n");
        lines.write(&vec![b'x'; limits::LOG_BUFFER + 1]);
        sink.stop(Duration::from_secs(5));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(sink.dropped(), 1);
        std::fs::remove_file(path).unwrap();
    }

    /// Takes so many bytes and no more.
    struct Full(usize, Vec<u8>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.0.saturating_sub(self.1.len()).min(bytes.len());
            self.1.extend_from_slice(bytes.get(..room).unwrap());
            if room == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(room) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_cut_does_not_run_into_the_next_one() {
        let mut out = Out::to(Full(6, Vec::new()));
        assert_eq!(out.write(b"one\ntwo\nthree\n"), 2);
        assert_eq!(out.write(b"four\n"), 1, "still full");
        out.to.0 = 100;
        assert_eq!(out.write(b"five\n"), 0);
        assert_eq!(out.to.1, b"one\ntw\nfive\n");
        // A disk that is full between two lines tears nothing.
        let mut out = Out::to(Full(4, Vec::new()));
        assert_eq!(out.write(b"one\ntwo\n"), 1);
        out.to.0 = 100;
        assert_eq!(out.write(b"three\n"), 0);
        assert_eq!(out.to.1, b"one\nthree\n");
    }

    #[test]
    fn no_line_is_lost_between_sleep_and_waking() {
        const LINES: usize = 60;
        let (sender, written) = std::sync::mpsc::channel();
        let pump = Pump::start("test", move |lines| sender.send(lines.to_vec()).map_or_else(|_| count(lines), |()| 0))
            .unwrap();
        let lines = pump.lines();
        // At every distance from the thread's going to sleep, which comes a few milliseconds after its last find.
        for number in 0..LINES {
            let line = format!("{number}\n");
            lines.append(|bytes| bytes.extend_from_slice(number.to_string().as_bytes()));
            let all = written.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(all, line.as_bytes());
            std::thread::sleep(limits::LOG_INTERVAL * u32::try_from(number).unwrap() / 40);
        }
        pump.stop(Duration::from_secs(5));
        assert_eq!(pump.dropped(), 0);
    }
}

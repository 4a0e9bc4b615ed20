//! Lines on their way to stdout, stderr or a file, without ever holding a worker up.
//!
//! Each worker appends to buffers of its own; one thread a destination empties them every few milliseconds. A worker takes
//! a lock that only that thread contends for, for the time of a swap. When the reader of our output stalls, buffers fill to
//! their bound and further lines are dropped and counted: watching never costs the watched.

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
    dirty: AtomicBool,
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
        let mut file: Option<(PathBuf, File)> = None;
        let access = Pump::start("log", move |bytes| {
            let destination = lock(&current).clone();
            match destination {
                Destination::Off => Ok(()),
                Destination::Stdout => {
                    let mut out = io::stdout().lock();
                    out.write_all(bytes)?;
                    out.flush()
                }
                Destination::File(path) => {
                    if file.as_ref().is_none_or(|(open, _)| *open != path) {
                        file = Some((path.clone(), open(&path)?));
                    }
                    match &mut file {
                        Some((_, file)) => file.write_all(bytes),
                        None => Ok(()),
                    }
                }
            }
        })?;
        let events = Pump::start("events", |bytes| io::stderr().write_all(bytes))?;
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

    /// Lines dropped because a buffer was full.
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
    fn start(name: &str, write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
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
        {
            let mut bytes = lock(&self.buffer.bytes);
            if bytes.len() + lines.len() > limits::LOG_BUFFER {
                self.buffer.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            bytes.extend_from_slice(lines);
        }
        // Only the first line after the thread went to sleep pays for waking it.
        if !self.signal.dirty.swap(true, Ordering::AcqRel) {
            // The thread is before its look at the flag or in its wait, but not between the two. Woken with the lock free, it
            // need not wait again.
            drop(lock(&self.signal.state));
            self.signal.wake.notify_one();
        }
    }
}

fn run(signal: &Signal, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut taken = Vec::new();
    loop {
        let (stop, buffers) = {
            let mut state = lock(&signal.state);
            while !state.stop && !signal.dirty.load(Ordering::Acquire) {
                state = signal.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            (state.stop, state.buffers.clone())
        };
        if !stop {
            std::thread::sleep(limits::LOG_INTERVAL);
        }
        signal.dirty.store(false, Ordering::Release);
        for buffer in &buffers {
            drain(buffer, &mut taken, &mut write);
        }
        if stop {
            return;
        }
    }
}

fn drain(buffer: &Buffer, taken: &mut Vec<u8>, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) {
    taken.clear();
    std::mem::swap(&mut *lock(&buffer.bytes), taken);
    if !taken.is_empty() && write(taken).is_err() {
        // A full disk or a closed pipe: the lines are lost, and said to be.
        let lines = taken.iter().filter(|byte| **byte == b'\n').count();
        buffer.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    // One burst must not keep a large buffer for ever.
    if taken.capacity() > 64 * 1024 {
        *taken = Vec::new();
    }
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
}

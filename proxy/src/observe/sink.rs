//! Lines on their way to stdout, stderr or a file, without ever holding a worker up.
//!
//! Each worker appends to a buffer of its own; one thread empties all of them every few milliseconds. A worker takes a
//! lock that only that thread contends for, for the time of a swap. When the reader of our output stalls, buffers fill to
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
    time::Duration,
};

/// Where access-log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    Off,
    File(PathBuf),
}

/// One writer's buffer for one destination.
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
    access: Vec<Arc<Buffer>>,
    refusals: Vec<Arc<Buffer>>,
    destination: Option<Destination>,
}

/// The log thread and the list of buffers it empties.
pub(crate) struct Sink {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sink {
    /// Starts the log thread.
    pub(crate) fn start(destination: Destination) -> io::Result<Self> {
        if let Destination::File(path) = &destination {
            open(path)?;
        }
        let signal = Arc::new(Signal::default());
        lock(&signal.state).destination = Some(destination);
        let for_thread = Arc::clone(&signal);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || run(&for_thread))?;
        Ok(Self { signal, thread: Mutex::new(Some(thread)) })
    }

    /// A buffer for access-log lines of one worker.
    pub(crate) fn access(&self) -> Lines {
        self.lines(|state| &mut state.access)
    }

    /// A buffer for the refusal lines (stderr) of one worker.
    pub(crate) fn refusals(&self) -> Lines {
        self.lines(|state| &mut state.refusals)
    }

    fn lines(&self, list: impl Fn(&mut State) -> &mut Vec<Arc<Buffer>>) -> Lines {
        let buffer = Arc::new(Buffer { bytes: Mutex::new(Vec::new()), dropped: AtomicU64::new(0) });
        list(&mut lock(&self.signal.state)).push(Arc::clone(&buffer));
        Lines { buffer, signal: Arc::clone(&self.signal) }
    }

    /// Changes where access-log lines go from now on. A file that cannot be opened leaves things as they are.
    pub(crate) fn redirect(&self, destination: Destination) -> io::Result<()> {
        if let Destination::File(path) = &destination {
            open(path)?;
        }
        lock(&self.signal.state).destination = Some(destination);
        Ok(())
    }

    /// Lines dropped because a buffer was full.
    pub(crate) fn dropped(&self) -> u64 {
        let state = lock(&self.signal.state);
        state.access.iter().chain(&state.refusals).map(|buffer| buffer.dropped.load(Ordering::Relaxed)).sum()
    }

    /// Writes what is waiting and ends the thread; waits for it at most `patience`.
    pub(crate) fn stop(&self, patience: Duration) {
        lock(&self.signal.state).stop = true;
        self.signal.wake.notify_one();
        let Some(thread) = lock(&self.thread).take() else {
            return;
        };
        let until = std::time::Instant::now() + patience;
        while !thread.is_finished() && std::time::Instant::now() < until {
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
            let _state = lock(&self.signal.state);
            self.signal.wake.notify_one();
        }
    }
}

fn run(signal: &Signal) {
    let mut open_file: Option<(PathBuf, File)> = None;
    let mut taken = Vec::new();
    loop {
        let (stop, access, refusals, destination) = {
            let mut state = lock(&signal.state);
            while !state.stop && !signal.dirty.load(Ordering::Acquire) {
                state = signal.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            (state.stop, state.access.clone(), state.refusals.clone(), state.destination.clone())
        };
        if !stop {
            std::thread::sleep(limits::LOG_INTERVAL);
        }
        signal.dirty.store(false, Ordering::Release);
        for buffer in &refusals {
            drain(buffer, &mut taken, &mut |bytes| io::stderr().write_all(bytes));
        }
        for buffer in &access {
            drain(buffer, &mut taken, &mut |bytes| match &destination {
                Some(Destination::Stdout) => {
                    let mut out = io::stdout().lock();
                    out.write_all(bytes)?;
                    out.flush()
                }
                Some(Destination::File(path)) => {
                    if open_file.as_ref().is_none_or(|(open, _)| open != path) {
                        open_file = Some((path.clone(), open(path)?));
                    }
                    match &mut open_file {
                        Some((_, file)) => file.write_all(bytes),
                        None => Ok(()),
                    }
                }
                Some(Destination::Off) | None => Ok(()),
            });
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

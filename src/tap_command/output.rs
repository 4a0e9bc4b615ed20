//! Where frames go: files, a pipe, stdout, VXLAN.
//!
//! In: batches, in one order. Each output has a thread and a queue of its own. An output that is full is waited for, for a
//! second; after that what it cannot take is dropped, frame by whole frame, until it takes again.
//! `offered = written + dropped` when nothing waits.

use crate::tap_command::merge::Batch;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{self, Write},
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};
use sys::{datagrams, streams};
use tap::{
    pcap,
    pcapng::Statistics,
    ring::{Failed, Ring},
};
use tokio::sync::Notify;

/// An output as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Ring { dir: PathBuf, size: u64, files: u32 },
    Pipe(PathBuf),
    Stdout,
    Vxlan { to: SocketAddr, vni: u32 },
}

impl Wanted {
    pub(super) fn is_stdout(&self) -> bool {
        *self == Self::Stdout
    }
}

/// Reads one `--out`.
pub(super) fn parse(text: &str) -> Result<Wanted, String> {
    let wrong = |why: &str| format!("--out {text}: {why}; see `sekisho tap receive --help`");
    let (head, query) = text.split_once('?').unwrap_or((text, ""));
    let keys = |known: &[&str]| -> Result<Vec<(String, String)>, String> {
        let mut found: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("a parameter is `key=value`"))?;
            if !known.contains(&key) || found.iter().any(|(seen, _)| seen == key) {
                return Err(wrong(&format!("`{key}` is no parameter here, or is there twice")));
            }
            found.push((key.to_owned(), value.to_owned()));
        }
        Ok(found)
    };
    let value =
        |keys: &[(String, String)], name: &str| keys.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());
    if head == "stdout" {
        keys(&[])?;
        return Ok(Wanted::Stdout);
    }
    if let Some(path) = head.strip_prefix("pipe:").filter(|path| !path.is_empty()) {
        keys(&[])?;
        return Ok(Wanted::Pipe(path.into()));
    }
    if let Some(dir) = head.strip_prefix("ring:").filter(|dir| !dir.is_empty()) {
        let keys = keys(&["size", "files"])?;
        let size = match value(&keys, "size") {
            None => 64 << 20,
            Some(text) => {
                bytes(&text).filter(|size| *size >= 64 << 10).ok_or_else(|| wrong("a size is 64KiB or more"))?
            }
        };
        let files = match value(&keys, "files") {
            None => 8,
            Some(text) => text.parse().ok().filter(|files| *files > 0).ok_or_else(|| wrong("`files` is 1 or more"))?,
        };
        return Ok(Wanted::Ring { dir: dir.into(), size, files });
    }
    if let Some(address) = head.strip_prefix("vxlan://") {
        let to: SocketAddr = address.parse().map_err(|_| wrong("an address is `127.0.0.1:4789`"))?;
        if !to.ip().to_canonical().is_loopback() {
            return Err(wrong("VXLAN is not encrypted: only to this host"));
        }
        let vni = value(&keys(&["vni"])?, "vni").and_then(|text| text.parse().ok()).filter(|vni| *vni < 1 << 24);
        return Ok(Wanted::Vxlan { to, vni: vni.ok_or_else(|| wrong("`vni` is 0 to 16777215"))? });
    }
    Err(wrong("not an output"))
}

/// `65536`, `64KiB`, `64MiB`, `1GiB`.
fn bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (digits, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A running output.
pub(super) struct Output {
    name: String,
    queue: Mutex<Option<SyncSender<Arc<Batch>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
    /// It was waited for in vain.
    stuck: AtomicBool,
}

#[derive(Default)]
struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    /// Leave without waiting for anybody.
    hurry: AtomicBool,
}

impl Shared {
    fn count(&self, written: usize, dropped: usize) {
        self.written.fetch_add(written as u64, Relaxed);
        self.dropped.fetch_add(dropped as u64, Relaxed);
    }
}

impl Output {
    /// Opens it. `broken` hears when the reader of stdout goes away.
    pub(super) fn start(wanted: Wanted, broken: Arc<Notify>) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let (queue, batches) = sync_channel::<Arc<Batch>>(QUEUE);
        let for_thread = Arc::clone(&shared);
        let (name, work): (String, Box<dyn FnOnce() + Send>) = match wanted {
            Wanted::Ring { dir, size, files } => {
                let name = format!("ring:{}", dir.display());
                let ring = Ring::open(&dir, "tap", "sekisho tap receive", size, files, SystemTime::now())
                    .map_err(|error| format!("{name}: {error}"))?;
                (name, Box::new(move || into_ring(ring, &batches, &for_thread)))
            }
            Wanted::Pipe(path) => {
                let name = format!("pipe:{}", path.display());
                streams::open_pipe(&path).map_err(|error| format!("{name}: {error}; make it with `mkfifo`"))?;
                (name, Box::new(move || into_pipe(&path, &batches, &for_thread)))
            }
            Wanted::Stdout => ("stdout".to_owned(), Box::new(move || into_stdout(&batches, &for_thread, &broken))),
            Wanted::Vxlan { to, vni } => {
                let name = format!("vxlan://{to}");
                let local = SocketAddr::new(to.ip(), 0);
                let socket = UdpSocket::bind(local)
                    .and_then(|socket| datagrams::prepare(&socket, to.is_ipv6()).map(|()| socket))
                    .map_err(|error| format!("{name}: {error}"))?;
                (name, Box::new(move || into_vxlan(&socket, to, vni, &batches, &for_thread)))
            }
        };
        let thread = thread::Builder::new().name("output".into()).spawn(work).map_err(|error| error.to_string())?;
        let (queue, thread) = (Mutex::new(Some(queue)), Mutex::new(Some(thread)));
        Ok(Self { name, queue, thread, shared, stuck: AtomicBool::new(false) })
    }

    /// Hands over a batch, or drops it.
    pub(super) fn offer(&self, batch: &Arc<Batch>) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + if self.stuck.load(Relaxed) { Duration::ZERO } else { PATIENCE };
        let Some(queue) = &*queue else {
            return self.shared.count(0, batch.frames.len());
        };
        while let Err(error) = queue.try_send(Arc::clone(batch)) {
            if matches!(error, TrySendError::Disconnected(_)) || Instant::now() >= until {
                self.stuck.store(true, Relaxed);
                return self.shared.count(0, batch.frames.len());
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.stuck.store(false, Relaxed);
    }

    /// Takes nothing more, and waits until what it has is written or dropped.
    pub(super) fn finish(&self, limit: Duration) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let mut until = Instant::now() + limit;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        self.shared.hurry.store(true, Relaxed);
        until = Instant::now() + HURRY;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn counters(&self) -> Value {
        json!({
            "output": self.name,
            "written": self.shared.written.load(Relaxed),
            "dropped": self.shared.dropped.load(Relaxed),
        })
    }
}

fn into_ring(mut ring: Ring, batches: &Receiver<Arc<Batch>>, shared: &Shared) {
    let nanos = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    };
    let since = nanos();
    let statistics = || {
        let (delivered, dropped) = (shared.written.load(Relaxed), shared.dropped.load(Relaxed));
        Statistics { since, until: nanos(), received: delivered + dropped, dropped, delivered, comment: String::new() }
    };
    let mut next_try = Instant::now();
    for batch in batches {
        if !ring.is_open() && next_try <= Instant::now() {
            next_try = Instant::now() + REOPEN;
            // While it fails, what comes is dropped.
            let _ = ring.next(SystemTime::now());
        }
        batch.frames().for_each(|(nanos, frame)| ring.frame(nanos, frame));
        match ring.flush() {
            Ok(written) => shared.count(usize::try_from(written).unwrap_or(usize::MAX), 0),
            Err(Failed { written, lost, .. }) => {
                shared.written.fetch_add(written, Relaxed);
                shared.dropped.fetch_add(lost, Relaxed);
                next_try = Instant::now() + REOPEN;
            }
        }
        if ring.is_full() {
            let _ = ring.finish(&statistics());
            let _ = ring.next(SystemTime::now());
        }
    }
    let _ = ring.finish(&statistics());
}

/// Every reader begins with a header. With none, frames are dropped.
fn into_pipe(path: &std::path::Path, batches: &Receiver<Arc<Batch>>, shared: &Shared) {
    let mut open: Option<File> = None;
    for batch in batches {
        if open.is_none()
            && let Ok(Some(mut pipe)) = streams::open_pipe(path)
            && write(&mut pipe, &pcap::HEADER, shared) == pcap::HEADER.len()
        {
            open = Some(pipe);
        }
        let Some(pipe) = &mut open else {
            shared.count(0, batch.frames.len());
            continue;
        };
        let done = write(pipe, &batch.bytes, shared);
        let written = batch.within(done);
        shared.count(written, batch.frames.len() - written);
        if done < batch.bytes.len() {
            // The reader has gone, or is left amid a frame: the next one begins anew.
            open = None;
        }
    }
}

/// Writes all, waiting for room as long as there is a reader; says how much it wrote.
fn write(pipe: &mut File, bytes: &[u8], shared: &Shared) -> usize {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match pipe.write(rest) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !shared.hurry.load(Relaxed) => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(_) => break,
        }
    }
    done
}

fn into_stdout(batches: &Receiver<Arc<Batch>>, shared: &Shared, broken: &Notify) {
    let mut stdout = io::stdout().lock();
    let mut open = stdout.write_all(&pcap::HEADER).and_then(|()| stdout.flush()).is_ok();
    for batch in batches {
        let frames = batch.frames.len();
        // Whole batches: how much of one a broken pipe took is not known.
        if open && stdout.write_all(&batch.bytes).and_then(|()| stdout.flush()).is_ok() {
            shared.count(frames, 0);
            continue;
        }
        if open {
            broken.notify_one();
        }
        open = false;
        shared.count(0, frames);
    }
}

fn into_vxlan(socket: &UdpSocket, to: SocketAddr, vni: u32, batches: &Receiver<Arc<Batch>>, shared: &Shared) {
    let mut waiting: Vec<Vec<u8>> = Vec::new();
    for batch in batches {
        let frames: Vec<&[u8]> = batch.frames().map(|(_, frame)| frame).collect();
        for some in frames.chunks(datagrams::BATCH) {
            waiting.clear();
            waiting.extend(some.iter().map(|frame| [&tap::vxlan_header(vni)[..], frame].concat()));
            let sent = send(socket, to, &waiting);
            shared.count(sent, waiting.len() - sent);
            thread::sleep(GAP);
        }
    }
}

/// Sends all that can be sent; says how many that were.
fn send(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) -> usize {
    let (mut done, mut sent, mut tries) = (0, 0, 0);
    while let Some(rest) = datagrams.get(done..).filter(|rest| !rest.is_empty()) {
        match datagrams::send_batch(socket, to, rest) {
            Ok(count) if count > 0 => {
                (done, sent, tries) = (done + count, sent + count, 0);
            }
            // News of an earlier datagram, or a queue that empties by itself; some tries, then this one is given up.
            _ if tries < TRIES => {
                datagrams::drain_errors(socket);
                tries += 1;
                thread::sleep(Duration::from_micros(100 * u64::from(tries)));
            }
            _ => (done, tries) = (done + 1, 0),
        }
    }
    sent
}

/// Batches that wait for one output, each at most about 128 KiB.
const QUEUE: usize = 32;
/// How long an output that is full is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long an output may take to notice that we leave.
const HURRY: Duration = Duration::from_millis(300);
const REOPEN: Duration = Duration::from_secs(1);
/// Between 32 datagrams, as the tap itself does.
const GAP: Duration = Duration::from_micros(200);
const TRIES: u32 = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let ring = |dir: &str, size, files| Wanted::Ring { dir: dir.into(), size, files };
        assert_eq!(parse("stdout"), Ok(Wanted::Stdout));
        assert_eq!(parse("pipe:/run/x"), Ok(Wanted::Pipe("/run/x".into())));
        assert_eq!(parse("ring:/d"), Ok(ring("/d", 64 << 20, 8)));
        assert_eq!(parse("ring:/d?size=128KiB&files=2"), Ok(ring("/d", 128 << 10, 2)));
        let to = "[::1]:4789".parse().unwrap();
        assert_eq!(parse("vxlan://[::1]:4789?vni=7"), Ok(Wanted::Vxlan { to, vni: 7 }));
    }

    #[test]
    fn what_is_no_output_is_refused() {
        for wrong in [
            "",
            "file",
            "pipe:",
            "ring:",
            "ring:/d?size=1KiB",
            "ring:/d?files=0",
            "ring:/d?size=1MiB&size=1MiB",
            "ring:/d?sized=1MiB",
            "stdout?x=1",
            "vxlan://10.0.0.1:4789?vni=1",
            "vxlan://127.0.0.1:4789",
            "vxlan://127.0.0.1:4789?vni=16777216",
            "vxlan://localhost:4789?vni=1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! One order of all frames.
//!
//! In: frames from any sender, with the sender's times. Out: batches for every output, whose times never go back and never lie
//! ahead of ours: a sender with a wrong clock must not carry the others along.

use crate::tap_command::output::Output;
use serde_json::{Value, json};
use std::{
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tap::pcap;

/// Frames as they stand in a pcap stream, and where each ends.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// When each passed, and where in `bytes` it ends.
    pub(super) frames: Vec<(u64, usize)>,
}

impl Batch {
    /// Time and bytes of every frame, without what stands before it.
    pub(super) fn frames(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.frames.iter().map(|(_, end)| *end));
        let frame = |((nanos, end), start): (&(u64, usize), usize)| {
            (*nanos, self.bytes.get(start + RECORD..*end).unwrap_or_default())
        };
        self.frames.iter().zip(starts).map(frame)
    }

    /// How many frames lie wholly within the first `count` bytes.
    pub(super) fn within(&self, count: usize) -> usize {
        self.frames.partition_point(|(_, end)| *end <= count)
    }

    fn push(&mut self, nanos: u64, frame: &[u8]) {
        self.bytes.extend_from_slice(&pcap::record(nanos, frame.len()));
        self.bytes.extend_from_slice(frame);
        self.frames.push((nanos, self.bytes.len()));
    }
}

/// Where senders' frames meet.
pub(super) struct Merge {
    /// The latest time given out. Held while outputs are offered a batch, so that they all see one order.
    last: Mutex<u64>,
    outputs: Vec<Output>,
    frames: AtomicU64,
    bytes: AtomicU64,
    retimed: AtomicU64,
}

impl Merge {
    pub(super) fn new(outputs: Vec<Output>) -> Self {
        let (frames, bytes, retimed) = Default::default();
        Self { last: Mutex::new(0), outputs, frames, bytes, retimed }
    }

    /// Takes frames of one sender, in their order.
    pub(super) fn take<'a>(&self, frames: impl Iterator<Item = (u64, &'a [u8])>, now: SystemTime) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        for (nanos, frame) in frames {
            let at = nanos.min(now).max(*last);
            *last = at;
            self.retimed.fetch_add(u64::from(at != nanos), Relaxed);
            self.bytes.fetch_add(frame.len() as u64, Relaxed);
            batch.push(at, frame);
        }
        if batch.frames.is_empty() {
            return;
        }
        self.frames.fetch_add(batch.frames.len() as u64, Relaxed);
        let batch = Arc::new(batch);
        self.outputs.iter().for_each(|output| output.offer(&batch));
    }

    /// Lets every output write what it has.
    pub(super) fn finish(&self, limit: Duration) {
        self.outputs.iter().for_each(|output| output.finish(limit));
    }

    /// Everything counted. `frames` is, for each output, `written` and `dropped` together, when nothing is on its way.
    pub(super) fn counters(&self, senders: Value) -> Value {
        let outputs: Vec<Value> = self.outputs.iter().map(Output::counters).collect();
        json!({
            "senders": senders,
            "frames": self.frames.load(Relaxed),
            "bytes": self.bytes.load(Relaxed),
            "retimed": self.retimed.load(Relaxed),
            "outputs": outputs,
        })
    }
}

/// The counters for people.
pub(super) fn in_words(counters: &Value) -> String {
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    let senders = counters.get("senders").unwrap_or(&Value::Null);
    let mut text = format!(
        "senders: {} now, {} accepted, {} refused, {} ended amid a frame",
        number(senders, "now"),
        number(senders, "accepted"),
        ["refused_tls", "refused_identity", "refused_malformed", "refused_too_many"]
            .iter()
            .map(|name| number(senders, name))
            .sum::<u64>(),
        number(senders, "cut"),
    );
    let _ = write!(
        text,
        "\nframes: {} in {} bytes, {} given another time",
        number(counters, "frames"),
        number(counters, "bytes"),
        number(counters, "retimed")
    );
    for output in counters.get("outputs").and_then(Value::as_array).into_iter().flatten() {
        let name = output.get("output").and_then(Value::as_str).unwrap_or_default();
        let (written, dropped) = (number(output, "written"), number(output, "dropped"));
        let _ = write!(text, "\n{name}: {written} written, {dropped} dropped");
    }
    text
}

/// Bytes before each frame.
const RECORD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_several_senders_become_one_row_that_never_goes_back_nor_ahead() {
        let merge = Merge::new(Vec::new());
        let at = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        let last = || *merge.last.lock().unwrap_or_else(PoisonError::into_inner);
        merge.take([(10, &b"a"[..]), (5, b"b")].into_iter(), at(100));
        assert_eq!((last(), merge.retimed.load(Relaxed)), (10, 1));
        merge.take(std::iter::once((500, &b"c"[..])), at(100));
        assert_eq!((last(), merge.retimed.load(Relaxed)), (100, 2));
        assert_eq!((merge.frames.load(Relaxed), merge.bytes.load(Relaxed)), (3, 3));
    }

    #[test]
    fn a_batch_knows_its_frames() {
        let mut batch = Batch::default();
        batch.push(1, b"abc");
        batch.push(2, b"");
        let frames: Vec<_> = batch.frames().collect();
        assert_eq!(frames, [(1, &b"abc"[..]), (2, b"")]);
        assert_eq!([0, 18, 19, 34, 35].map(|count| batch.within(count)), [0, 0, 1, 1, 2]);
    }
}

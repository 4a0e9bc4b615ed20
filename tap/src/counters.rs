//! Exact accounting of one tap.
//!
//! In: one relaxed atomic addition per event, from any thread. Out: [`Counters`], a snapshot whose three equations
//! hold whenever nothing is in the making, in the queue or gathered to be sent:
//! `matched = mirrored + sum(dropped)`, `body_seen = body_mirrored + body_truncated + body_dropped`,
//! `packets_built = packets_sent + sum(send_errors)`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::redact::Kinds;

/// A snapshot of a tap's counters. All are totals since the tap's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Exchanges that were meant for this tap (`sekisho_tap_matched_total`).
    pub matched: u64,
    /// Exchanges built into packets (`sekisho_tap_mirrored_total`).
    pub mirrored: u64,
    /// Exchanges not copied, by reason, every reason listed (`sekisho_tap_dropped_total`).
    pub dropped: Vec<(&'static str, u64)>,
    /// Mirrored exchanges of which a body was cut at `max_body`.
    pub truncated: u64,
    /// Streams of which the rest was not copied because the queue or the rate cap left no room (`sekisho_tap_streams_cut_total`).
    pub streams_cut: u64,
    /// Mirrored messages whose declared length contradicted the bytes seen; the copy says what was seen.
    pub length_conflicts: u64,
    /// Body bytes of the exchanges that were offered.
    pub body_seen: u64,
    /// Body bytes built into packets.
    pub body_mirrored: u64,
    /// Body bytes beyond `max_body` of mirrored exchanges.
    pub body_truncated: u64,
    /// Body bytes of exchanges that were offered and then dropped.
    pub body_dropped: u64,
    /// Packets built (`sekisho_tap_packets_built_total`).
    pub packets_built: u64,
    /// Packets that left: taken by the kernel as datagrams, acknowledged by the receiver of a stream, written to a file
    /// (`sekisho_tap_packets_sent_total`).
    pub packets_sent: u64,
    /// Packets that did not, by errno, those that occurred (`sekisho_tap_send_errors_total`).
    pub send_errors: Vec<(&'static str, u64)>,
    /// Connections to receivers and of readers that ended otherwise than by us, readers turned away, and files that could not
    /// be written on (`sekisho_tap_streams_broken_total`).
    pub streams_broken: u64,
    /// ICMP errors and the like that came back. With a sensor that only sniffs, port-unreachable is normal.
    pub unreachable: u64,
    /// Mirrored exchanges in which a credential was recognised by its shape, by kind, those that occurred
    /// (`sekisho_tap_credentials_total`).
    pub credentials: Vec<(&'static str, u64)>,
    /// The last send error, and when it came, to the second.
    pub last_error: Option<(&'static str, SystemTime)>,
    /// Bytes held by exchanges in the making and in the queue (a gauge).
    pub queue_bytes: u64,
}

impl Counters {
    /// Sum over all drop reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, n)| n).sum()
    }

    /// Drops for one reason.
    pub fn dropped_for(&self, reason: Reason) -> u64 {
        self.dropped.iter().find(|(name, _)| *name == reason.as_str()).map_or(0, |(_, n)| *n)
    }

    /// Sum over all send errors.
    pub fn send_errors_total(&self) -> u64 {
        self.send_errors.iter().map(|(_, n)| n).sum()
    }
}

/// Why a matched exchange was not mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The tap's sample left it out.
    SampledOut,
    /// A rate cap was reached.
    RateCap,
    /// The queue's byte budget or its slots were used up.
    QueueFull,
    /// Held for a response-side decision for too long.
    HoldOverflow,
    /// The copy could not be made safe to leave, or the record was not one exchange.
    RedactError,
    /// A line or header held CR, LF, NUL or another byte that would forge messages to the IDS.
    UnsafeHeader,
    /// The tap has no sensor address.
    TapDown,
    /// The tap was stopping.
    Shutdown,
    /// The exchange ended without a record.
    Abandoned,
    /// It is no whole request that could be sent again, which is all that this kind of tap does.
    Unsuitable,
}

impl Reason {
    /// Every reason, in the order of the snapshot.
    pub const ALL: [Self; 10] = [
        Self::SampledOut,
        Self::RateCap,
        Self::QueueFull,
        Self::HoldOverflow,
        Self::RedactError,
        Self::UnsafeHeader,
        Self::TapDown,
        Self::Shutdown,
        Self::Abandoned,
        Self::Unsuitable,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SampledOut => "sampled_out",
            Self::RateCap => "rate_cap",
            Self::QueueFull => "queue_full",
            Self::HoldOverflow => "hold_overflow",
            Self::RedactError => "redact_error",
            Self::UnsafeHeader => "unsafe_header",
            Self::TapDown => "tap_down",
            Self::Shutdown => "shutdown",
            Self::Abandoned => "abandoned",
            Self::Unsuitable => "unsuitable",
        }
    }
}

/// The living counters behind a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) matched: AtomicU64,
    pub(crate) mirrored: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
    pub(crate) truncated: AtomicU64,
    pub(crate) streams_cut: AtomicU64,
    pub(crate) length_conflicts: AtomicU64,
    pub(crate) body_seen: AtomicU64,
    pub(crate) body_mirrored: AtomicU64,
    pub(crate) body_truncated: AtomicU64,
    pub(crate) body_dropped: AtomicU64,
    pub(crate) packets_built: AtomicU64,
    pub(crate) packets_sent: AtomicU64,
    send_errors: [AtomicU64; ERRNOS.len() + 1],
    pub(crate) streams_broken: AtomicU64,
    pub(crate) unreachable: AtomicU64,
    credentials: [AtomicU64; Kinds::ALL.len()],
    /// The place of the last errno in the list and one more, and the second since 1970 it came in, as `second * 256 + place`.
    last_error: AtomicU64,
}

impl Tally {
    /// One exchange was dropped.
    pub(crate) fn drop_one(&self, reason: Reason) {
        if let Some(cell) = self.dropped.get(reason as usize) {
            cell.fetch_add(1, Relaxed);
        }
    }

    /// An exchange held credentials of these kinds.
    pub(crate) fn flagged(&self, kinds: Kinds) {
        if !kinds.is_empty() {
            let found = Kinds::ALL.iter().zip(&self.credentials).filter(|((kind, _), _)| kinds.has(*kind));
            found.for_each(|(_, cell)| {
                cell.fetch_add(1, Relaxed);
            });
        }
    }

    /// So many records were taken.
    pub(crate) fn sent(&self, count: usize) {
        self.packets_sent.fetch_add(count as u64, Relaxed);
    }

    /// Drops other than those of the sample, which were never promised, and send errors.
    pub(crate) fn losses(&self) -> (u64, u64) {
        let read = |cells: &[AtomicU64]| cells.iter().map(|cell| cell.load(Relaxed)).sum::<u64>();
        let sampled = self.dropped.get(Reason::SampledOut as usize).map_or(0, |cell| cell.load(Relaxed));
        (read(&self.dropped).saturating_sub(sampled), read(&self.send_errors))
    }

    /// One packet was refused with this errno.
    pub(crate) fn send_error(&self, errno: i32) {
        self.send_errors(errno, 1);
    }

    /// So many packets were.
    pub(crate) fn send_errors(&self, errno: i32, count: u64) {
        let slot = ERRNOS.iter().position(|(known, _)| *known == errno).unwrap_or(ERRNOS.len());
        if let Some(cell) = self.send_errors.get(slot) {
            cell.fetch_add(count, Relaxed);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            self.last_error.store(now << 8 | (slot as u64 + 1), Relaxed);
        }
    }

    fn last_error(&self) -> Option<(&'static str, SystemTime)> {
        let last = self.last_error.load(Relaxed);
        let place = (last & 0xff).checked_sub(1)?;
        let name = ERRNOS.get(usize::try_from(place).ok()?).map_or("other", |(_, name)| *name);
        Some((name, UNIX_EPOCH + Duration::from_secs(last >> 8)))
    }

    /// Everything lost so far, of whatever kind, without a snapshot.
    pub(crate) fn lost(&self) -> u64 {
        let dropped = Reason::ALL.iter().zip(&self.dropped).filter(|(reason, _)| **reason != Reason::SampledOut);
        let counted = dropped.map(|(_, cell)| cell).chain(&self.send_errors).chain([&self.streams_cut]);
        counted.map(|cell| cell.load(Relaxed)).sum()
    }

    pub(crate) fn snapshot(&self, queue_bytes: u64) -> Counters {
        let read = |cell: &AtomicU64| cell.load(Relaxed);
        let names = ERRNOS.iter().map(|(_, name)| *name).chain(["other"]);
        Counters {
            matched: read(&self.matched),
            mirrored: read(&self.mirrored),
            dropped: Reason::ALL.iter().zip(&self.dropped).map(|(r, n)| (r.as_str(), read(n))).collect(),
            truncated: read(&self.truncated),
            streams_cut: read(&self.streams_cut),
            length_conflicts: read(&self.length_conflicts),
            body_seen: read(&self.body_seen),
            body_mirrored: read(&self.body_mirrored),
            body_truncated: read(&self.body_truncated),
            body_dropped: read(&self.body_dropped),
            packets_built: read(&self.packets_built),
            packets_sent: read(&self.packets_sent),
            send_errors: names
                .zip(&self.send_errors)
                .map(|(name, n)| (name, read(n)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            streams_broken: read(&self.streams_broken),
            unreachable: read(&self.unreachable),
            credentials: Kinds::ALL
                .iter()
                .zip(&self.credentials)
                .map(|((_, name), cell)| (*name, read(cell)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            last_error: self.last_error(),
            queue_bytes,
        }
    }
}

/// Refusals that a send or a write is known to meet; every other errno is counted as `other`.
const ERRNOS: [(i32, &str); 24] = [
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EMSGSIZE, "EMSGSIZE"),
    (libc::ENETUNREACH, "ENETUNREACH"),
    (libc::EHOSTUNREACH, "EHOSTUNREACH"),
    (libc::ENETDOWN, "ENETDOWN"),
    (libc::ECONNREFUSED, "ECONNREFUSED"),
    (libc::EPERM, "EPERM"),
    (libc::EACCES, "EACCES"),
    (libc::EINVAL, "EINVAL"),
    (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (libc::ENODEV, "ENODEV"),
    (libc::ENOTCONN, "ENOTCONN"),
    (libc::EPIPE, "EPIPE"),
    (libc::ECONNRESET, "ECONNRESET"),
    (libc::ECONNABORTED, "ECONNABORTED"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::ECANCELED, "ECANCELED"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::EDQUOT, "EDQUOT"),
    (libc::EROFS, "EROFS"),
    (libc::EIO, "EIO"),
    (libc::EPROTO, "EPROTO"),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_cell() {
        let tally = Tally::default();
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            (0..=n).for_each(|_| tally.drop_one(reason));
        }
        let seen = tally.snapshot(0);
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(seen.dropped_for(reason), n as u64 + 1);
        }
        assert_eq!(seen.dropped_total(), (1..=Reason::ALL.len() as u64).sum::<u64>());
    }

    #[test]
    fn what_a_sample_leaves_out_is_not_lost() {
        let tally = Tally::default();
        tally.drop_one(Reason::SampledOut);
        assert_eq!(tally.lost(), 0);
        tally.drop_one(Reason::QueueFull);
        tally.send_errors(libc::EPIPE, 7);
        tally.streams_cut.fetch_add(1, Relaxed);
        assert_eq!(tally.lost(), 9);
    }

    #[test]
    fn unknown_errno_is_counted_as_other() {
        let tally = Tally::default();
        tally.send_error(libc::ENOBUFS);
        tally.send_error(99_999);
        assert_eq!(tally.snapshot(0).send_errors, vec![("ENOBUFS", 1), ("other", 1)]);
    }
}

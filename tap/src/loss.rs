//! Loss told in the stream itself: a notice for whoever reads the copy and nothing else.
//!
//! In: the counters. Out: at most once a second, and only when something was lost since the last one, a frame with a syslog
//! message (RFC 5424, RFC 5426) from the workload to the sensor. Zeek's and Suricata's syslog logs have it without being told
//! to. The counters in it are totals, so that a notice that is lost itself is made good by the next.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use crate::calendar::{self, Fraction};
use crate::counters::Counters;

/// What was told so far.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// Losses in the last notice, and of that notice.
    told: u64,
    last: Option<Instant>,
}

impl Notices {
    /// Whether a notice is due, after so many losses in all.
    pub(crate) fn is_due(&self, now: Instant, lost: u64) -> bool {
        lost > self.told && self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL)
    }

    /// When one may become due; `None` while nothing new was lost.
    pub(crate) fn next(&self, lost: u64) -> Option<Instant> {
        self.last.filter(|_| lost > self.told).map(|last| last + INTERVAL)
    }

    /// A notice was given. What was lost until now is told: one that cannot be sent asks for no other.
    pub(crate) fn given(&mut self, now: Instant, lost: u64) {
        (self.told, self.last) = (lost, Some(now));
    }
}

/// Where a notice comes from and goes to, of one family: documentation addresses (RFC 5737, RFC 3849) stand for what is
/// not known.
pub(crate) fn ends(workload: Option<IpAddr>, sensor: Option<IpAddr>) -> (SocketAddr, SocketAddr) {
    let workload = workload.map_or(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), |ip| ip.to_canonical());
    let elsewhere = match workload {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    let sensor = sensor.map(|ip| ip.to_canonical()).filter(|ip| ip.is_ipv4() == workload.is_ipv4());
    (SocketAddr::new(workload, PORT), SocketAddr::new(sensor.unwrap_or(elsewhere), PORT))
}

/// The message, at most `room` bytes. `host` is the workload's address, `tap` the tap's name.
pub(crate) fn message(tap: &str, host: IpAddr, counters: &Counters, wall: SystemTime, room: usize) -> String {
    let mut text = format!("<{PRIORITY}>1 {} {host} sekisho - loss [tap@{ENTERPRISE}", time(wall));
    let quoted = tap.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
    let mut numbers = vec![("name".to_owned(), quoted)];
    let totals = [
        ("matched", counters.matched),
        ("mirrored", counters.mirrored),
        ("packets_built", counters.packets_built),
        ("packets_sent", counters.packets_sent),
        ("streams_cut", counters.streams_cut),
    ];
    numbers.extend(totals.map(|(name, count)| (name.to_owned(), count.to_string())));
    numbers.extend(reasons(counters).map(|(name, count)| (name, count.to_string())));
    for (name, value) in numbers {
        let element = format!(" {name}=\"{value}\"");
        if text.len() + element.len() + TAIL.len() <= room {
            text.push_str(&element);
        }
    }
    text.push_str(TAIL);
    text
}

/// The same in words, for a format that has a place for words: `dropped_queue_full=3 send_error_EPIPE=7`.
pub(crate) fn comment(counters: &Counters) -> String {
    let mut text = format!("matched={} mirrored={}", counters.matched, counters.mirrored);
    for (name, count) in reasons(counters) {
        let _ = write!(text, " {name}={count}");
    }
    text
}

fn reasons(counters: &Counters) -> impl Iterator<Item = (String, u64)> {
    let dropped = counters.dropped.iter().map(|(reason, count)| (format!("dropped_{reason}"), *count));
    let errors = counters.send_errors.iter().map(|(errno, count)| (format!("send_error_{errno}"), *count));
    dropped.chain(errors).filter(|(_, count)| *count > 0)
}

/// RFC 3339 in UTC, with milliseconds.
fn time(wall: SystemTime) -> String {
    let mut text = String::with_capacity(24);
    calendar::rfc3339(&mut text, wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(), Fraction::Millis);
    text
}

/// Least time between two notices.
const INTERVAL: Duration = Duration::from_secs(1);
/// Syslog over UDP (RFC 5426 section 3.3).
const PORT: u16 = 514;
/// Facility local0, severity warning (RFC 5424 section 6.2.1).
const PRIORITY: u8 = 16 * 8 + 4;
/// The number for documentation and examples (RFC 5612): we have none of our own.
const ENTERPRISE: u32 = 32_473;
const TAIL: &str = "] the copy is not complete";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Reason, Tally};

    fn counters() -> Counters {
        let tally = Tally::default();
        tally.drop_one(Reason::QueueFull);
        tally.drop_one(Reason::SampledOut);
        tally.send_errors(libc::EPIPE, 7);
        tally.snapshot(0)
    }

    #[test]
    fn the_message_is_syslog_with_the_counters_as_data() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_789);
        let text = message("id\"s", IpAddr::V4(Ipv4Addr::LOCALHOST), &counters(), wall, 1000);
        let expected = "<132>1 2024-02-29T12:34:56.789Z 127.0.0.1 sekisho - loss [tap@32473 name=\"id\\\"s\" matched=\"0\" \
                        mirrored=\"0\" packets_built=\"0\" packets_sent=\"0\" streams_cut=\"0\" dropped_sampled_out=\"1\" \
                        dropped_queue_full=\"1\" send_error_EPIPE=\"7\"] the copy is not complete";
        assert_eq!(text, expected);
        let short = message("ids", IpAddr::V4(Ipv4Addr::LOCALHOST), &counters(), wall, 120);
        assert!(short.len() <= 120 && short.ends_with(TAIL), "{short}");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let at = |seconds| time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_notice_comes_at_most_once_a_second_and_never_without_a_new_loss() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        assert!(!notices.is_due(now, 0) && notices.is_due(now, 1));
        notices.given(now, 1);
        assert!(!notices.is_due(now + INTERVAL, 1) && !notices.is_due(now + INTERVAL / 2, 2));
        assert_eq!((notices.next(1), notices.next(2)), (None, Some(now + INTERVAL)));
        assert!(notices.is_due(now + INTERVAL, 2));
    }

    #[test]
    fn both_ends_are_of_one_family() {
        let (four, six) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        for (workload, sensor) in [(None, None), (Some(four), Some(six)), (Some(six), Some(four)), (Some(six), None)] {
            let (from, to) = ends(workload, sensor);
            assert_eq!(from.is_ipv4(), to.is_ipv4());
        }
        assert_eq!(ends(Some(four), Some(four)).1.ip(), four);
    }
}

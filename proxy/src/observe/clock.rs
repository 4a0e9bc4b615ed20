//! Wall-clock text for log lines: RFC 3339 in UTC with milliseconds, formatted without a calendar library.
//!
//! In: a [`SystemTime`]. Out: `2026-11-22T02:57:54.082Z`. A time before 1970 is written as 1970.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Writes times, and remembers the last second: of a thousand lines in one second only the milliseconds are new.
pub(crate) struct Clock {
    /// Seconds since 1970, and the text of their beginning.
    second: Cell<(u64, [u8; 24])>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { second: Cell::new((0, whole(0))) }
    }
}

impl Clock {
    /// Writes the time that is so long after 1970 as RFC 3339 with milliseconds.
    pub(crate) fn write(&self, out: &mut Vec<u8>, since: Duration) {
        if self.second.get().0 != since.as_secs() {
            self.turn_to(since.as_secs());
        }
        let (_, mut text) = self.second.get();
        let [.., hundreds, tens, ones, _] = &mut text;
        let millis = since.subsec_millis();
        let digit = |unit: u32| b'0' + u8::try_from(millis / unit % 10).unwrap_or(0);
        (*hundreds, *tens, *ones) = (digit(100), digit(10), digit(1));
        out.extend_from_slice(&text);
    }

    #[cold]
    fn turn_to(&self, seconds: u64) {
        self.second.set((seconds, whole(seconds)));
    }
}

/// How long after 1970 it was, so long ago.
pub(crate) fn before_now(ago: Duration) -> Duration {
    since_1970(SystemTime::now()).saturating_sub(ago)
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The text of the beginning of a second.
fn whole(seconds: u64) -> [u8; 24] {
    let (year, month, day) = tap::civil(seconds / 86_400);
    let in_day = seconds % 86_400;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    digits(text.get_mut(..4), year);
    digits(text.get_mut(5..7), month);
    digits(text.get_mut(8..10), day);
    digits(text.get_mut(11..13), in_day / 3600);
    digits(text.get_mut(14..16), in_day / 60 % 60);
    digits(text.get_mut(17..19), in_day % 60);
    text
}

/// Fills a place with the last digits of a number.
fn digits(place: Option<&mut [u8]>, value: u64) {
    let mut left = value;
    for digit in place.unwrap_or_default().iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
    }
}

/// `time` as RFC 3339 with milliseconds, in UTC.
#[must_use]
pub fn text(time: SystemTime) -> String {
    let mut out = Vec::with_capacity(24);
    Clock::default().write(&mut out, since_1970(time));
    String::from_utf8(out).unwrap_or_default()
}

/// The form of HTTP headers: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7, IMF-fixdate).
pub(crate) fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = since_1970(time).as_secs();
    let days = seconds / 86_400;
    let (year, month, day) = tap::civil(days);
    let pick = |names: &[&'static str], index: u64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or("")
    };
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        pick(&DAYS, days % 7),
        pick(&MONTHS, month - 1),
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_rfc_9110_comes_out_right() {
        assert_eq!(http_date(UNIX_EPOCH + Duration::from_secs(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn known_days_come_out_right() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_316_274, "2026-11-22T02:57:54.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_remembered_second_changes_no_text() {
        let clock = Clock::default();
        // On, back, within a second and over the ends of several units.
        for millis in [0, 999, 1000, 999, 59_999, 60_000, 1_795_316_274_082, 1_795_316_274_007, 1_795_316_274_999, 0] {
            let since = Duration::from_millis(millis);
            let mut out = Vec::new();
            clock.write(&mut out, since);
            assert_eq!(String::from_utf8_lossy(&out), text(UNIX_EPOCH + since));
            assert!(out.ends_with(format!(".{:03}Z", millis % 1000).as_bytes()));
        }
    }
}

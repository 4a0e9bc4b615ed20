//! Times as the log writes them: UTC, milliseconds, `2027-01-15T08:00:00.000Z`, always 24 characters.
//!
//! Refused are other spellings, dates that are not in the calendar, and years before 1970 or after 9999.

use std::fmt;
use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime};

/// Milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Stamp {
    /// The millisecond a time is in. What the form cannot say becomes the nearest it can: no clock stops the log.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(LAST).min(LAST))
    }

    /// The beginning of that millisecond.
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0)
    }

    pub(crate) fn push(self, out: &mut Vec<u8>) {
        // Below the year 10000 the calendar has every second.
        let seconds = i64::try_from(self.0 / 1000).unwrap_or_default();
        let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let year = u32::try_from(at.year()).unwrap_or_default();
        let parts = [
            (b'-', year, 4),
            (b'-', u32::from(u8::from(at.month())), 2),
            (b'T', u32::from(at.day()), 2),
            (b':', u32::from(at.hour()), 2),
            (b':', u32::from(at.minute()), 2),
            (b'.', u32::from(at.second()), 2),
            (b'Z', (self.0 % 1000) as u32, 3),
        ];
        for (end, value, digits) in parts {
            for place in (0..digits).rev() {
                out.push(b'0' + (value / 10_u32.pow(place) % 10) as u8);
            }
            out.push(end);
        }
    }

    pub(crate) fn read(text: &[u8; 24]) -> Option<Self> {
        let mut rest = text.as_slice();
        let mut number = |digits: usize, end: u8| {
            let (value, after) = rest.split_at_checked(digits)?;
            let (found, after) = after.split_first()?;
            rest = after;
            if *found != end || !value.iter().all(u8::is_ascii_digit) {
                return None;
            }
            Some(value.iter().fold(0, |sum: u32, digit| sum * 10 + u32::from(digit - b'0')))
        };
        let (year, month, day) = (number(4, b'-')?, number(2, b'-')?, number(2, b'T')?);
        let (hour, minute) = (number(2, b':')?, number(2, b':')?);
        let (second, thousandth) = (number(2, b'.')?, number(3, b'Z')?);
        let small = |value: u32| u8::try_from(value).ok();
        let date =
            Date::from_calendar_date(i32::try_from(year).ok()?, Month::try_from(small(month)?).ok()?, small(day)?);
        let at = date.ok()?.with_hms(small(hour)?, small(minute)?, small(second)?).ok()?.assume_utc();
        let seconds = u64::try_from(at.unix_timestamp()).ok()?;
        Some(Self(seconds * 1000 + u64::from(thousandth)))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.push(&mut text);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stamp({self})")
    }
}

/// 9999-12-31T23:59:59.999Z.
const LAST: u64 = 253_402_300_799_999;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Stamp> {
        Stamp::read(text.as_bytes().try_into().ok()?)
    }

    #[test]
    fn a_time_is_read_as_it_is_written() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_800_000_000_123, "2027-01-15T08:00:00.123Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Stamp(millis).to_string(), text);
            assert_eq!(read(text), Some(Stamp(millis)));
            assert_eq!(Stamp::of(Stamp(millis).time()), Stamp(millis));
        }
    }

    #[test]
    fn other_spellings_and_days_that_never_were_are_refused() {
        for wrong in [
            "2027-02-29T00:00:00.000Z",
            "2027-13-01T00:00:00.000Z",
            "2027-00-01T00:00:00.000Z",
            "2027-01-01T24:00:00.000Z",
            "2027-01-01T23:59:60.000Z",
            "2027-01-01t00:00:00.000Z",
            "2027-01-01T00:00:00.000z",
            "2027-01-01T00:00:00,000Z",
            "1969-12-31T23:59:59.999Z",
            "+027-01-01T00:00:00.000Z",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_clock_beyond_the_calendar_stays_within() {
        assert_eq!(Stamp::of(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), Stamp(0));
        assert_eq!(Stamp::of(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40)), Stamp(LAST));
    }
}

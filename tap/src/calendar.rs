//! Times as people read them: days of the calendar, RFC 3339 in UTC, without a calendar library.
//!
//! In: how long after 1970. Out: year, month and day, or the whole text. Leap seconds are not known, as to the system's clock.

use std::fmt::Write as _;
use std::time::Duration;

/// Days since 1970-01-01 to year, month, day in the proleptic Gregorian calendar (the algorithm of H. Hinnant's
/// `civil_from_days`, for days that are not negative).
#[must_use]
pub fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, so that the leap day is a year's last: 400 years have 146097 days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// How many digits a fraction of a second has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fraction {
    Millis,
    Nanos,
}

/// RFC 3339 section 5.6, in UTC.
pub(crate) fn rfc3339(text: &mut String, since_1970: Duration, fraction: Fraction) {
    let seconds = since_1970.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    let _ = match fraction {
        Fraction::Millis => write!(text, ".{:03}Z", since_1970.subsec_millis()),
        Fraction::Nanos => write!(text, ".{:09}Z", since_1970.subsec_nanos()),
    };
}

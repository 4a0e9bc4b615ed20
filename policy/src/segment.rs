//! The types a path parameter can have, and the test of one value.
//!
//! Values arrive decoded. Every type is a regular set over one segment, decided in one pass.

use crate::case::folded;

/// What a parameter accepts. `any` is every non-empty segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Any,
    Uint,
    Int,
    Uuid,
    Ulid,
    Hex,
    Slug,
    Date,
    Email,
    /// One of these words.
    Choice(Box<[Box<[u8]>]>),
}

/// The names of the types, for parsing and for suggestions.
pub(crate) const KINDS: [&str; 9] = ["uint", "int", "uuid", "ulid", "hex", "slug", "date", "email", "any"];

impl Kind {
    /// The same for values in lower case. Of all types only `slug` and the words of a choice tell case apart.
    pub(crate) fn folded(&self) -> Self {
        match self {
            Self::Choice(words) => Self::Choice(words.iter().map(|word| folded(word)).collect()),
            other => other.clone(),
        }
    }

    /// The type of that name; `None` for an unknown one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "any" => Self::Any,
            "uint" => Self::Uint,
            "int" => Self::Int,
            "uuid" => Self::Uuid,
            "ulid" => Self::Ulid,
            "hex" => Self::Hex,
            "slug" => Self::Slug,
            "date" => Self::Date,
            "email" => Self::Email,
            _ => return None,
        })
    }

    /// Whether a decoded value is of this type. An empty value is of none.
    pub(crate) fn accepts(&self, value: &[u8]) -> bool {
        if value.is_empty() {
            return false;
        }
        match self {
            Self::Any => true,
            Self::Uint => is_uint(value),
            Self::Int => is_uint(value) || value.strip_prefix(b"-").is_some_and(is_negative),
            Self::Uuid => is_uuid(value),
            Self::Ulid => is_ulid(value),
            Self::Hex => value.iter().all(u8::is_ascii_hexdigit),
            Self::Slug => value.split(|b| *b == b'-').all(is_slug_word),
            Self::Date => is_date(value),
            Self::Email => is_email(value),
            Self::Choice(words) => words.iter().any(|w| **w == *value),
        }
    }
}

/// Decimal digits whose value fits 64 bits: a longer run is a number to no origin.
fn is_uint(value: &[u8]) -> bool {
    number(value).is_some_and(|n| n <= u128::from(u64::MAX))
}

/// What follows the minus sign of a number that fits 64 bits.
fn is_negative(digits: &[u8]) -> bool {
    number(digits).is_some_and(|n| n <= u128::from(i64::MIN.unsigned_abs()))
}

/// At most 20 digits, so the sum cannot overflow.
fn number(digits: &[u8]) -> Option<u128> {
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u128, |n, d| n * 10 + u128::from(d - b'0')))
}

/// RFC 9562 §4: 8-4-4-4-12 hexadecimal digits of either case.
fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// 26 characters of Crockford's base 32, the first at most 7 so that it fits 128 bits.
fn is_ulid(value: &[u8]) -> bool {
    let alphabet = |b: &u8| b.is_ascii_alphanumeric() && !b"ILOUilou".contains(b);
    value.len() == 26 && value.iter().all(alphabet) && matches!(value.first(), Some(b'0'..=b'7'))
}

/// Lower-case words joined by single hyphens: `blue-suede-shoes-2`.
fn is_slug_word(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// A day of the Gregorian calendar, `YYYY-MM-DD` (RFC 3339 §5.6 full-date).
fn is_date(value: &[u8]) -> bool {
    let [y @ .., b'-', m1, m2, b'-', d1, d2] = value else {
        return false;
    };
    if y.len() != 4 {
        return false;
    }
    let (Some(y), Some(m), Some(d)) = (number(y), number(&[*m1, *m2]), number(&[*d1, *d2])) else {
        return false;
    };
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let days = match m {
        2 => 28 + u128::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return false,
    };
    (1..=days).contains(&d)
}

/// A plain address: dot-atom local part, dotted host name. No quotes, comments or literals.
fn is_email(value: &[u8]) -> bool {
    let Some(at) = value.iter().position(|b| *b == b'@') else {
        return false;
    };
    let Some((local, [_, domain @ ..])) = value.split_at_checked(at) else {
        return false;
    };
    let atom = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(b);
    let label = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
    value.len() <= 254
        && local.split(|b| *b == b'.').all(|a| !a.is_empty() && a.iter().all(atom))
        && domain.contains(&b'.')
        && domain.split(|b| *b == b'.').all(|l| !l.is_empty() && l.iter().all(label))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::{KINDS, Kind};

    #[test]
    fn each_type_accepts_its_values_and_refuses_near_misses() {
        let table: [(&str, &[&str], &[&str]); 9] = [
            (
                "uint",
                &["0", "42", "007", "18446744073709551615"],
                &["", "-1", "+1", "1.0", "18446744073709551616", "4a", "٣"],
            ),
            ("int", &["0", "-1", "-9223372036854775808"], &["-", "--1", "-9223372036854775809", "1e3"]),
            (
                "uuid",
                &["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"],
                &[
                    "123e4567e89b12d3a456426614174000",
                    "123e4567-e89b-12d3-a456-42661417400g",
                    "{123e4567-e89b-12d3-a456-426614174000}",
                ],
            ),
            (
                "ulid",
                &["01ARZ3NDEKTSV4RRFFQ69G5FAV"],
                &["81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01ARZ3NDEKTSV4RRFFQ69G5FAU"],
            ),
            ("hex", &["0", "dEaDbEeF"], &["0x10", "g", ""]),
            ("slug", &["a", "blue-suede-2"], &["-a", "a-", "a--b", "A", "a_b"]),
            (
                "date",
                &["2024-02-29", "2000-02-29", "1999-12-31"],
                &["2023-02-29", "1900-02-29", "2024-13-01", "2024-00-10", "2024-1-1", "20240101", "2024-01-32"],
            ),
            (
                "email",
                &["a.b+c@example.org"],
                &["a", "@example.org", "a@", "a@localhost", "a..b@example.org", "a@b@example.org"],
            ),
            ("any", &["x", "..."], &[""]),
        ];
        assert_eq!(table.map(|row| row.0), KINDS);
        for (name, good, bad) in table {
            let kind = Kind::named(name).unwrap();
            good.iter().for_each(|v| assert!(kind.accepts(v.as_bytes()), "{name} {v}"));
            bad.iter().for_each(|v| assert!(!kind.accepts(v.as_bytes()), "{name} {v}"));
        }
    }
}

//! Numbers as decimal text, without an allocation: for heads and log lines.

use std::ops::Deref;

/// Appends the digits of a number. Most numbers of a log line are short, and written without a loop.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=9 => out.push(b'0' + value as u8),
        10..=9999 => write_short(out, value as u16),
        _ => write_long(out, value),
    }
}

#[inline(never)]
fn write_short(out: &mut Vec<u8>, value: u16) {
    let (high, low) = (pair(value / 100), pair(value % 100));
    match value {
        ..=99 => out.extend_from_slice(&low),
        100..=999 => out.extend_from_slice(&[high[1], low[0], low[1]]),
        _ => out.extend_from_slice(&[high[0], high[1], low[0], low[1]]),
    }
}

/// The digits of a number below 100.
fn pair(value: u16) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

#[cold]
fn write_long(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&Decimal::of(value));
}

/// The digits of a number.
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(crate) fn of(value: u64) -> Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut left = value;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            start -= 1;
            if left == 0 {
                break;
            }
        }
        Self { digits, start }
    }
}

impl Deref for Decimal {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Decimal, write};

    #[test]
    fn numbers_are_written_whole() {
        for value in (0..12_000).chain([65_535, u64::MAX]) {
            assert_eq!(&*Decimal::of(value), value.to_string().as_bytes());
            let mut out = b"=".to_vec();
            write(&mut out, value);
            assert_eq!(out, format!("={value}").as_bytes());
        }
    }
}

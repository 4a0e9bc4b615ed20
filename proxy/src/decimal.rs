//! Numbers as decimal text, without an allocation: for heads and log lines.

use std::ops::Deref;

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
    use super::Decimal;

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 7, 10, 65_535, u64::MAX] {
            assert_eq!(&*Decimal::of(value), value.to_string().as_bytes());
        }
    }
}

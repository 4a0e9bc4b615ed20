//! What a peer may make us do for nothing: the account of one downstream HTTP/2 connection.
//!
//! Most kinds of frames cost who sends them nine bytes and who reads them some work, and move nothing: PING, SETTINGS,
//! PRIORITY, WINDOW_UPDATE, resets, heads that are refused, kinds nobody knows. RFC 9113 §10.5 asks for a limit on their use.
//! Real clients send them too, but beside requests, while they read answers, and not without end. So every frame has a price,
//! except DATA that carries something (the library bounds it by windows), and there is income: from requests that are begun,
//! from bytes that are written, from time. Who cannot pay is cut off.
//!
//! Whatever is written only to answer a frame earns less than that frame cost, so nobody lives on our own acknowledgements.

use crate::limits;
use std::time::Instant;

/// The price of a frame.
pub(super) const FRAME: u32 = 1;
/// What a request earns when it is begun: its head with two CONTINUATION, a PRIORITY, trailers, two WINDOW_UPDATE.
pub(super) const REQUEST: u32 = 8;
/// The price of RST_STREAM: a request that is taken back has earned nothing.
pub(super) const RESET: u32 = REQUEST;
/// The price of a head of too many fields, which had to be decoded to be refused.
pub(super) const BROAD_HEAD: u32 = 200;
/// So many written bytes earn the price of one frame. The longest frame that answers a frame, PING, has 17.
const BYTES: usize = 32;

/// An account, full at the beginning.
#[derive(Debug)]
pub(super) struct Account {
    left: u32,
    /// Bytes written that were not counted yet.
    written: usize,
    /// When it was last counted together.
    since: Instant,
    /// Something could not be paid.
    overdrawn: bool,
}

impl Account {
    pub(super) fn open(now: Instant) -> Self {
        Self { left: limits::H2_ALLOWANCE, written: 0, since: now, overdrawn: false }
    }

    /// Takes a price. The clock is read only when what is left does not suffice.
    pub(super) fn pay(&mut self, price: u32, now: impl FnOnce() -> Instant) {
        if self.left < price {
            self.collect(now());
        }
        match self.left.checked_sub(price) {
            Some(left) => self.left = left,
            None => self.overdrawn = true,
        }
    }

    pub(super) fn earn(&mut self, income: u32) {
        self.left = self.left.saturating_add(income).min(limits::H2_ALLOWANCE);
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Whether something could not be paid. It stays so.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.overdrawn
    }

    /// Counts what was written, and the time, since the last count.
    fn collect(&mut self, now: Instant) {
        let whole = u32::try_from(std::mem::take(&mut self.written) / BYTES).unwrap_or(u32::MAX);
        let time = now.saturating_duration_since(self.since).as_millis() * u128::from(limits::H2_ALLOWANCE) / 1000;
        self.since = now;
        self.earn(whole.saturating_add(u32::try_from(time).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// How many times this price can be paid at one moment.
    fn times(account: &mut Account, price: u32, now: Instant, between: impl Fn(&mut Account)) -> usize {
        (0..1_000_000)
            .position(|_| {
                account.pay(price, || now);
                between(account);
                account.is_overdrawn()
            })
            .unwrap_or(usize::MAX)
    }

    #[test]
    fn frames_for_nothing_come_to_an_end() {
        let (now, allowance) = (Instant::now(), usize::try_from(limits::H2_ALLOWANCE).unwrap_or(0));
        assert_eq!(times(&mut Account::open(now), FRAME, now, |_| ()), allowance);
        // Each PING is acknowledged, each refused stream reset.
        assert!(times(&mut Account::open(now), FRAME, now, |account| account.wrote(17)) < allowance * 3);
        assert!(times(&mut Account::open(now), FRAME, now, |account| account.wrote(13)) < allowance * 3);
        assert_eq!(times(&mut Account::open(now), BROAD_HEAD, now, |_| ()), allowance / 200);
    }

    #[test]
    fn requests_pay_for_their_frames_and_reading_for_window_updates() {
        let now = Instant::now();
        let mut account = Account::open(now);
        for _ in 0..100_000 {
            account.pay(7 * FRAME, || now);
            account.earn(REQUEST);
        }
        // A message of 20 bytes at a time, and for each a PING that measures how fast they come, and its acknowledgement.
        for _ in 0..100_000 {
            account.wrote(9 + 20 + 17);
            account.pay(FRAME, || now);
        }
        assert!(!account.is_overdrawn());
    }

    #[test]
    fn requests_that_are_taken_back_are_not_free() {
        let now = Instant::now();
        let mut account = Account::open(now);
        let cut = (0..1_000_000).position(|_| {
            account.pay(FRAME, || now);
            account.earn(REQUEST);
            account.pay(RESET, || now);
            account.is_overdrawn()
        });
        assert!(cut.is_some_and(|cut| cut < 10_000), "{cut:?}");
    }

    #[test]
    fn time_fills_it_and_not_above_its_brim() {
        let start = Instant::now();
        let mut account = Account::open(start);
        for minute in 1..10_000 {
            let now = start + Duration::from_secs(60 * minute);
            for _ in 0..10 {
                account.pay(FRAME, || now);
            }
        }
        assert!(!account.is_overdrawn(), "a PING every six seconds, for a week");
        let later = start + Duration::from_secs(1_000_000);
        assert!(times(&mut account, FRAME, later, |_| ()) <= 2 * usize::try_from(limits::H2_ALLOWANCE).unwrap_or(0));
    }

    #[test]
    fn what_could_not_be_paid_is_not_forgotten() {
        let start = Instant::now();
        let mut account = Account::open(start);
        account.pay(limits::H2_ALLOWANCE + 1, || start);
        account.earn(REQUEST);
        account.pay(FRAME, || start + Duration::from_secs(100));
        assert!(account.is_overdrawn());
    }
}

//! How a source stands, for readiness and metrics.

use std::time::SystemTime;

/// The state of a source. At first neither field is set: nothing has arrived, nothing has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When something acceptable arrived last.
    pub delivered: Option<SystemTime>,
    /// What has gone wrong since then.
    pub fault: Option<Fault>,
}

/// One or more failures in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The last of them, in a sentence of printable characters.
    pub text: String,
    /// When the first of them happened.
    pub since: SystemTime,
    /// How many there were.
    pub times: u64,
}

impl Status {
    /// Something has come and is in force.
    pub fn delivered(&mut self, now: SystemTime) {
        *self = Self { delivered: Some(now), fault: None };
    }

    /// Something has failed, in these words.
    pub fn failed(&mut self, text: String, now: SystemTime) {
        let (since, times) = self.fault.as_ref().map_or((now, 0), |fault| (fault.since, fault.times));
        self.fault = Some(Fault { text, since, times: times.saturating_add(1) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_fault_lasts_from_its_first_failure_until_something_arrives() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut status = Status::default();
        status.failed("a".to_owned(), at(5));
        status.failed("b".to_owned(), at(9));
        assert_eq!(status.fault, Some(Fault { text: "b".to_owned(), since: at(5), times: 2 }));
        status.delivered(at(10));
        assert_eq!(status, Status { delivered: Some(at(10)), fault: None });
        status.failed("c".to_owned(), at(11));
        assert_eq!(status.fault.as_ref().map(|fault| fault.since), Some(at(11)));
        assert_eq!(status.delivered, Some(at(10)));
    }
}

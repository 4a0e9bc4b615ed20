//! Certificates that are refused although they verify: a stolen key should not be good until it expires.
//!
//! In come names, serial numbers and keys, each with the time after which no certificate of it can be valid any more; out comes a
//! list that a [`Bundle`](crate::Bundle) carries along, so that whoever verifies against the bundle obeys the list.

use crate::{SpiffeId, Svid};
use std::collections::HashMap;
use std::time::SystemTime;

/// What is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Every certificate of this name.
    Id(SpiffeId),
    /// The certificate of this serial number, as [`Svid::serial`] has it.
    Serial(String),
    /// Every certificate with this key, as [`Svid::key_sha256`] has it.
    Key([u8; 32]),
}

/// A list of denials, looked up by what a leaf shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denials {
    ids: HashMap<SpiffeId, SystemTime>,
    serials: HashMap<String, SystemTime>,
    keys: HashMap<[u8; 32], SystemTime>,
}

impl Denials {
    /// Adds one that holds until `until`; of two for the same thing the longer holds.
    pub fn add(&mut self, denial: Denial, until: SystemTime) {
        let held = match denial {
            Denial::Id(id) => self.ids.entry(id).or_insert(until),
            Denial::Serial(serial) => self.serials.entry(serial).or_insert(until),
            Denial::Key(key) => self.keys.entry(key).or_insert(until),
        };
        *held = (*held).max(until);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len() + self.serials.len() + self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one of them covers this leaf now.
    pub fn covers(&self, svid: &Svid, now: SystemTime) -> bool {
        let holds = |until: Option<&SystemTime>| until.is_some_and(|until| now <= *until);
        !self.is_empty()
            && (holds(self.ids.get(svid.id()))
                || holds(self.serials.get(svid.serial()))
                || holds(self.keys.get(svid.key_sha256())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Usage, verify};
    use std::time::Duration;

    #[test]
    fn a_denied_leaf_verifies_no_more_by_name_number_or_key_until_the_denial_ends() {
        let ca = Ca::root("a");
        let (leaf, _) = ca.leaf("spiffe://example.org/ns/shop/sa/web");
        let (other, _) = ca.leaf("spiffe://example.org/ns/shop/sa/orders");
        let bundle = ca.bundle("example.org");
        let svid = verify(std::slice::from_ref(&leaf), &bundle, Usage::Client, now()).unwrap();
        for denial in
            [Denial::Id(svid.id().clone()), Denial::Serial(svid.serial().to_owned()), Denial::Key(*svid.key_sha256())]
        {
            let mut denials = Denials::default();
            denials.add(denial.clone(), now() + Duration::from_secs(10));
            let denying = bundle.denying(denials);
            let judge = |leaf, time| verify(std::slice::from_ref(leaf), &denying, Usage::Client, time);
            assert_eq!(judge(&leaf, now()).unwrap_err().reason(), "denied", "{denial:?}");
            assert_eq!(judge(&leaf, now() + Duration::from_secs(11)).unwrap().id(), svid.id());
            // The certificates of these tests share their serial number.
            assert_eq!(judge(&other, now()).is_err(), matches!(denial, Denial::Serial(_)));
        }
    }
}

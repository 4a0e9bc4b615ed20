//! Whom connections are about, each introduced to the rules once: many connections of one peer share one [`Party`].
//!
//! A connection remembers the last party it asked about ([`Remembered`]), one pointer, so that an idle connection stays small
//! and a request of a known peer looks nothing up. A worker keeps the parties that its connections remember ([`Parties`]).
//! Both hand a party out only for the rules it was introduced to; after a change of the rules it is introduced anew.

use identity::SpiffeId;
use policy::{Direction, Party, RuleSet};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
};

/// Whom a judgement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name<'n> {
    pub(crate) direction: Direction,
    /// Inbound: the verified caller. Outbound: the identity the callee must prove.
    pub(crate) peer: Option<&'n SpiffeId>,
    /// Outbound: the address the application dialled.
    pub(crate) ip: Option<IpAddr>,
}

/// The parties of a worker's connections.
#[derive(Default)]
pub(crate) struct Parties {
    known: RefCell<HashMap<Key, Rc<Party>>>,
}

/// An owned [`Name`].
type Key = (Direction, Option<SpiffeId>, Option<IpAddr>);

/// The party that a connection was last about. Nearly all its requests are about the same one.
#[derive(Default)]
pub(crate) struct Remembered(Cell<Option<Rc<Party>>>);

impl Parties {
    /// Who `name` is to `rules`.
    #[cold]
    fn introduced(&self, rules: &RuleSet, name: Name<'_>) -> Rc<Party> {
        let key = (name.direction, name.peer.cloned(), name.ip);
        let mut known = self.known.borrow_mut();
        if let Some(party) = known.get(&key).filter(|party| is_still(party, rules, name)) {
            return Rc::clone(party);
        }
        let party = Rc::new(rules.introduce(name.direction, name.peer.cloned(), name.ip));
        known.insert(key, Rc::clone(&party));
        party
    }

    /// Forgets those that no connection and no open stream remembers.
    pub(crate) fn sweep(&self) {
        let mut known = self.known.borrow_mut();
        known.retain(|_, party| Rc::strong_count(party) > 1);
        if known.capacity() > 4 * known.len() {
            known.shrink_to_fit();
        }
    }
}

impl Remembered {
    /// Who `name` is to `rules`: the party remembered if that is it, else one from `parties`.
    #[inline]
    pub(crate) fn party(&self, parties: &Parties, rules: &RuleSet, name: Name<'_>) -> Rc<Party> {
        let party = match self.0.take() {
            Some(last) if is_still(&last, rules, name) => last,
            _ => parties.introduced(rules, name),
        };
        self.0.set(Some(Rc::clone(&party)));
        party
    }
}

/// Whether a party is who these rules would make of the name.
#[inline]
fn is_still(party: &Party, rules: &RuleSet, name: Name<'_>) -> bool {
    rules.knows(party) && Name { direction: party.direction(), peer: party.peer(), ip: party.ip() } == name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    const IP: [IpAddr; 2] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    #[test]
    fn connections_of_one_peer_share_a_party_until_the_rules_change() {
        let (parties, rules) = (Parties::default(), RuleSet::empty());
        let (first, second) = (Remembered::default(), Remembered::default());
        let web = [id("spiffe://example.org/web"), id("spiffe://example.org/web")];
        let name = |i: usize| Name { direction: Direction::Inbound, peer: Some(&web[i]), ip: None };
        let party = first.party(&parties, &rules, name(0));
        assert!(Rc::ptr_eq(&party, &first.party(&parties, &rules, name(0))));
        assert!(Rc::ptr_eq(&party, &second.party(&parties, &rules, name(1))));

        let newer = RuleSet::empty();
        let other = first.party(&parties, &newer, name(0));
        assert!(newer.knows(&other) && !rules.knows(&other) && !newer.knows(&party));
        assert!(Rc::ptr_eq(&other, &second.party(&parties, &newer, name(0))));
    }

    #[test]
    fn somebody_else_is_another_party() {
        let (parties, rules, remembered) = (Parties::default(), RuleSet::empty(), Remembered::default());
        let (web, db) = (id("spiffe://example.org/web"), id("spiffe://example.org/db"));
        for direction in [Direction::Inbound, Direction::Outbound] {
            for peer in [None, Some(&web), Some(&db)] {
                for ip in [None, Some(IP[0]), Some(IP[1])] {
                    let name = Name { direction, peer, ip };
                    for _ in 0..2 {
                        let party = remembered.party(&parties, &rules, name);
                        assert_eq!((party.direction(), party.peer(), party.ip()), (direction, peer, ip));
                    }
                }
            }
        }
        assert_eq!(parties.known.borrow().len(), 18);
    }

    #[test]
    fn who_has_no_connection_is_forgotten() {
        let (parties, rules, remembered) = (Parties::default(), RuleSet::empty(), Remembered::default());
        let web = id("spiffe://example.org/web");
        for ip in IP {
            let _ = remembered.party(
                &parties,
                &rules,
                Name { direction: Direction::Outbound, peer: Some(&web), ip: Some(ip) },
            );
        }
        parties.sweep();
        assert_eq!(parties.known.borrow().len(), 1, "only the last is remembered");
        drop(remembered);
        parties.sweep();
        assert_eq!((parties.known.borrow().len(), parties.known.borrow().capacity()), (0, 0));
    }

    #[test]
    fn a_connection_remembers_by_one_pointer_and_a_party_is_small() {
        assert_eq!(size_of::<Remembered>(), size_of::<usize>());
        assert!(size_of::<Party>() <= 80, "{}", size_of::<Party>());
    }
}

//! Which processes may connect to the socket.
//!
//! In comes what the kernel says of the other end when it connects (`SO_PEERCRED`, unix(7)); out comes yes, or a sentence for
//! the log. Whoever may connect gets the private key, so the answer is no for everybody but our own user and those who are
//! named. Root is not let in unless named: on one machine root could read the key from our memory anyway, but the root of
//! another container that shares no more than the socket's folder could not.
//!
//! Two limits of what the kernel says. The group is the effective one; supplementary groups do not count. A user of another
//! user namespace without a mapping into ours is seen as the overflow user (65534, often called `nobody`): naming that user
//! admits all of those.

use rpc::Process;
use std::collections::BTreeSet;

/// The users and groups that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

impl Callers {
    /// The processes of one user alone, by rule our own.
    #[must_use]
    pub fn only(user: u32) -> Self {
        Self { users: BTreeSet::from([user]), groups: BTreeSet::new() }
    }

    /// These users as well.
    #[must_use]
    pub fn and_users(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.users.extend(users);
        self
    }

    /// Processes whose effective group is one of these as well, whatever their user.
    #[must_use]
    pub fn and_groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups.extend(groups);
        self
    }

    /// Whether this process may connect.
    ///
    /// # Errors
    /// A sentence for the log: who it was.
    pub fn admit(&self, process: Process) -> Result<(), String> {
        if self.users.contains(&process.uid) || self.groups.contains(&process.gid) {
            return Ok(());
        }
        let Process { uid, gid, pid } = process;
        let pid = pid.map_or_else(|| "outside our PID namespace".to_owned(), |pid| format!("{pid}"));
        Err(format!("user {uid} (group {gid}, process {pid}) is not among the users and groups that may connect"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn process(uid: u32, gid: u32) -> Process {
        Process { uid, gid, pid: Some(7) }
    }

    #[test]
    fn only_our_own_user_may_connect_unless_others_are_named() {
        let callers = Callers::only(1337);
        callers.admit(process(1337, 5)).unwrap();
        for stranger in [0, 1000, 1338, 65_534] {
            let refusal = callers.admit(process(stranger, 1337)).unwrap_err();
            assert!(refusal.contains(&format!("user {stranger} (group 1337, process 7)")), "{refusal}");
        }
    }

    #[test]
    fn users_and_groups_may_be_named() {
        let callers = Callers::only(1337).and_users([1000, 0]).and_groups([2000]);
        for (uid, gid) in [(1337, 1), (1000, 1), (0, 0), (9, 2000)] {
            callers.admit(process(uid, gid)).unwrap();
        }
        callers.admit(process(9, 9)).unwrap_err();
        // A user's number names no group, and the other way round.
        callers.admit(process(2000, 1000)).unwrap_err();
    }

    #[test]
    fn a_process_without_a_visible_id_is_judged_by_its_user_all_the_same() {
        Callers::only(5).admit(Process { uid: 5, gid: 5, pid: None }).unwrap();
        Callers::only(5).admit(Process { uid: 6, gid: 5, pid: None }).unwrap_err();
    }
}

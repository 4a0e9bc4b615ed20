//! One token, one key.
//!
//! In come proofs by token with the hash of the key that is to be certified; out comes yes, or that this token
//! has come before with another key. A token is a bearer's: whoever reads it can use it, and does so with a key
//! of their own. The first key that a token comes with is the one it is held to for as long as the token lives;
//! the same key may come again, since an answer can get lost.
//!
//! What is remembered is bounded in two ways. A pod has few tokens alive at a time (kubelet makes the next when
//! a fifth of the life is left), so one pod can fill a few places and no more. When a cluster's places are
//! full, a token not seen before is refused: forgetting the oldest instead would let a thief free a stolen token
//! by bringing others. Each cluster has places of its own, so that one cannot lock out another.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use super::refusal::Refusal;
use super::{Attested, Evidence, TokenEvidence};

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Tokens alive in one cluster.
    pub tokens: usize,
    /// Tokens alive of one pod.
    pub tokens_of_pod: usize,
    /// Keys that one token may come with. More than one lets a sidecar that lost its key with its memory start
    /// again before kubelet has made the next token, and a thief once.
    pub keys_of_token: usize,
}

impl Default for ReplayLimits {
    /// Room for 131,072 tokens a cluster (about 25 MB when full), 4 a pod, and one key a token.
    fn default() -> Self {
        Self { tokens: 1 << 17, tokens_of_pod: 4, keys_of_token: 1 }
    }
}

/// That a token was used: what a log must keep of it for [`Replay::remember`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUse<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The pod's UID.
    pub pod_uid: &'a str,
    /// As in [`TokenEvidence`].
    pub jti_hash: [u8; 32],
    /// As in [`TokenEvidence`].
    pub until: SystemTime,
}

impl<'a> From<&'a TokenEvidence> for TokenUse<'a> {
    fn from(token: &'a TokenEvidence) -> Self {
        Self { cluster: &token.cluster, pod_uid: &token.pod_uid, jti_hash: token.jti_hash, until: token.until }
    }
}

/// The tokens that have been used and are still alive.
#[derive(Debug)]
pub struct Replay {
    limits: ReplayLimits,
    /// By cluster, of which there are as many as are configured.
    clusters: HashMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    tokens: HashMap<[u8; 32], Entry>,
    /// How many tokens of `tokens` belong to the pod of this UID; never 0.
    of_pod: HashMap<String, usize>,
    /// The keys of `tokens` in the order of their end.
    ends: BTreeSet<(SystemTime, [u8; 32])>,
}

#[derive(Debug)]
struct Entry {
    pod_uid: String,
    /// At least one, at most `keys_of_token`.
    keys: Vec<[u8; 32]>,
}

impl Replay {
    /// Nothing remembered.
    pub fn new(limits: ReplayLimits) -> Self {
        Self { limits, clusters: HashMap::new() }
    }

    /// Holds the token of this proof to the key, by the SHA-256 of its SubjectPublicKeyInfo. Call it when all
    /// else has passed, the request's own signature included, so that nothing is remembered for nothing. Proofs
    /// by other evidence pass.
    pub fn admit(&mut self, attested: &Attested, spki_hash: &[u8; 32], now: SystemTime) -> Result<(), Refusal> {
        let Evidence::Token(token) = attested.evidence() else { return Ok(()) };
        self.remember(&TokenUse::from(token), spki_hash, now)
    }

    /// [`admit`](Self::admit) from what a log says, at the start. Uses of tokens that have ended since are
    /// refused as [`Refusal::TokenExpired`], and need no remembering.
    pub fn remember(&mut self, token: &TokenUse<'_>, spki_hash: &[u8; 32], now: SystemTime) -> Result<(), Refusal> {
        if token.until <= now {
            return Err(Refusal::TokenExpired);
        }
        let limits = self.limits;
        let seen = self.clusters.entry(token.cluster.to_owned()).or_default();
        seen.forget_until(now);
        if let Some(entry) = seen.tokens.get_mut(&token.jti_hash) {
            if entry.pod_uid == token.pod_uid && entry.keys.contains(spki_hash) {
                return Ok(());
            }
            if entry.pod_uid != token.pod_uid || entry.keys.len() >= limits.keys_of_token {
                return Err(Refusal::Replayed);
            }
            entry.keys.push(*spki_hash);
            return Ok(());
        }
        if seen.of_pod.get(token.pod_uid).is_some_and(|count| *count >= limits.tokens_of_pod) {
            return Err(Refusal::ReplayPod);
        }
        if seen.tokens.len() >= limits.tokens {
            return Err(Refusal::ReplayFull);
        }
        *seen.of_pod.entry(token.pod_uid.to_owned()).or_default() += 1;
        seen.ends.insert((token.until, token.jti_hash));
        seen.tokens.insert(token.jti_hash, Entry { pod_uid: token.pod_uid.to_owned(), keys: vec![*spki_hash] });
        Ok(())
    }

    /// How many tokens are remembered, in all clusters together.
    pub fn len(&self) -> usize {
        self.clusters.values().map(|seen| seen.tokens.len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Seen {
    /// Forgets what is not taken any more anyway.
    fn forget_until(&mut self, now: SystemTime) {
        while let Some((until, jti)) = self.ends.first().copied()
            && until <= now
        {
            self.ends.remove(&(until, jti));
            let Some(entry) = self.tokens.remove(&jti) else { continue };
            if let Some(count) = self.of_pod.get_mut(&entry.pod_uid) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.of_pod.remove(&entry.pod_uid);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn token(jti: u8, pod: usize, until: u64) -> TokenUse<'static> {
        let pod_uid = ["pod-0", "pod-1", "pod-2", "pod-3"][pod];
        TokenUse { cluster: "east", pod_uid, jti_hash: [jti; 32], until: at(until) }
    }

    fn limits(tokens: usize, tokens_of_pod: usize, keys_of_token: usize) -> Replay {
        Replay::new(ReplayLimits { tokens, tokens_of_pod, keys_of_token })
    }

    #[test]
    fn a_token_is_held_to_its_first_key() {
        let mut replay = Replay::new(ReplayLimits::default());
        let token = token(1, 1, 100);
        replay.remember(&token, &[1; 32], at(0)).unwrap();
        replay.remember(&token, &[1; 32], at(50)).unwrap();
        assert_eq!(replay.remember(&token, &[2; 32], at(50)), Err(Refusal::Replayed));
        assert_eq!(replay.remember(&token, &[2; 32], at(99)), Err(Refusal::Replayed));
        assert_eq!(replay.remember(&token, &[1; 32], at(100)), Err(Refusal::TokenExpired));
        let other_pod = TokenUse { pod_uid: "pod-2", ..token };
        assert_eq!(replay.remember(&other_pod, &[1; 32], at(50)), Err(Refusal::Replayed));
    }

    #[test]
    fn more_keys_are_a_choice() {
        let mut replay = limits(9, 9, 2);
        let token = token(1, 1, 100);
        for key in [1, 2, 1, 2] {
            replay.remember(&token, &[key; 32], at(0)).unwrap();
        }
        assert_eq!(replay.remember(&token, &[3; 32], at(0)), Err(Refusal::Replayed));
    }

    #[test]
    fn a_pod_fills_its_own_places_only() {
        let mut replay = limits(9, 2, 1);
        replay.remember(&token(1, 1, 100), &[1; 32], at(0)).unwrap();
        replay.remember(&token(2, 1, 50), &[1; 32], at(0)).unwrap();
        assert_eq!(replay.remember(&token(3, 1, 100), &[1; 32], at(0)), Err(Refusal::ReplayPod));
        replay.remember(&token(4, 2, 100), &[1; 32], at(0)).unwrap();
        replay.remember(&token(3, 1, 100), &[1; 32], at(50)).unwrap();
        assert_eq!(replay.len(), 3);
    }

    #[test]
    fn a_full_memory_forgets_nothing_alive_and_locks_out_one_cluster_only() {
        let mut replay = limits(2, 2, 1);
        replay.remember(&token(1, 1, 100), &[1; 32], at(0)).unwrap();
        replay.remember(&token(2, 2, 50), &[1; 32], at(0)).unwrap();
        let third = token(3, 3, 100);
        assert_eq!(replay.remember(&third, &[1; 32], at(0)), Err(Refusal::ReplayFull));
        assert_eq!(replay.remember(&token(1, 1, 100), &[2; 32], at(0)), Err(Refusal::Replayed));
        replay.remember(&token(1, 1, 100), &[1; 32], at(0)).unwrap();
        let elsewhere = TokenUse { cluster: "west", ..third };
        replay.remember(&elsewhere, &[1; 32], at(0)).unwrap();
        replay.remember(&third, &[1; 32], at(50)).unwrap();
    }

    #[test]
    fn proofs_by_other_evidence_pass() {
        let mut replay = limits(0, 0, 0);
        let id = identity::SpiffeId::parse("spiffe://example.org/x").unwrap();
        replay.admit(&Attested::by_operator(id), &[1; 32], at(0)).unwrap();
        assert!(replay.is_empty());
    }

    proptest! {
        /// Against the sentence: of all that was admitted and is alive, no token has two keys.
        #[test]
        fn no_living_token_ever_has_two_keys(
            steps in prop::collection::vec((0u8..6, 0usize..3, 1u64..40, 0u8..3, 0u64..4), 1..200)
        ) {
            let mut replay = limits(4, 2, 1);
            let mut now = 0;
            let mut admitted: Vec<(u8, u64, u8)> = Vec::new();
            for (jti, pod, life, key, passed) in steps {
                now += passed;
                // A token's end and pod are its own: both follow from its number and the first time it is seen.
                let until = admitted.iter().find(|a| a.0 == jti && a.1 > now).map_or(now + life, |a| a.1);
                let evidence = token(jti, if jti < 3 { pod } else { 2 }, until);
                if replay.remember(&evidence, &[key; 32], at(now)).is_ok() {
                    let alive = admitted.iter().filter(|a| a.0 == jti && a.1 > now);
                    prop_assert!(alive.clone().all(|a| a.2 == key));
                    admitted.push((jti, until, key));
                }
                let seen = &replay.clusters["east"];
                prop_assert!(seen.tokens.len() <= 4 && seen.ends.len() == seen.tokens.len());
                prop_assert_eq!(seen.of_pod.values().sum::<usize>(), seen.tokens.len());
                prop_assert!(seen.of_pod.values().all(|count| (1..=2).contains(count)));
            }
        }
    }
}

//! The proof that a request was judged and may go on: only [`Decision::permit`] makes a [`Permit`], so what
//! takes one by value cannot be reached by a path that skips the judgement.

use crate::decide::{Decision, Verdict};
use crate::rule::Mode;
use std::sync::Arc;

/// Leave to forward one request, or one opaque connection.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    rule: Option<Arc<str>>,
    would_deny: bool,
}

impl Permit {
    /// The rule that is reported for it.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<str>> {
        self.rule.as_ref()
    }

    /// Whether `enforce` would have refused it.
    #[must_use]
    pub fn would_deny(&self) -> bool {
        self.would_deny
    }
}

impl Decision<'_> {
    /// What a mode makes of the verdict: `enforce` carries a refusal out, `observe` only notes it.
    #[must_use]
    pub fn permit(&self, mode: Mode) -> Option<Permit> {
        let would_deny = self.verdict == Verdict::Deny;
        if would_deny && mode == Mode::Enforce {
            return None;
        }
        Some(Permit { rule: self.rule.map(|r| r.rule.name.clone()), would_deny })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::{Attributes, Direction, RuleSet};

    #[test]
    fn a_refusal_is_carried_out_only_in_enforce() {
        let nobody = Attributes { peer: None, plaintext: true, ip: None, port: 80, request: None };
        let rules = RuleSet::empty();
        let decision = rules.decide(Direction::Inbound, &nobody);
        assert_eq!(decision.permit(Mode::Enforce), None);
        assert!(decision.permit(Mode::Observe).unwrap().would_deny());
    }
}

//! The judgement: may this peer send this request, or open this connection?
//!
//! In: a [`Question`] (who, where to) and, for HTTP, the canonical target. Out: a [`policy::Permit`], which forwarding
//! consumes, or a refusal. The decision is [`policy`]'s, a pure function, and only it can make a permit: a path that skips the
//! judgement does not compile. This room keeps what is needed to ask again when the rules change.

use crate::{http::Asked, live::Live, observe::metrics::Verdict};
use policy::{Mode, Party, Permit, RequestView, Why, canonicalise};
use std::{rc::Rc, sync::Arc};

/// Who wants what, without the request itself.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Inbound: the verified caller. Outbound: the identity the callee must prove, and the address the application dialled.
    /// Introduced to the rules that were in force; to newer ones it is a name that they look up themselves.
    pub(crate) party: Rc<Party>,
    pub(crate) plaintext: bool,
    pub(crate) port: u16,
}

/// A judgement, as log and metrics want it, and as it can be asked again.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) question: Question,
    pub(crate) rule: Option<Arc<str>>,
    pub(crate) rule_id: u32,
    pub(crate) verdict: Verdict,
    /// What `enforce` would say: the same as the verdict, except in `observe`.
    pub(crate) would: Verdict,
    /// A hint for people, e.g. that GET is allowed where HEAD was asked.
    pub(crate) hint: Option<&'static str>,
    is_http: bool,
}

/// Judges. The `Permit` is there only if the request may pass.
pub(crate) fn judge(live: &Live, question: Question, request: Option<RequestView<'_>>) -> (Judged, Option<Permit>) {
    let is_http = request.is_some();
    let decision = decide(live, &question, request);
    let allowed = decision.verdict == policy::Verdict::Allow;
    let would = if allowed { Verdict::Allow } else { Verdict::Deny };
    let permit = decision.permit(live.snapshot.mode);
    let verdict = match &permit {
        None => Verdict::Deny,
        Some(permit) if permit.would_deny() => Verdict::WouldDeny,
        Some(_) => Verdict::Allow,
    };
    let judged = Judged {
        rule: decision.rule.as_ref().map(|rule| Arc::clone(&rule.rule.name)),
        rule_id: decision.rule.as_ref().map_or(0, |rule| live.rule_id(question.party.direction(), rule.index)),
        hint: match decision.why {
            Why::NoRule(Some(hint)) => Some(hint.sentence()),
            _ => None,
        },
        question,
        verdict,
        would,
        is_http,
    };
    (judged, permit)
}

impl Judged {
    /// Asks again under `live`. `None` when the question can no longer be put.
    pub(crate) fn still_allowed(&self, live: &Live, asked: Option<&Asked>) -> Option<bool> {
        if live.snapshot.mode == Mode::Observe {
            return Some(true);
        }
        if !self.is_http {
            return Some(decide(live, &self.question, None).verdict == policy::Verdict::Allow);
        }
        let asked = asked?;
        let Ok(target) = canonicalise(live.snapshot.rules.path_options(), &asked.raw().ok()?) else {
            // The newer file reads paths more strictly, and this one has no reading any more.
            return Some(false);
        };
        Some(decide(live, &self.question, Some(asked.view(&target))).verdict == policy::Verdict::Allow)
    }
}

fn decide<'a>(live: &'a Live, question: &Question, request: Option<RequestView<'_>>) -> policy::Decision<'a> {
    live.snapshot.rules.decide_for(&question.party, question.plaintext, question.port, request)
}

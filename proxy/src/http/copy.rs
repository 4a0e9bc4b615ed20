//! The copy of one exchange for the taps, while it grows: admitted at the head, offered at the end.

use super::{
    Asked,
    exchange::{Exchange, Side},
};
use crate::{connection::Connection, live::Live, observe::metrics::Verdict};
use http::Method;

/// The copy of one exchange for the taps, and the places reserved for it in their queues.
pub(super) struct TapCopy {
    /// By their places in the snapshot the exchange began under.
    taps: Vec<(usize, tap::Admission)>,
    request: tap::Message,
    pub(super) response: Option<tap::Message>,
    max_body: usize,
}

impl TapCopy {
    pub(super) fn admit(
        connection: &Connection,
        live: &Live,
        asked: &Asked,
        fields: &impl tap::Fields,
    ) -> Option<Box<Self>> {
        // One mirror per hop: the callee's side sees both identities, the verdict, and what was refused.
        if live.taps.is_empty() || !connection.is_inbound() {
            return None;
        }
        let taps = live.taps.iter().enumerate();
        let taps: Vec<_> = taps.filter_map(|(place, tap)| tap.admit().map(|admission| (place, admission))).collect();
        let max_body = live.taps.first().map_or(0, tap::Tap::max_body);
        if taps.is_empty() {
            return None;
        }
        let authority = asked.authority();
        let method = Method::from_bytes(asked.method_bytes()).unwrap_or_default();
        Some(Box::new(Self {
            taps,
            request: tap::Message::request(method, asked.path(), authority.as_deref(), fields),
            response: None,
            max_body,
        }))
    }

    pub(super) fn message(&mut self, side: Side) -> Option<&mut tap::Message> {
        match side {
            Side::Request => Some(&mut self.request),
            Side::Response => self.response.as_mut(),
        }
    }

    /// Copies what the taps may have of `data`; false when their queues have no room, so that the whole copy is given up.
    pub(super) fn data(&mut self, side: Side, data: &[u8]) -> bool {
        let max_body = self.max_body;
        let Some(message) = self.message(side) else {
            return true;
        };
        message.body_len += u64::try_from(data.len()).unwrap_or(u64::MAX);
        let room = max_body.saturating_sub(message.body.len());
        let taken = data.get(..room.min(data.len())).unwrap_or_default();
        if taken.is_empty() {
            return true;
        }
        // Not doubled: the budget counts bytes, and there may be many that have to wait half full.
        if message.body.capacity() - message.body.len() < taken.len() {
            message.body.reserve_exact(taken.len().max(message.body.capacity() / 4));
        }
        message.body.extend_from_slice(taken);
        let count = taken.len();
        self.taps.retain_mut(|(_, admission)| admission.reserve(count));
        !self.taps.is_empty()
    }

    pub(super) fn offer(mut self, exchange: &Exchange, aborted: Option<Side>) {
        let facts = exchange.facts.borrow();
        self.request.complete = facts.request_complete;
        if let Some(response) = &mut self.response {
            response.complete = facts.response_complete;
        }
        let judged = facts.judged.as_ref();
        let connection = &exchange.connection;
        let record = tap::Record {
            connection: connection.id,
            client: connection.remote,
            server: connection.server_for_tap(),
            request: self.request,
            response: self.response,
            started: exchange.started,
            aborted: aborted.map(|side| match side {
                Side::Request => tap::Side::Client,
                Side::Response => tap::Side::Server,
            }),
            verdict: match judged.map(|judged| judged.verdict) {
                Some(Verdict::Allow) => tap::Verdict::Allowed,
                Some(Verdict::WouldDeny) => tap::Verdict::WouldDeny,
                _ => tap::Verdict::Denied,
            },
            rule: judged.and_then(|judged| judged.rule.clone()),
            last: false,
        };
        let offer = |(place, admission): (usize, tap::Admission), record| {
            if let Some(tap) = exchange.live.taps.get(place) {
                tap.offer(admission, record);
            }
        };
        let mut taps = self.taps;
        let last = taps.pop();
        for admitted in taps {
            offer(admitted, record.clone());
        }
        if let Some(admitted) = last {
            offer(admitted, record);
        }
    }
}

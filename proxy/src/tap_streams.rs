//! The copies of one stream: opaque TCP, or what follows a switch of protocols.
//!
//! In: bytes that have passed, and ends. Out: the same to every tap that selected the stream. What is not selected costs
//! a look at an empty list. The rules have spoken before the first byte passes, so nothing has to be held.

use crate::{
    connection::Connection,
    guard::Judged,
    http::selectable,
    live::Live,
    observe::metrics::Verdict,
    tap_selection::{Callee, Ending, Sampled},
    taps::Tapped,
    tunnel,
};
use config::TapKind;
use std::{net::SocketAddr, sync::Arc};

/// One copy for each tap.
#[derive(Default)]
pub(crate) struct Streams {
    open: Vec<tap::Stream>,
    /// Where the first of them lies.
    place: Option<Arc<tap::Place>>,
}

impl Streams {
    /// Those of an opaque connection that was judged, or refused before that. `carried` are the ends of the connection that
    /// carries it on, where that is another one.
    pub(crate) fn opaque(
        connection: &Connection,
        live: &Live,
        judged: Option<&Judged>,
        carried: Option<(SocketAddr, SocketAddr)>,
    ) -> Self {
        let mut streams = Self::default();
        let picked = connection.picked(live);
        if picked.selected == 0 {
            return streams;
        }
        let ending = Ending {
            direction: connection.direction(),
            callee: judged.and_then(|judged| judged.question.party.peer()).or(match connection.callee(live) {
                Callee::Is(id) => id,
                Callee::Late => None,
            }),
            rule: judged.and_then(|judged| judged.rule.as_deref()),
            verdict: selectable(judged.map_or(Verdict::Deny, |judged| judged.verdict)),
            status: None,
            wire: carried.unwrap_or_else(|| connection.wire()),
        };
        for (at, tapped) in live.taps.iter().enumerate() {
            let is_meant = picked.selected & 1 << at != 0
                && tapped.kind == TapKind::Frames
                && tapped.selection.takes_opaque()
                && tapped.selection.of_end(&ending);
            if !is_meant {
                continue;
            }
            if tapped.selection.sampled(ending.wire) == Sampled::Out {
                tapped.tap.refuse(tap::Reason::SampledOut);
            } else if let Some(mut admission) = tapped.tap.admit() {
                if streams.place.is_none() && live.has_records() {
                    streams.place = Some(admission.place());
                }
                let opening = tap::Opening::Fresh {
                    connection: connection.id,
                    client: connection.remote,
                    server: tapped.server(connection, live),
                    started: connection.started,
                };
                connection.is_copied();
                streams.open(tapped, admission, opening);
            }
        }
        streams
    }

    /// One more copy.
    pub(crate) fn open(&mut self, tapped: &Tapped, admission: tap::Admission, opening: tap::Opening) {
        self.open.extend(tapped.tap.open(admission, opening, tapped.stream));
    }

    /// Where a record finds the copy.
    pub(crate) fn place(&self) -> Option<Arc<tap::Place>> {
        self.place.clone()
    }

    /// Bytes of one side have passed.
    pub(crate) fn passed(&mut self, side: tap::Side, bytes: &[u8]) {
        for stream in &mut self.open {
            stream.chunk(side, bytes);
        }
    }

    /// One side has ended, and the other was told.
    pub(crate) fn finished(&mut self, side: tap::Side) {
        for stream in &mut self.open {
            stream.finish(side);
        }
    }

    /// All is over.
    pub(crate) fn end(&mut self, end: tunnel::End) {
        let side = match end {
            tunnel::End::Closed => return,
            tunnel::End::DownstreamBroke => tap::Side::Client,
            // What we end ourselves, the client sees as broken off by whom it called.
            tunnel::End::UpstreamBroke | tunnel::End::Idle | tunnel::End::Revoked => tap::Side::Server,
        };
        for stream in &mut self.open {
            stream.reset(side);
        }
    }

    /// It was never carried: refused, or nobody answered.
    pub(crate) fn refused(&mut self) {
        for stream in &mut self.open {
            stream.reset(tap::Side::Server);
        }
    }
}

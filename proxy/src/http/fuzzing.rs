//! This room's part of the door for `fuzz/`: a request's head, judged in its canonical reading and written on.
//!
//! The steps are those of the stories with the rules left out: read, refuse what is unclear, canonicalise, write.

use super::{
    Asked, asked,
    h1::{framing, head, write},
    h2, headers,
};
use crate::{
    passage::Passage,
    upstream::{Route, Security},
};
use http::{HeaderValue, Uri, header, request::Parts};
use policy::{Attributes, Direction, Mode, PathOptions, RuleSet, Target, canonicalise};
use std::{sync::Arc, time::Duration};

/// A request as it was judged, and as it would go on.
pub struct Forwarded {
    /// The canonical reading.
    pub target: Target<'static>,
    /// As rules see it: a call of gRPC.
    pub grpc: bool,
    /// As rules see it: the protocol it asks to switch to.
    pub upgrade: Option<String>,
    /// The head as HTTP/1.1 writes it.
    pub text: Vec<u8>,
    /// The target as HTTP/2 writes it, for a request that came over it.
    pub uri: Option<Uri>,
}

/// A request that came over HTTP/1.1; `None` if it is refused, or not whole.
pub fn http1(text: &[u8]) -> Option<Forwarded> {
    let mut fields = Vec::new();
    let head = head::request(text, &mut fields).ok()??;
    let framing = framing::request(&fields, text).ok()?;
    let asked = Asked::http1(text, &head, &fields);
    let (passage, target) = judged(&asked)?;
    let line = write::Line {
        method: asked.method_bytes(),
        target: passage.request_target(&asked),
        authority: passage.authority(&asked),
    };
    let add = write::Additions {
        client_cert: Some(b"By=spiffe://example.org/own"),
        forwarded_proto: (!asked.has_forwarded_proto()).then_some("https"),
        timeout_ms: Some(15_000),
        request_id: (!asked.has_request_id()).then_some(b"0b54aba3-4ba9-4a3c-9aa9-d9e6bd1b1d00"),
        upgrade: asked.protocol(),
    };
    let mut out = Vec::new();
    write::request(&mut out, asked.text(), &fields, &line, framing, &add);
    Some(Forwarded { target, grpc: asked.grpc, upgrade: asked.protocol().map(str::to_owned), text: out, uri: None })
}

/// A request that came over HTTP/2 with so many bytes of body or none; `None` if it is refused.
pub fn http2(mut parts: Parts) -> Option<Forwarded> {
    if !h2::has_few_fields(&mut parts.headers)
        || !asked::has_clear_length(&parts.headers)
        || !asked::has_clear_scheme(&parts)
        || !asked::has_clear_method(&parts)
    {
        return None;
    }
    let asked = Asked::http2(&parts);
    let (passage, target) = judged(&asked)?;
    headers::hop_by_hop(&mut parts.headers);
    headers::strip_claims(&mut parts.headers);
    let mut over_http1 = parts.headers.clone();
    over_http1.insert(header::HOST, HeaderValue::from_bytes(passage.authority(&asked)).ok()?);
    h2::join_cookies(&mut over_http1);
    let mut text = Vec::new();
    write::request_from_map(&mut text, asked.method_bytes(), passage.target(&asked), &over_http1);
    h2::prepare(&mut parts, passage.target(&asked), passage.authority(&asked), &passage.route).ok()?;
    Some(Forwarded { target, grpc: asked.grpc, upgrade: None, text, uri: Some(parts.uri) })
}

/// The canonical reading, and the passage it makes.
fn judged(asked: &Asked) -> Option<(Passage, Target<'static>)> {
    asked.refuse_unclear().ok()?;
    let raw = asked.raw().ok()?;
    let target = canonicalise(&PathOptions::default(), &raw).ok()?;
    let anyone = Attributes { peer: None, plaintext: false, ip: None, port: 80, request: None };
    // Whatever is asked passes: this is about what is written, not about who may.
    let permit = RuleSet::empty().decide(Direction::Inbound, &anyone).permit(Mode::Observe)?;
    let route = Arc::new(Route {
        name: "app".into(),
        name_id: 0,
        targets: Vec::new(),
        security: Security::Plain,
        protocol: config::Protocol::Auto,
        timeout: None,
        connect_timeout: Duration::ZERO,
        source: None,
    });
    Some((Passage::new(asked, &target, permit, route, None), target.into_owned()))
}

/// Whether the field is one that a request going on may not have as it came: of one hop, or a claim.
pub fn is_held_back(name: &[u8]) -> bool {
    use super::field::Name;
    matches!(Name::of(name), Name::Claim | Name::Hop)
}

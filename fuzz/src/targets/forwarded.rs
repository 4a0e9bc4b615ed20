//! Judged = forwarded: what is written on is one request, and its reading is the one that was judged.

use proxy::fuzzing::{
    head::{self, Forwarded},
    http1::{self, Framing},
};
use std::borrow::Cow;

/// Reads the written head with the strict reader and compares. `framing` is that of the body, where it is known.
pub(super) fn check(forwarded: &Forwarded, framing: Option<Framing>) {
    let (target, text) = (&forwarded.target, &forwarded.text);
    let shown = || text.escape_ascii().to_string();
    let again = match http1::request(text) {
        Ok(again) => again,
        // A few fields are added on the way, so a head at the very bound is too large for the next: it refuses it and says so.
        Err("http1.headers_too_large") if text.split(|byte| *byte == b'\n').count() > 100 => return,
        Err(why) => panic!("{why}: {}", shown()),
    };
    let again = again.unwrap_or_else(|| panic!("no whole head: {}", shown()));
    assert_eq!(again.length, text.len(), "more than one head: {}", shown());
    assert_eq!(again.start.0, target.method().as_bytes(), "{}", shown());
    if forwarded.uri.is_none() || !target.is_connect() {
        assert_eq!(again.start.1, target.request_target().as_bytes(), "{}", shown());
    }
    let all = |name: &str| -> Vec<&[u8]> {
        again
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v.as_slice())
            .collect()
    };
    assert_eq!(all("host"), [target.authority().as_bytes()], "{}", shown());
    if let Some(framing) = framing {
        assert_eq!(again.framing, framing, "{}", shown());
        assert_eq!(all("x-forwarded-client-cert"), [&b"By=spiffe://example.org/own"[..]], "{}", shown());
        assert_eq!(all("x-envoy-expected-rq-timeout-ms").len(), 1, "{}", shown());
        assert_eq!(all("x-request-id").len().max(1), all("x-request-id").len(), "{}", shown());
    }
    let options: Vec<&[u8]> = forwarded.upgrade.iter().map(|_| &b"upgrade"[..]).collect();
    assert_eq!(all("connection"), options, "{}", shown());
    assert_eq!(all("upgrade"), forwarded.upgrade.iter().map(String::as_bytes).collect::<Vec<_>>(), "{}", shown());
    assert!(all("te").iter().all(|te| *te == b"trailers"), "{}", shown());
    for (name, _) in &again.fields {
        let ours = framing.is_some() && name == b"x-envoy-expected-rq-timeout-ms";
        assert!(ours || !head::is_held_back(name), "{}", shown());
    }
    // The next sidecar judges the same request.
    let next = head::http1(text).unwrap_or_else(|| panic!("refused by the next: {}", shown()));
    let seen = |of: &Forwarded| {
        let path = of.target.path_and_query().into_owned();
        (of.target.method().to_owned(), path, of.target.host().to_owned(), of.grpc, of.upgrade.clone())
    };
    assert_eq!(seen(&next), seen(forwarded), "{}", shown());
    if let Some(uri) = &forwarded.uri {
        assert_eq!(
            uri.path_and_query().map_or(Cow::Borrowed(""), |path| path.as_str().into()),
            target.path_and_query()
        );
        assert_eq!(uri.authority().map(http::uri::Authority::as_str), Some(&*target.authority()));
    }
}

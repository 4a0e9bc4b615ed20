//! Editing heads on their way: what a proxy must remove, what Envoy's users expect to be added, what nobody may claim.
//!
//! Removed in both directions: hop-by-hop fields (RFC 9110 §7.6.1). Removed from requests that come in: every claim that only
//! a proxy may make (`x-envoy-*`, client certificates, method and URL overrides).

use super::{
    Exchange,
    field::{self, Name},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use identity::{SpiffeId, Svid};
use std::fmt::Write;

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// A request on its way up: to our application, or out of the pod.
pub(crate) fn request(headers: &mut HeaderMap, exchange: &Exchange, timeout_ms: Option<u64>) {
    let connection = &exchange.connection;
    hop_by_hop(headers);
    strip_claims(headers);
    match &connection.xfcc {
        Some(element) => {
            headers.insert(XFCC, element.clone());
        }
        None => {
            headers.remove(XFCC);
        }
    }
    if !headers.contains_key(&FORWARDED_PROTO) {
        let proto = if connection.tls.is_some() { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if let Some(ms) = timeout_ms {
        headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(ms));
    }
    // Interim responses do not pass this way: the upstream gets the body without asking.
    headers.remove(header::EXPECT);
    if let Some(id) = exchange.added_id()
        && let Ok(id) = HeaderValue::from_bytes(id)
    {
        headers.insert(REQUEST_ID, id);
    }
}

/// A response on its way down.
pub(crate) fn downstream(headers: &mut HeaderMap, service_time_ms: u128) {
    hop_by_hop(headers);
    headers.insert(SERVICE_TIME, HeaderValue::from(u64::try_from(service_time_ms).unwrap_or(u64::MAX)));
}

/// Removes what belongs to one hop (RFC 9110 §7.6.1), and reduces `te` to what may pass (RFC 9113 §8.2.2).
pub(super) fn hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| field::list(value.as_bytes()))
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .filter(|name| Name::of(name.as_str().as_bytes()).may_be_hop_by_hop())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    if let Some(te) = headers.get(header::TE) {
        let trailers = te
            .to_str()
            .is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}

/// Removes what only a proxy may say. An underscore counts as a hyphen: many servers cannot tell them apart.
pub(super) fn strip_claims(headers: &mut HeaderMap) {
    // The usual request has none: look before building a list.
    if headers.keys().any(is_claim) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

fn is_claim(name: &HeaderName) -> bool {
    Name::of(name.as_str().as_bytes()) == Name::Claim
}

/// Trailers may not change how the message is read (RFC 9110 §6.5.1), nor claim what headers may not.
pub(crate) fn trailers(trailers: &mut HeaderMap) {
    let names: Vec<HeaderName> =
        trailers.keys().filter(|name| !Name::of(name.as_str().as_bytes()).passes_as_trailer()).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

/// The `x-forwarded-client-cert` element for a verified peer, in Envoy's order of keys: By, Hash, Subject, URI, DNS.
/// Values that hold `,` `;` `=` or `"` are quoted, except URI and DNS, whose grammars exclude them.
pub(crate) fn xfcc(own: &SpiffeId, svid: &Svid) -> Option<HeaderValue> {
    let mut element = String::with_capacity(256);
    let _ = write!(element, "By={own};Hash=");
    for byte in svid.hash() {
        let _ = write!(element, "{byte:02x}");
    }
    // RFC 2253 has escaped quotes and backslashes already, and Envoy writes them so: a second backslash would escape the
    // first, and leave the quote to end the value.
    let _ = write!(element, ";Subject=\"{}\";URI={}", svid.subject(), svid.id());
    for name in svid.dns_names() {
        // A DNS SAN is an IA5String: a certificate could hold anything there, and this is a list with separators.
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte)) {
            let _ = write!(element, ";DNS={name}");
        }
    }
    HeaderValue::from_str(&element).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_quote_in_a_subject_does_not_end_its_value() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a\";URI=spiffe://example.org/admin;x=\"\\");
        params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://example.org/web".try_into().unwrap())];
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        let leaf = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let element =
            xfcc(&SpiffeId::parse("spiffe://example.org/own").unwrap(), &Svid::from_leaf(leaf.der()).unwrap());
        let element = element.unwrap().to_str().unwrap().to_owned();
        let (_, subject) = element.split_once(";Subject=").unwrap();
        let expected = r#""CN=a\"\;URI=spiffe://example.org/admin\;x=\"\\";URI=spiffe://example.org/web"#;
        assert_eq!(subject, expected);
    }

    #[test]
    fn what_connection_names_is_removed_but_never_what_the_request_says() {
        let mut map = headers(&[
            ("connection", "close, x-foo, host, content-length, x-forwarded-client-cert"),
            ("x-foo", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("x-forwarded-client-cert", "By=x"),
            ("keep-alive", "timeout=5"),
        ]);
        hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-forwarded-client-cert"]);
    }

    #[test]
    fn te_passes_only_trailers() {
        let mut map = headers(&[("te", "gzip, trailers")]);
        hop_by_hop(&mut map);
        assert_eq!(map.get("te").unwrap(), "trailers");
        let mut map = headers(&[("te", "gzip")]);
        hop_by_hop(&mut map);
        assert!(map.get("te").is_none());
    }

    #[test]
    fn claims_of_a_client_are_removed() {
        let mut map = headers(&[
            ("x-envoy-original-path", "/zz"),
            ("x-envoy-internal", "true"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/admin"),
            ("x_forwarded_client_cert", "By=x"),
            ("x_envoy_internal", "true"),
            ("l5d-client-id", "web"),
            ("accept", "*/*"),
        ]);
        strip_claims(&mut map);
        assert_eq!(map.len(), 1);
    }
}

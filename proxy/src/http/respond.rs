//! The one place where a failure becomes an answer: status, body, Envoy response flag, response-code detail.
//!
//! In: a [`Failure`], made by whichever stage failed. Out: a [`Reply`], which the server sends, the access log prints and the
//! metrics count. The rows follow what Envoy 1.40 was seen to answer; gRPC callers get the same facts as a trailers-only
//! response with a gRPC status (gRPC over HTTP/2, "Responses").

use super::h1::Refused;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use policy::Malformed;
use std::borrow::Cow;

/// Why a request got a local reply instead of the upstream's.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The request has no canonical reading. The reply, the log and the detail name the reason.
    Malformed(Malformed),
    /// The body is not framed as HTTP/1.1 frames bodies.
    Unreadable(Refused),
    /// No `Host` (RFC 9112 §3.2: a server MUST answer 400).
    MissingHost,
    /// Several `Host` lines, or `Host` and `:authority` that differ (RFC 9112 §3.2, RFC 9113 §8.3.1).
    ConflictingHost,
    /// The canonical reading cannot be written as a request head. No input is known that leads here.
    NotForwardable,
    /// The rules do not allow it. Holds the name of the deny rule, if one matched.
    Denied(Option<String>),
    /// The rules that came into force while the request was under way forbid it.
    Revoked,
    /// The bundle in force no longer trusts the peer of this connection.
    Distrusted,
    /// Nothing in the file says where this request goes.
    NoRoute,
    /// CONNECT, or an `Upgrade` that no rule allows.
    Upgrade,
    /// The upstream has no endpoint to try.
    NoEndpoint,
    /// The upstream's name cannot be resolved. Holds why.
    Resolve(String),
    /// Memory runs short (Envoy's overload manager: `stop_accepting_requests`).
    Overloaded,
    /// More connections to the upstream than the bound.
    Overflow,
    /// TCP to the upstream failed. Holds the operating system's word for it.
    Connect(String),
    /// The upstream is not who it must be, or does not speak TLS. Holds Envoy's form of the reason.
    Tls(String),
    /// The upstream closed or reset before its response.
    UpstreamClosed,
    /// The upstream reset the HTTP/2 stream.
    UpstreamReset,
    /// What the upstream sent is not HTTP.
    UpstreamProtocol,
    /// The time for the whole request ran out.
    RequestTimeout,
    /// Neither side sent anything for too long; `true` when the request had been received whole.
    IdleTimeout(bool),
}

/// A local reply, and how it is written down.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Cow<'static, str>,
    pub(crate) flag: &'static str,
    pub(crate) details: Cow<'static, str>,
    /// The connection cannot be used again: what follows on it may belong to the request just refused.
    pub(crate) close: bool,
    /// The field that tells a caller who was overloaded, by Envoy's name.
    pub(crate) overloaded: Option<&'static str>,
}

const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

impl Failure {
    /// A word for metrics and refusal lines.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Unreadable(_) => "unreadable",
            Self::MissingHost => "missing_host_header",
            Self::ConflictingHost => "conflicting_host",
            Self::NotForwardable => "not_forwardable",
            Self::Denied(_) => "rbac_access_denied",
            Self::Revoked => "revoked_by_policy",
            Self::Distrusted => "peer_no_longer_trusted",
            Self::NoRoute => "route_not_found",
            Self::Upgrade => "upgrade_failed",
            Self::NoEndpoint => "no_healthy_upstream",
            Self::Resolve(_) => "dns_resolution_failed",
            Self::Overloaded => "overload",
            Self::Overflow => "overflow",
            Self::Connect(_) => "connect_failure",
            Self::Tls(_) => "upstream_tls",
            Self::UpstreamClosed => "connection_termination",
            Self::UpstreamReset => "remote_reset",
            Self::UpstreamProtocol => "protocol_error",
            Self::RequestTimeout => "response_timeout",
            Self::IdleTimeout(_) => "stream_idle_timeout",
        }
    }

    /// Whether we refused the request (as against failed to serve it).
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_)
                | Self::Unreadable(_)
                | Self::MissingHost
                | Self::ConflictingHost
                | Self::NotForwardable
                | Self::Denied(_)
                | Self::Revoked
                | Self::Distrusted
                | Self::NoRoute
                | Self::Upgrade
                | Self::Tls(_)
        )
    }

    /// The reply to an HTTP request that is not gRPC.
    pub(crate) fn reply(&self) -> Reply {
        let reply = |status: u16, body: Cow<'static, str>, flag: &'static str, details: Cow<'static, str>| Reply {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body,
            flag,
            details,
            close: false,
            overloaded: None,
        };
        let reset = |reason: &str| Cow::Owned(format!("{RESET}{reason}"));
        let reset_details = |reason: &str| {
            Cow::Owned(format!("upstream_reset_before_response_started{{{}}}", reason.replace(' ', "_")))
        };
        match self {
            Self::Malformed(why) => {
                let details = format!("path_normalization_failed{{{}}}", why.as_str());
                reply(400, Cow::Owned(format!("{details}: {why}")), "-", Cow::Owned(details))
            }
            Self::Unreadable(refused) => {
                let (status, reason) = refused.status();
                let body = if *refused == Refused::Timeout { "stream timeout" } else { reason };
                Reply { close: true, ..reply(status, body.into(), refused.flag(), refused.details().into()) }
            }
            Self::MissingHost => reply(400, "".into(), "-", "missing_host_header".into()),
            Self::ConflictingHost => reply(
                400,
                "conflicting_host: more than one host is named (RFC 9112 §3.2)".into(),
                "-",
                "conflicting_host".into(),
            ),
            Self::NotForwardable => reply(400, "not_forwardable".into(), "-", "not_forwardable".into()),
            Self::Denied(rule) => {
                let rule = rule.as_deref().unwrap_or("none");
                let details = format!("rbac_access_denied_matched_policy[{rule}]");
                reply(403, "RBAC: access denied".into(), "-", details.into())
            }
            Self::Revoked => reply(403, "RBAC: access denied".into(), "-", "revoked_by_policy".into()),
            Self::Distrusted => {
                Reply { close: true, ..reply(403, "RBAC: access denied".into(), "-", "peer_no_longer_trusted".into()) }
            }
            Self::NoRoute => reply(404, "".into(), "NR", "route_not_found".into()),
            Self::Upgrade => Reply { close: true, ..reply(403, "".into(), "-", "upgrade_failed".into()) },
            Self::NoEndpoint => reply(503, "no healthy upstream".into(), "UH", "no_healthy_upstream".into()),
            Self::Resolve(error) => reply(
                503,
                "no healthy upstream".into(),
                "UH,DF",
                format!("no_healthy_upstream{{dns:_{}}}", error.replace(' ', "_")).into(),
            ),
            Self::Overloaded => Reply {
                close: true,
                overloaded: Some("x-envoy-local-overloaded"),
                ..reply(503, "envoy overloaded".into(), "OM", "overload".into())
            },
            Self::Overflow => Reply {
                overloaded: Some("x-envoy-overloaded"),
                ..reply(503, reset("overflow"), "UO", reset_details("overflow"))
            },
            Self::Connect(error) => reply(
                503,
                reset("remote connection failure"),
                "UF",
                reset_details(&format!("remote connection failure|delayed connect error: {error}")),
            ),
            Self::Tls(error) => reply(
                503,
                reset("remote connection failure"),
                "UF",
                reset_details(&format!("remote connection failure|{error}")),
            ),
            Self::UpstreamClosed => {
                reply(503, reset("connection termination"), "UC", reset_details("connection termination"))
            }
            Self::UpstreamReset => reply(503, reset("remote reset"), "UR", reset_details("remote reset")),
            Self::UpstreamProtocol => reply(502, reset("protocol error"), "UPE", reset_details("protocol error")),
            Self::RequestTimeout => reply(504, "upstream request timeout".into(), "UT", "response_timeout".into()),
            Self::IdleTimeout(true) => reply(504, "stream timeout".into(), "SI", "stream_idle_timeout".into()),
            Self::IdleTimeout(false) => {
                Reply { close: true, ..reply(408, "stream timeout".into(), "SI", "stream_idle_timeout".into()) }
            }
        }
    }
}

impl Reply {
    /// The response head and body as sent. `grpc` tells that the request was gRPC; `date` is written when there is one.
    pub(crate) fn into_response<B: From<Cow<'static, str>>>(
        self,
        grpc: bool,
        date: Option<HeaderValue>,
    ) -> Response<B> {
        let mut headers = HeaderMap::with_capacity(6);
        if let Some(date) = date {
            headers.insert(header::DATE, date);
        }
        headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(name) = self.overloaded {
            headers.insert(name, HeaderValue::from_static("true"));
        }
        let (status, body) = if grpc {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static(grpc_status(self.status)));
            if !self.body.is_empty() {
                headers.insert("grpc-message", percent_encoded(&self.body));
            }
            (StatusCode::OK, Cow::Borrowed(""))
        } else {
            if !self.body.is_empty() {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            (self.status, self.body)
        };
        let mut response = Response::new(B::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Envoy's map from HTTP status to gRPC status for local replies.
fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 => "14",
        502..=504 => "14",
        _ => "2",
    }
}

/// gRPC over HTTP/2, "Status-Message": percent-encoding of everything that is not printable ASCII, and of `%`.
fn percent_encoded(text: &str) -> HeaderValue {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(out).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(failure: &Failure, grpc: bool) -> Response<Cow<'static, str>> {
        failure.reply().into_response(grpc, None)
    }

    #[test]
    fn a_denied_request_is_answered_as_envoy_answers_it() {
        let response = body(&Failure::Denied(None), false);
        assert_eq!(response.status(), 403);
        assert_eq!(response.body(), "RBAC: access denied");
        assert_eq!(response.headers()["content-length"], "19");
        assert_eq!(response.headers()["server"], "envoy");
        assert_eq!(Failure::Denied(None).reply().details, "rbac_access_denied_matched_policy[none]");
        assert_eq!(Failure::Denied(Some("p".into())).reply().details, "rbac_access_denied_matched_policy[p]");
    }

    #[test]
    fn a_denied_grpc_call_gets_status_seven_in_a_trailers_only_response() {
        let response = body(&Failure::Denied(None), true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(response.headers()["grpc-message"], "RBAC: access denied");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert!(response.body().is_empty());
    }

    #[test]
    fn details_hold_no_spaces() {
        let details = Failure::Connect("Connection refused".into()).reply().details;
        assert_eq!(
            details,
            "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"
        );
    }
}

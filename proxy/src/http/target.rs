//! Reading a request's target: which host, which path, in one way only.
//!
//! In: the request head as the engine parsed it. Out: a [`Received`], from which [`policy::canonicalise`] makes the one canonical
//! reading, or the refusal. Absolute-form is read as origin-form with the target's authority (RFC 9112 §3.2.2); for HTTP/2,
//! `:authority` and `host` must agree (RFC 9113 §8.3.1).

use super::{Failure, Refused};
use http::{HeaderValue, Method, Uri, header, request::Parts};
use policy::{Malformed, PathOptions, RawTarget, Scheme, Target, canonicalise};

/// The parts of a head that name its target. Cloning them is cheap, and frees the head for editing.
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) authority: HeaderValue,
}

/// Finds the authority, or says why there is none that can be trusted.
pub(crate) fn read(request: &Parts, has_fragment: bool) -> Result<Received, Failure> {
    if has_fragment {
        return Err(Failure::Malformed(Malformed::Fragment));
    }
    let mut lengths = request.headers.get_all(header::CONTENT_LENGTH).iter();
    if lengths.next().is_some_and(|length| lengths.next().is_some() || !is_number(length)) {
        // The gate has refused this in HTTP/1.1; HTTP/2 must not bring it in (RFC 9113 §8.1.1).
        return Err(Failure::Unreadable(Refused::Syntax));
    }
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::ConflictingHost);
    }
    let authority = match (request.uri.authority(), host) {
        (Some(authority), host) => {
            // HTTP/1.1 absolute-form: the target wins (RFC 9112 §3.2.2). HTTP/2: they must say the same.
            if request.version == http::Version::HTTP_2
                && host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
            {
                return Err(Failure::ConflictingHost);
            }
            HeaderValue::from_str(authority.as_str()).map_err(|_| Failure::ConflictingHost)?
        }
        (None, Some(host)) if !host.is_empty() => host.clone(),
        (None, _) => return Err(Failure::MissingHost),
    };
    Ok(Received { method: request.method.clone(), uri: request.uri.clone(), authority })
}

/// Digits only (RFC 9110 §8.6).
pub(crate) fn is_number(value: &HeaderValue) -> bool {
    !value.is_empty() && value.len() <= 18 && value.as_bytes().iter().all(u8::is_ascii_digit)
}

impl Received {
    /// The canonical reading.
    pub(crate) fn target(&self) -> Result<Target<'_>, Failure> {
        let Some(raw) = raw(&self.method, &self.uri, Some(&self.authority)) else {
            return Err(Failure::ConflictingHost);
        };
        canonicalise(&PathOptions::default(), &raw).map_err(Failure::Malformed)
    }
}

/// The target as it was sent. `None` when the authority is not text.
pub(crate) fn raw<'a>(method: &'a Method, uri: &'a Uri, authority: Option<&'a HeaderValue>) -> Option<RawTarget<'a>> {
    Some(RawTarget {
        method: method.as_str(),
        path_and_query: uri.path_and_query().map_or(uri.path(), |target| target.as_str()),
        authority: authority?.to_str().ok()?,
        scheme: if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http },
    })
}

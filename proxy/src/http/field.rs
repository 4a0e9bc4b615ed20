//! Header field names the proxy acts on, recognised once, when a head is read.
//!
//! Everything else about a field is its bytes. Names are compared without regard to case (RFC 9110 §5.1).

/// What a field name means to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Passed on as it is.
    Other,
    Authorization,
    /// A claim that only a proxy may make: `x-envoy-*`, `l5d-*`, overrides of method and URL, or an imitation with underscores
    /// of one of our own fields or of the body's length (RFC 3875 §4.1.18 gives programs both spellings as one).
    Claim,
    ClientCert,
    Connection,
    ContentLength,
    ContentType,
    Expect,
    ForwardedFor,
    ForwardedProto,
    Host,
    /// `keep-alive` and `proxy-connection`: for one hop, always removed (RFC 9110 §7.6.1).
    Hop,
    RequestId,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
}

/// Fields by which a caller could make the application see another request than the one that was judged.
const OVERRIDES: [&[u8]; 6] = [
    b"x-http-method-override",
    b"x-http-method",
    b"x-method-override",
    b"x-original-url",
    b"x-original-uri",
    b"x-rewrite-url",
];

impl Name {
    /// Recognises a field name as it was written.
    pub(crate) fn of(name: &[u8]) -> Self {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        let known = match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            7 if is("trailer") => Self::Trailer,
            10 if is("user-agent") => Self::UserAgent,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::Hop,
            12 if is("content-type") => Self::ContentType,
            12 if is("x-request-id") => Self::RequestId,
            13 if is("authorization") => Self::Authorization,
            14 if is("content-length") => Self::ContentLength,
            14 if is("content_length") => Self::Claim,
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("proxy-connection") => Self::Hop,
            17 if is("x-forwarded-proto") => Self::ForwardedProto,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("transfer_encoding") => Self::Claim,
            23 if is("x-forwarded-client-cert") => Self::ClientCert,
            _ => Self::Other,
        };
        match (known, name.first()) {
            (Self::Other, Some(b'x' | b'X' | b'l' | b'L')) if is_claim(name) => Self::Claim,
            _ => known,
        }
    }

    /// Whether it may pass as a trailer: one that does not change how the message is read, and that not only a head may have
    /// (RFC 9110 §6.5.1).
    pub(crate) fn passes_as_trailer(self) -> bool {
        matches!(self, Self::Other | Self::RequestId | Self::UserAgent | Self::ForwardedFor | Self::ForwardedProto)
    }

    /// Whether a `Connection` field may have it removed. Naming one of the others would change what the message says.
    pub(crate) fn may_be_hop_by_hop(self) -> bool {
        !matches!(
            self,
            Self::Host | Self::ContentLength | Self::ContentType | Self::ClientCert | Self::Authorization | Self::Te
        )
    }
}

/// An underscore counts as a hyphen: many servers cannot tell them apart.
fn is_claim(name: &[u8]) -> bool {
    let mut text = [0; 32];
    let length = name.len().min(text.len());
    let mut imitates = false;
    for (to, from) in text.iter_mut().zip(name) {
        imitates |= *from == b'_';
        *to = if *from == b'_' { b'-' } else { from.to_ascii_lowercase() };
    }
    let text = text.get(..length).unwrap_or_default();
    text.starts_with(b"x-envoy-")
        || text.starts_with(b"l5d-")
        || (length == name.len() && OVERRIDES.contains(&text))
        || (imitates && text == b"x-forwarded-client-cert")
}

/// The members of a list field (RFC 9110 §5.6.1), trimmed; empty ones left out.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Digits only, at most 18 of them, so that the value cannot overflow (RFC 9110 §8.6: no sign, no list, no space).
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0')))
}

/// gRPC: a content type of `application/grpc` or `application/grpc+…`, in any case and with any parameters (RFC 9110 §8.3.1),
/// because some servers take these for gRPC too.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.split_at_checked(GRPC.len()).is_some_and(|(name, rest)| {
        name.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, known) in [
            ("Host", Name::Host),
            ("CONTENT-LENGTH", Name::ContentLength),
            ("Transfer-Encoding", Name::TransferEncoding),
            ("x-request-id", Name::RequestId),
            ("X-Envoy-Internal", Name::Claim),
            ("x_envoy_internal", Name::Claim),
            ("X_Forwarded_Client_Cert", Name::Claim),
            ("X-Forwarded-Client-Cert", Name::ClientCert),
            ("x-http-method-override", Name::Claim),
            ("X_HTTP_Method", Name::Claim),
            ("Content_Length", Name::Claim),
            ("transfer_encoding", Name::Claim),
            ("l5d-client-id", Name::Claim),
            ("x-http-method-overrides", Name::Other),
            ("link", Name::Other),
            ("x-custom", Name::Other),
            ("x-envoy-a-name-that-is-longer-than-the-text-it-is-compared-in", Name::Claim),
        ] {
            assert_eq!(Name::of(name.as_bytes()), known, "{name}");
        }
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"000000000000000042"), Some(42));
        for bad in ["", "+1", "-1", "1 ", "0x1", "1,1", "1_0", "9999999999999999999"] {
            assert_eq!(number(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn grpc_is_known_as_servers_know_it() {
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC",
            "application/grpc; a=b",
            "application/grpc;a",
        ] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["", "application/grp", "application/grpc-web", "application/grpcx", "text/plain; application/grpc"] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }
}

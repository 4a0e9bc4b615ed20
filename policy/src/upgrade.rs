//! Switches of protocol as rules write them: the names of an `Upgrade` field (RFC 9110 §7.8), and `connect`
//! for the CONNECT method (RFC 9110 §9.3.6). After a switch nobody reads requests any more, so a rule names
//! what it lets through.
//!
//! Refuses the names that would bring HTTP or TLS inside the switched connection: the requests in there
//! would pass by every rule.

use crate::canonical::is_token;
use crate::pattern_error::PatternError;
use std::fmt;

/// The name of CONNECT in a rule's `upgrade`.
const CONNECT: &str = "connect";

/// One protocol that a request may ask to switch to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpgradePattern(Box<str>);

impl UpgradePattern {
    /// Reads a protocol's name, without a version; case does not matter (RFC 9110 §7.8).
    ///
    /// # Errors
    /// With the place in `text`: not a token, a version, a name of HTTP or of TLS.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, version) = match text.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let lower = name.to_ascii_lowercase();
        let whole = |message: &str| PatternError::new(0, text.len(), message);
        match lower.as_str() {
            "h2c" | "h2" | "http" => {
                return Err(whole("a switch to another version of HTTP is never made")
                    .help("the requests after it would pass by every rule; callers speak HTTP/2 from the first byte"));
            }
            "tls" => {
                return Err(whole("a switch to TLS is never made")
                    .help("what came after it could not be read; mutual TLS begins before the first request"));
            }
            _ => {}
        }
        if let Some(version) = version {
            return Err(PatternError::new(name.len(), version.len() + 1, "a protocol is named without its version")
                .help(format!("write `{lower}`")));
        }
        if name.contains('*') {
            return Err(whole("`*` is not a wildcard here").help("name each protocol"));
        }
        if !is_token(name) {
            return Err(whole("a protocol is a token, such as `websocket` (RFC 9110 §7.8)"));
        }
        Ok(Self(lower.into()))
    }

    /// Whether this name is meant.
    #[must_use]
    pub fn matches(&self, protocol: &str) -> bool {
        self.0.eq_ignore_ascii_case(protocol)
    }

    /// Whether it stands for the CONNECT method.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        *self.0 == *CONNECT
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpgradePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a request asks to switch to, as rules see it. The method alone makes a CONNECT: without it a field
/// `Upgrade: connect` is a protocol that no rule can name.
pub(crate) fn asked<'a>(method: &str, upgrade: Option<&'a str>) -> Option<&'a str> {
    if method == "CONNECT" {
        return Some(CONNECT);
    }
    upgrade.map(|name| if name.eq_ignore_ascii_case(CONNECT) { "" } else { name })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_without_case_and_as_a_whole() {
        let socket = UpgradePattern::parse("WebSocket").unwrap();
        assert_eq!(socket.as_str(), "websocket");
        assert!(socket.matches("websocket") && socket.matches("WEBSOCKET"));
        for other in ["", "websocket2", "web", "websocket/13", "websocket, h2c"] {
            assert!(!socket.matches(other), "{other}");
        }
        assert!(UpgradePattern::parse("Connect").unwrap().is_connect());
        for fine in ["tcp", "irc", "h2x", "http-tunnel", "tls-like", "postgres"] {
            assert!(UpgradePattern::parse(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn what_would_hide_requests_and_what_is_no_name_is_refused_with_its_place() {
        for (text, offset, message) in [
            ("h2c", 0, "HTTP is never"),
            ("H2C", 0, "HTTP is never"),
            ("h2", 0, "HTTP is never"),
            ("HTTP/2.0", 0, "HTTP is never"),
            ("http", 0, "HTTP is never"),
            ("TLS/1.0", 0, "TLS is never"),
            ("tls", 0, "TLS is never"),
            ("websocket/13", 9, "without its version"),
            ("web socket", 0, "token"),
            ("", 0, "token"),
            ("*", 0, "not a wildcard"),
            ("websocket,h2c", 0, "token"),
        ] {
            let error = UpgradePattern::parse(text).unwrap_err();
            assert!(error.offset == offset && error.message.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn only_the_method_makes_a_connect() {
        assert_eq!(asked("CONNECT", None), Some("connect"));
        assert_eq!(asked("CONNECT", Some("websocket")), Some("connect"));
        assert_eq!(asked("GET", Some("Connect")), Some(""));
        assert_eq!(asked("GET", Some("websocket")), Some("websocket"));
        assert_eq!(asked("GET", None), None);
    }
}

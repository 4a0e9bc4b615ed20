//! Hosts as rules write them: an exact name, or `*.example.org` for exactly one label more.

use crate::authority;
use crate::pattern_error::PatternError;
use std::fmt;

/// One host, or every host one label below a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// Canonical, without the `*.`.
    name: Box<str>,
    one_label_more: bool,
}

impl HostPattern {
    /// Reads a host; case and a trailing dot do not matter, a port is refused.
    ///
    /// # Errors
    /// With the place in `text`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, one_label_more) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let offset = text.len() - name.len();
        if let Some(at) = name.find('*') {
            return Err(PatternError::new(
                offset + at,
                1,
                "`*` stands only for the whole first label: `*.example.org`",
            ));
        }
        if !name.starts_with('[')
            && let Some(at) = name.find(':')
        {
            return Err(PatternError::new(offset + at, name.len() - at, "a host is written without a port")
                .help("ports have a key of their own, `ports`; an IPv6 address stands in brackets"));
        }
        match authority::canonical_host(name) {
            Ok(host) if one_label_more && host.starts_with('[') => {
                Err(PatternError::new(0, text.len(), "an address has no labels"))
            }
            Ok(host) => Ok(Self { name: host.into(), one_label_more }),
            Err(_) => Err(PatternError::new(offset, name.len(), format!("`{name}` is not a host name or an address"))),
        }
    }

    /// Whether a canonical host, as [`crate::Target::host`] gives it, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        if !self.one_label_more {
            return *self.name == *host;
        }
        host.strip_suffix(&*self.name)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|label| !label.is_empty() && !label.contains('.'))
    }

    /// The name below which every host is meant, when that is so.
    pub(crate) fn parent(&self) -> Option<&str> {
        self.one_label_more.then_some(&self.name)
    }

    /// The host when exactly one is meant.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        (!self.one_label_more).then_some(&self.name)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.one_label_more { "*." } else { "" }, self.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::HostPattern;

    #[test]
    fn a_name_matches_itself_whatever_its_case_was_in_the_rule() {
        let host = HostPattern::parse("Orders.Shop.svc.").unwrap();
        assert!(host.matches("orders.shop.svc"));
        assert!(!host.matches("a.orders.shop.svc"));
        assert_eq!(host.exact(), Some("orders.shop.svc"));
    }

    #[test]
    fn a_star_is_exactly_one_label() {
        let host = HostPattern::parse("*.example.org").unwrap();
        assert!(host.matches("a.example.org"));
        for no in ["example.org", ".example.org", "a.b.example.org", "aexample.org"] {
            assert!(!host.matches(no), "{no}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_refused_with_its_place() {
        for (text, offset) in
            [("a:80", 1), ("a.*.b", 2), ("", 0), ("a b", 0), ("*.", 2), ("*", 0), ("*.[::1]", 0), ("127.1", 0)]
        {
            assert_eq!(HostPattern::parse(text).unwrap_err().offset, offset, "{text}");
        }
    }
}

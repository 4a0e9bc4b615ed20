//! gRPC operations: `shop.orders.v1.Orders/Watch`, or every method of a service, `shop.orders.v1.Orders/*`.
//!
//! Matched against the path `/Service/Method` of a request that is gRPC (POST with a gRPC
//! content type); a plain request to the same path does not match. Case counts as it does in every path.

use crate::pattern_error::PatternError;
use crate::template::{RANK_ANY, RANK_LITERAL};
use std::fmt;

/// One gRPC method, or all of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcPattern {
    /// As written.
    text: Box<str>,
    service: Box<str>,
    /// `None` is `*`.
    method: Option<Box<str>>,
}

impl GrpcPattern {
    /// Reads `package.Service/Method` or `package.Service/*`.
    ///
    /// # Errors
    /// With the place in `text`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some(rest) = text.strip_prefix('/') {
            return Err(PatternError::new(0, 1, "a gRPC method is written without a leading slash")
                .help(format!("write `{rest}`")));
        }
        let Some((service, method)) = text.split_once('/') else {
            return Err(PatternError::new(0, text.len(), "a gRPC method is `package.Service/Method`")
                .help(format!("write `{text}/*` for every method of the service")));
        };
        let mut offset = 0;
        for name in service.split('.') {
            if !is_identifier(name) {
                let what = if name == "*" { "the service is named in full" } else { "this is not a protobuf name" };
                return Err(PatternError::new(offset, name.len(), what));
            }
            offset += name.len() + 1;
        }
        let method = match method {
            "*" => None,
            name if is_identifier(name) => Some(name.into()),
            other => {
                return Err(PatternError::new(service.len() + 1, other.len(), "this is not a protobuf method name"));
            }
        };
        Ok(Self { text: text.into(), service: service.into(), method })
    }

    /// The same for paths in lower case; its text stays as it was written.
    pub(crate) fn folded(mut self) -> Self {
        self.service.make_ascii_lowercase();
        if let Some(method) = &mut self.method {
            method.make_ascii_lowercase();
        }
        self
    }

    /// Whether a canonical path names this method.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(method) =
            path.strip_prefix('/').and_then(|p| p.strip_prefix(&*self.service)).and_then(|p| p.strip_prefix('/'))
        else {
            return false;
        };
        match &self.method {
            Some(name) => **name == *method,
            None => is_identifier(method),
        }
    }

    /// The service, and the method where one is named.
    pub(crate) fn names(&self) -> (&str, Option<&str>) {
        (&self.service, self.method.as_deref())
    }

    /// How narrow, in the terms of [`crate::Specificity`].
    pub(crate) fn ranks(&self) -> &'static [u8] {
        if self.is_exact() { &[RANK_LITERAL, RANK_LITERAL] } else { &[RANK_LITERAL, RANK_ANY] }
    }

    /// Whether one method is named, not all of a service.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.method.is_some()
    }
}

impl fmt::Display for GrpcPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `ident` of the protobuf language specification.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::GrpcPattern;

    #[test]
    fn a_method_matches_itself_and_nothing_near() {
        let one = GrpcPattern::parse("shop.v1.Orders/Watch").unwrap();
        assert!(one.matches("/shop.v1.Orders/Watch"));
        for path in [
            "/shop.v1.Orders/watch",
            "/shop.v1.Orders/WatchAll",
            "/shop.v1.Orders/Watch/",
            "/shop.v1.Orders",
            "/shop.v1.OrdersX/Watch",
        ] {
            assert!(!one.matches(path), "{path}");
        }
    }

    #[test]
    fn a_star_covers_every_method_of_one_service_only() {
        let all = GrpcPattern::parse("shop.v1.Orders/*").unwrap();
        assert!(all.matches("/shop.v1.Orders/Watch"));
        for path in ["/shop.v1.Orders/", "/shop.v1.Orders/a/b", "/shop.v1.Other/Watch", "/shop.v1.Orders/a%40"] {
            assert!(!all.matches(path), "{path}");
        }
    }

    #[test]
    fn what_is_not_a_protobuf_name_is_refused_with_its_place() {
        for (text, offset) in
            [("/a.B/C", 0), ("a.B", 0), ("a..B/C", 2), ("a.B/C/D", 4), ("a.*/C", 2), ("a.B/", 4), ("a.B/G*", 4)]
        {
            assert_eq!(GrpcPattern::parse(text).unwrap_err().offset, offset, "{text}");
        }
    }
}

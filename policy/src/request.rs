//! Operations as rules write them: `GET,HEAD /api/orders/{id:uint}`, `* /public/{rest...}`.
//!
//! Methods are tokens and case-sensitive (RFC 9110 §9.1): `GET` does not include `HEAD`.

use crate::canonical::{PathOptions, Target, is_token};
use crate::case::{self, PathCase};
use crate::pattern_error::PatternError;
use crate::template::PathTemplate;
use std::fmt;

/// One operation: some methods on some paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPattern {
    /// Which methods.
    pub methods: Methods,
    /// Which paths.
    pub template: PathTemplate,
}

/// The methods of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// `*`
    Any,
    /// One or more tokens, no duplicates.
    Only(Box<[Box<str>]>),
}

impl RequestPattern {
    /// Reads `METHODS PATH`, one blank between them, methods separated by commas.
    ///
    /// # Errors
    /// With the place in `text`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::parse_for(text, &PathOptions::default())
    }

    /// The same for requests that are read with these options.
    ///
    /// # Errors
    /// With the place in `text`.
    pub fn parse_for(text: &str, options: &PathOptions) -> Result<Self, PatternError> {
        if text.starts_with('/') {
            return Err(PatternError::new(0, text.len(), "the method is missing")
                .help(format!("write `GET {text}`, or `* {text}` for every method")));
        }
        let Some((methods, path)) = text.split_once(' ') else {
            return Err(PatternError::new(0, text.len(), "an operation is `METHODS /path`")
                .help("for example `GET,HEAD /orders/{id:uint}`"));
        };
        let at = methods.len() + 1;
        let methods = Methods::parse(methods)?;
        if path.starts_with(' ') || path.starts_with('\t') {
            return Err(PatternError::new(at, 1, "exactly one blank stands between methods and path"));
        }
        let template = PathTemplate::parse_for(path, options.case).map_err(|e| e.shifted(at))?;
        if matches!(methods, Methods::Only(_)) && methods.contains("CONNECT") && !template.matches("/") {
            return Err(PatternError::new(at, path.len(), "CONNECT has no path")
                .help("write `CONNECT /`; where a tunnel may go is said by `hosts`"));
        }
        Ok(Self { methods, template })
    }

    /// The same as it is compared with the paths of requests that are read with this case.
    #[must_use]
    pub fn comparing(self, case: PathCase) -> Self {
        match case {
            PathCase::Sensitive => self,
            PathCase::Insensitive => self.folded(),
        }
    }

    /// The same for paths in lower case.
    pub(crate) fn folded(self) -> Self {
        Self { methods: self.methods, template: self.template.folded() }
    }

    /// Whether this operation covers a method and a canonical path.
    #[must_use]
    pub fn matches(&self, method: &str, path: &str) -> bool {
        self.methods.contains(method) && self.template.matches(path)
    }

    /// Whether this operation, [made for the same case](Self::comparing), covers a request.
    #[must_use]
    pub fn covers(&self, target: &Target<'_>, case: PathCase) -> bool {
        match case {
            PathCase::Sensitive => self.matches(target.method(), target.path()),
            PathCase::Insensitive => case::with_folded(target.path(), |path| self.matches(target.method(), path)),
        }
    }

    /// The same for a path that is known to have no escapes. The path rules out more than the method does.
    pub(crate) fn matches_unescaped(&self, method: &str, path: &str) -> bool {
        self.template.matches_unescaped(path) && self.methods.contains(method)
    }
}

impl fmt::Display for RequestPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.methods, self.template)
    }
}

impl Methods {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let mut methods: Vec<Box<str>> = Vec::new();
        let mut offset = 0;
        for method in text.split(',') {
            let error = |message: String| PatternError::new(offset, method.len(), message);
            if method == "*" {
                return Err(error("`*` already means every method".into()).help("let it stand alone"));
            }
            if !is_token(method) {
                return Err(error(if method.is_empty() {
                    "a method is missing here".into()
                } else {
                    format!("`{method}` is not a method")
                }));
            }
            if method.bytes().any(|b| b.is_ascii_lowercase()) {
                return Err(
                    error("methods are case-sensitive".into()).help(format!("write `{}`", method.to_ascii_uppercase()))
                );
            }
            if methods.iter().any(|m| **m == *method) {
                return Err(error(format!("`{method}` is there twice")));
            }
            methods.push(method.into());
            offset += method.len() + 1;
        }
        Ok(Self::Only(methods.into()))
    }

    /// Whether a method is one of these.
    #[must_use]
    pub fn contains(&self, method: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(methods) => methods.iter().any(|m| **m == *method),
        }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Only(methods) => f.write_str(&methods.join(",")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::RequestPattern;

    #[test]
    fn methods_are_exact_and_get_is_not_head() {
        let both = RequestPattern::parse("GET,PUT /a/{id:uint}").unwrap();
        assert!(both.matches("GET", "/a/1") && both.matches("PUT", "/a/1"));
        assert!(!both.matches("HEAD", "/a/1") && !both.matches("get", "/a/1") && !both.matches("GET", "/a/x"));
        let any = RequestPattern::parse("* /a").unwrap();
        assert!(any.matches("BREW", "/a") && !any.matches("GET", "/b"));
        assert_eq!(both.to_string(), "GET,PUT /a/{id:uint}");
        assert!(RequestPattern::parse("CONNECT /").unwrap().matches("CONNECT", "/"));
        assert!(RequestPattern::parse("GET,CONNECT /{rest...}").unwrap().matches("CONNECT", "/"));
    }

    #[test]
    fn slips_are_refused_with_their_place() {
        for (text, offset) in [
            ("/a", 0),
            ("GET", 0),
            ("", 0),
            ("GET  /a", 4),
            ("GET, HEAD /a", 4),
            (",GET /a", 0),
            ("GET,HEAD,GET /a", 9),
            ("GET,* /a", 4),
            ("GET,head /a", 4),
            ("GE(T /a", 0),
            ("CONNECT /a", 8),
            ("GET,CONNECT /a", 12),
            ("connect /", 0),
            ("GET a", 4),
            ("GET /a/*", 7),
            ("GET /a/{id:nt}", 11),
        ] {
            assert_eq!(RequestPattern::parse(text).unwrap_err().offset, offset, "{text}");
        }
    }
}

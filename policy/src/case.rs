//! The case of paths: whether rules tell `/admin` from `/ADMIN`.
//!
//! With [`PathCase::Insensitive`] a [`crate::RuleSet`] compares everything in lower case: its templates and gRPC names are
//! folded once, when the set is made, and the path of a request when it is judged. Only what is compared is folded. What is
//! forwarded stays as it was canonicalised, in the sender's spelling: every spelling gets the same verdict, so whichever of
//! them the application serves has been judged as that one.
//!
//! Folding is that of ASCII. A character beyond ASCII that some reader takes for an ASCII letter when it ignores case is
//! refused before any rule is asked ([`meets_ascii`]), since a rule could not know whether it is that letter.

/// How rules compare the letters of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathCase {
    /// Letter by letter (RFC 3986 §6.2.2.1).
    #[default]
    Sensitive,
    /// Letters of ASCII without regard to case, for applications that serve `/admin` as `/ADMIN` too.
    Insensitive,
}

/// Bytes of a rule as they are compared when case does not count.
pub(crate) fn folded(bytes: &[u8]) -> Box<[u8]> {
    bytes.to_ascii_lowercase().into()
}

/// A canonical path as it is compared when case does not count. Its escapes stand for what they stood for: their digits may
/// be of either case, and none of them is a letter's. Only a path of more than a kilobyte allocates.
pub(crate) fn with_folded<T>(path: &str, use_it: impl FnOnce(&str) -> T) -> T {
    let mut room = [0; 1024];
    if let Some(copy) = room.get_mut(..path.len()) {
        copy.copy_from_slice(path.as_bytes());
        copy.make_ascii_lowercase();
        if let Ok(folded) = std::str::from_utf8(copy) {
            return use_it(folded);
        }
    }
    use_it(&path.to_ascii_lowercase())
}

/// Whether a character beyond ASCII has an ASCII letter in its upper or lower case, or in the one of the other: `ı`, `ſ`, the
/// Kelvin sign, `ß` of either case, and the ligatures of f and s among them. Java's `equalsIgnoreCase` takes `adm%C4%B1n` for `admin`.
pub(crate) fn meets_ascii(c: char) -> bool {
    let both = c.to_lowercase().flat_map(char::to_uppercase);
    !c.is_ascii() && c.to_lowercase().chain(c.to_uppercase()).chain(both).any(|folded| folded.is_ascii())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_folded_in_paths_of_any_length_and_nothing_else_is() {
        for count in [0, 1, 200, 203, 204, 205, 1000] {
            let path = format!("/Ab{}", "%C3%8Az".repeat(count).replace('z', "Z~@["));
            let expected = path.to_ascii_lowercase();
            assert_eq!(with_folded(&path, str::to_owned), expected, "{}", path.len());
        }
        for len in [1023, 1024, 1025] {
            let path = format!("/{}", "A".repeat(len - 1));
            assert_eq!(with_folded(&path, str::to_owned), path.to_ascii_lowercase());
        }
    }

    #[test]
    fn what_some_reader_folds_into_ascii_is_known() {
        for c in ['\u{130}', '\u{131}', '\u{17f}', '\u{212a}', 'ß', '\u{1e9e}', '\u{fb01}', '\u{fb06}', '\u{149}'] {
            assert!(meets_ascii(c), "{c:?}");
        }
        for c in ['é', 'É', 'я', '日', 'K', 'i', '\u{3b9}'] {
            assert!(!meets_ascii(c), "{c:?}");
        }
    }
}

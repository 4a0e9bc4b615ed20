//! Parameters of queries and forms, by name.
//!
//! In: `name=value` parts. Out: where the secrets are. Servers disagree about what separates parts and what a name is; so a
//! name is looked for wherever one of them would find it, and what may belong to its value is masked to the end of the part.

use std::borrow::Cow;
use std::ops::Range;

use super::Redaction;

/// The values of secret parameters in `text` from `start` on. Parts end at each of `ends`.
pub(super) fn secrets<'a>(
    redaction: &'a Redaction,
    text: &'a [u8],
    start: usize,
    ends: &'static [u8],
) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut at = start;
    text.get(start..).unwrap_or_default().split(|byte| ends.contains(byte)).filter_map(move |part| {
        let begin = at;
        at += part.len() + 1;
        secret_value(redaction, part).map(|value| begin + value..begin + part.len())
    })
}

/// Where the secret of one part begins.
///
/// Some servers also split at `;`, and a parameter may hold a URL with a query of its own. A secret may begin behind such a
/// sign, and it may itself contain one: so the names are looked for behind each, and the mask runs to the end of the part.
fn secret_value(redaction: &Redaction, part: &[u8]) -> Option<usize> {
    let mut at = 0;
    for pair in part.split(|byte| b";?".contains(byte)) {
        if let Some(equals) = pair.iter().position(|byte| *byte == b'=')
            && is_secret(redaction, pair.get(..equals).unwrap_or_default())
        {
            return Some(at + equals + 1);
        }
        at += pair.len() + 1;
    }
    if part.contains(&b'%') { nested_value(redaction, part) } else { None }
}

/// The same in a URL that is written with escapes, as it has to be to be the value of a parameter.
fn nested_value(redaction: &Redaction, part: &[u8]) -> Option<usize> {
    let mut name = None;
    let mut at = 0;
    while let Some(rest) = part.get(at..).filter(|rest| !rest.is_empty()) {
        let (sign, width) = match rest {
            [b'%', high, low, ..] => (hex(*high).zip(hex(*low)).map_or(0, |(high, low)| high << 4 | low), 3),
            [byte, ..] => (*byte, 1),
            [] => break,
        };
        match sign {
            b'?' | b'&' | b';' | b'#' => name = Some(at + width),
            b'=' => {
                let found = name.take().and_then(|start| part.get(start..at));
                if found.is_some_and(|name| is_secret(redaction, name)) {
                    return Some(at + width);
                }
            }
            _ => {}
        }
        at += if sign == 0 { 1 } else { width };
    }
    None
}

/// Decoded as a server would: escapes, case, and the `user[password]` form.
pub(super) fn is_secret(redaction: &Redaction, name: &[u8]) -> bool {
    let decoded = percent_decode(name);
    redaction.parameters.has(decoded.trim_ascii())
        || decoded.split(|byte| b"[].".contains(byte)).any(|word| redaction.parameters.has(word.trim_ascii()))
}

/// A malformed escape stays as it stands, as servers that tolerate one read it.
fn percent_decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| b"%+".contains(byte)) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'%').then(|| after.split_first_chunk::<2>()).flatten();
        let value = escape.and_then(|([high, low], tail)| Some((hex(*high)? << 4 | hex(*low)?, tail)));
        match value {
            Some((byte, tail)) => {
                decoded.push(byte);
                rest = tail;
            }
            None => {
                decoded.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Masked, Redaction};

    fn masked(text: &str) -> String {
        let seen = Redaction::default().url(text.as_bytes(), false, &mut Masked::default()).into_owned();
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn secret_parameters_are_masked_and_nothing_else_moves() {
        assert_eq!(masked("/a?x=1&token=abc&y=2"), "/a?x=1&token=***&y=2");
        assert_eq!(masked("/a?access_token=abc"), "/a?access_token=***");
        assert_eq!(masked("/a?code=&sig=z&password=p%26w"), "/a?code=&sig=*&password=*****");
        assert_eq!(masked("/token=abc/code?id=7"), "/token=abc/code?id=7");
        assert_eq!(masked("/a?tokens=abc&mycode=1"), "/a?tokens=abc&mycode=1");
        assert_eq!(masked("/plain"), "/plain");
    }

    #[test]
    fn disguised_parameter_names_are_masked_as_well() {
        assert_eq!(masked("/a?%74oken=abc&TOKEN=abc"), "/a?%74oken=***&TOKEN=***");
        assert_eq!(
            masked("/a?user[password]=abc&user%5Bpassword%5D=abc"),
            "/a?user[password]=***&user%5Bpassword%5D=***"
        );
        assert_eq!(masked("/a?x=1;token=abc;def&y=2"), "/a?x=1;token=*******&y=2");
        assert_eq!(masked("https://app/cb#access_token=abc"), "https://app/cb#access_token=***");
        assert_eq!(masked("/a?next=/b?token=abc"), "/a?next=/b?token=***");
        assert_eq!(masked("/a?password=abc?def&y=2"), "/a?password=*******&y=2");
        assert_eq!(masked("/a?%zz=1&token=a=b"), "/a?%zz=1&token=***");
        assert_eq!(masked("/a?+token=abc"), "/a?+token=***");
        assert_eq!(masked("/a?next=%2Fb%3Ftoken%3Dabc&y=2"), "/a?next=%2Fb%3Ftoken%3D***&y=2");
        assert_eq!(masked("/a?u=https%3a//h/%3fx%3d1%26code=abc"), "/a?u=https%3a//h/%3fx%3d1%26code=***");
        assert_eq!(masked("/a?u=%3Ftokens%3Dabc&v=token%3Dabc"), "/a?u=%3Ftokens%3Dabc&v=token%3Dabc");
    }

    proptest! {
        #[test]
        fn masking_keeps_the_length_and_hides_the_secret(before in "[a-z=&;?%/]{0,20}", secret in "[A-Z0-9?;]{8,20}", after in "(&[a-z=&]{0,9})?") {
            let text = format!("/p?{before}&token={secret}{after}");
            let seen = masked(&text);
            prop_assert_eq!(seen.len(), text.len());
            prop_assert!(!seen.contains(&secret));
            prop_assert!(seen.ends_with(&after) || after.contains("token") || after.contains("code") || after.contains("sig") || after.contains("password"));
        }
    }
}

//! The code of each kind of problem: stable, so that people can search for it, and explained.

/// One kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
}

/// What a code means and what to do about it; `None` for an unknown code.
#[must_use]
pub fn explain(code: &str) -> Option<String> {
    let code = ALL.iter().find(|c| c.id.eq_ignore_ascii_case(code))?;
    Some(format!("{}: {}\n\n{}\n", code.id, code.title, code.text))
}

macro_rules! codes {
    ($($name:ident = $id:literal, $title:literal, $text:literal;)*) => {
        $(pub(crate) const $name: Code = Code { id: $id, title: $title, text: $text };)*
        /// Every code, in the order of the reference page.
        pub(crate) const ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    UNREADABLE = "E0100", "the file cannot be read",
        "It is missing, not permitted, larger than 1 MiB, or not UTF-8. A running sidecar keeps its last good file.";
    SYNTAX = "E0101", "the text is not TOML",
        "See toml.io for the grammar. Follow-up problems of the same line are left out; they may show once this is mended.";
    SCHEMA = "E0102", "the schema line is missing or wrong",
        "The first key of the file is `schema = 1`. It says which language the rest is written in.";
    UNKNOWN_KEY = "E0104", "unknown key",
        "The schema is closed: a key that is not known is an error, because a misspelt condition would otherwise widen a rule.";
    LATER = "E0105", "not yet supported",
        "The key or value belongs to the rule language, but this version does not implement it. It is refused rather than skipped, because a condition that is not checked would widen a rule.";
    WRONG_TYPE = "E0106", "a value of the wrong type",
        "The reference page lists the type of every key.";
    MISSING_KEY = "E0107", "a key is missing",
        "The key has no default, because no value would be safe for everyone.";
    BAD_VALUE = "E0108", "a value that is not allowed here",
        "The value has the right type, but not one of the allowed values or ranges.";
    EMPTY_LIST = "E0109", "an empty list",
        "An empty list would match nothing, though it looks like `any`. Remove the key, or name what is meant.";
    DUPLICATE = "E0110", "the same name or value twice",
        "Names are how logs, metrics and other parts of the file point to an entry, so each is given once.";
    CONFLICT = "E0111", "keys that exclude each other",
        "Written together, the keys contradict each other or could never match.";
    BAD_NAME = "E0112", "a name that is not allowed",
        "Names are letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 128. `builtin/` belongs to the sidecar's own rules.";
    TOO_MANY = "E0113", "too many identities",
        "Every name of [identities] counts with all it stands for, in every rule that uses it. Together they may be 100,000; a pattern is one.";
    BAD_PATTERN = "E0201", "a request, path, host or address pattern is wrong",
        "The caret shows the place inside the pattern.";
    BAD_IDENTITY = "E0202", "an identity is wrong",
        "An identity is `namespace/service-account`, a full SPIFFE ID, `ns:namespace`, `td:trust.domain`, or a name of [identities]. `*` and `prefix-*` stand inside one segment.";
    UNKNOWN_IDENTITY = "E0203", "a name that [identities] does not have",
        "A word without `/` and `:` is a name of [identities].";
    UNKNOWN_RULE = "E0204", "a rule that is not in the file",
        "A tap names rules by their names. One that no rule of its direction has would select nothing.";
    UNSERVED = "E0301", "a destination that no [[service]] serves",
        "With `capture = \"none\"` there is no original destination, so every identity a rule names in `to` needs a [[service]] that says how to reach it.";
    LISTENERS = "E0302", "listeners that cannot work together",
        "Two listeners want the same address, traffic would run in a circle, or there is nowhere to send it.";
    NO_INBOUND = "W0101", "inbound rules without an inbound listener",
        "With `capture = \"none\"` the inbound listener exists only if `[proxy] inbound` or `[app]` is written, so these rules decide nothing.";
    UNREACHABLE = "W0102", "a service that nothing can reach",
        "With `capture = \"none\"` a service is reached through its own `bind` or through `[proxy] outbound`.";
    METADATA = "W0103", "a rule reaches the cloud's metadata address",
        "The addresses of cloud metadata services hand out credentials. The rule `builtin/metadata-deny` refuses them even where a wide `to_cidr` would allow them.";
    NO_REQUESTS = "W0104", "rules about requests for an application that speaks `tcp`",
        "Opaque bytes are not looked into: an allow rule with `requests`, `grpc`, `hosts` or `upgrade` never matches them, and a deny rule with one of these refuses them, because it cannot be evaluated.";
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::{ALL, explain};

    #[test]
    fn codes_are_unique_and_every_one_is_explained() {
        for (i, code) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(i + 1).all(|other| other.id != code.id), "{}", code.id);
            assert!(explain(&code.id.to_lowercase()).unwrap().contains(code.title));
        }
        assert_eq!(explain("E9999"), None);
    }
}

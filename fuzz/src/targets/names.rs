//! SPIFFE IDs, against the sentences of the standard (SPIFFE-ID §2) written down a second time.

use crate::given::text;
use identity::{SpiffeId, TrustDomain};

pub(super) const WORDS: &[&[u8]] = &[
    b"spiffe://",
    b"SPIFFE://",
    b"example.org",
    b"/ns/shop",
    b"/sa/web",
    b"/",
    b"//",
    b"/.",
    b"/..",
    b"/...",
    b"%2f",
    b"?",
    b"#",
    b"@",
    b":443",
    b"_",
    b"-",
    b"\xc3\xa9",
    b"\0",
    b" ",
];

pub(super) fn run(input: &[u8]) {
    let text = text(input);
    let read = SpiffeId::parse(text);
    assert_eq!(read.is_ok(), is_id(text), "{read:?}");
    if let Ok(id) = &read {
        assert_eq!((id.as_str(), id.to_string().as_str()), (text, text));
        assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        let segments: String = id.segments().map(|segment| format!("/{segment}")).collect();
        assert_eq!(segments, id.path());
        assert_eq!(SpiffeId::parse(&id.to_string()).as_ref(), Ok(id));
        let domain = TrustDomain::parse(id.trust_domain()).expect("the trust domain of an ID is one");
        if let (Some(namespace), Some(account)) = (id.namespace(), id.service_account()) {
            assert_eq!(SpiffeId::workload(&domain, &format!("{namespace}/{account}")).as_ref(), Ok(id));
        }
    }
    assert_eq!(TrustDomain::parse(text).is_ok(), is_domain(text));
    let own = TrustDomain::parse("example.org").unwrap();
    if let Ok(id) = SpiffeId::workload(&own, text) {
        assert_eq!(id.path(), format!("/ns/{}", text.replacen('/', "/sa/", 1)));
    }
}

fn is_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_segment = |segment: &str| {
        let plain = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        plain && !segment.is_empty() && segment != "." && segment != ".."
    };
    text.len() <= 2048 && is_domain(domain) && (path.is_empty() || path[1..].split('/').all(is_segment))
}

fn is_domain(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte));
    plain && !text.is_empty() && text.len() <= 255
}

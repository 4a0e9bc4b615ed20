//! Everything that must be refused by whoever reads identities, in one table: certificates, bundles, requests, tokens, calls of
//! the Workload API. Beside it, in each file, the variants that must be accepted, so that nobody refuses by refusing all.
//!
//! The numbers are those of the list that the product was specified by. Every certificate is written octet by octet and signed
//! with a real key; the judge is the code that judges peers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod bundles;
mod certificates;
mod issued;
mod requests;
mod tokens;
mod workload_api;

use std::collections::BTreeMap;

/// One thing that must be refused, and what became of it.
pub(crate) struct Vector {
    /// In the list.
    number: u8,
    name: String,
    /// The label of the refusal in metrics and logs.
    label: &'static str,
    /// What the sentence for the operator holds, where several faults share a label.
    words: &'static str,
    verdict: Verdict,
}

/// The label and the sentence of a refusal.
pub(crate) type Verdict = Result<(), (String, String)>;

impl Vector {
    pub(crate) fn new(
        number: u8,
        name: impl Into<String>,
        (label, words): (&'static str, &'static str),
        verdict: Verdict,
    ) -> Self {
        Self { number, name: name.into(), label, words, verdict }
    }
}

/// Number and how many different things the list names under it.
const LIST: [(u8, usize); 43] = [
    (1, 1),   // no basic constraints
    (2, 1),   // an explicit FALSE in them
    (3, 1),   // two SPIFFE IDs
    (4, 1),   // a SPIFFE ID and another URI
    (5, 2),   // a DNS name only; no names at all
    (6, 1),   // no path
    (7, 1),   // a path of one slash
    (8, 1),   // a slash at the end
    (9, 1),   // an empty segment
    (10, 1),  // ..
    (11, 1),  // .
    (12, 1),  // percent-encoding in the path
    (13, 1),  // and in the trust domain
    (14, 1),  // upper case in the trust domain
    (15, 1),  // and in the scheme
    (16, 1),  // a query
    (17, 1),  // a fragment
    (18, 1),  // a port
    (19, 1),  // user information
    (20, 1),  // a colon in a segment
    (21, 1),  // an octet beyond ASCII
    (22, 1),  // https
    (23, 1),  // a trust domain of 256 octets
    (24, 1),  // an ID of 2049
    (25, 1),  // a leaf that is a CA
    (26, 1),  // that may sign certificates
    (27, 1),  // or revocation lists
    (28, 1),  // or may not sign handshakes
    (29, 1),  // no key usage
    (30, 1),  // one that is not critical
    (31, 2),  // half of the extended usages, either half
    (32, 1),  // no subject, and names that are not critical
    (33, 1),  // expired
    (34, 1),  // not yet valid
    (35, 1),  // signed by the root of another trust domain
    (36, 4),  // signed by a leaf; by an intermediate that is no CA, may not sign, is one too many
    (37, 1),  // a CA's own certificate as one's own
    (38, 1),  // a URI name constraint
    (39, 6),  // an extension twice, trailing octets, lengths that are not DER, three bad numbers
    (40, 9),  // bundles
    (41, 11), // requests
    (42, 21), // tokens
    (43, 20), // four headers to five methods of the Workload API
];

fn table() -> Vec<Vector> {
    let mut table = certificates::vectors();
    table.extend(bundles::vectors());
    table.extend(requests::vectors());
    table.extend(tokens::vectors());
    table.extend(workload_api::vectors());
    table
}

#[test]
fn every_vector_is_refused_for_its_own_reason_and_none_is_missing() {
    let table = table();
    let mut wrong = Vec::new();
    for Vector { number, name, label, words, verdict } in &table {
        match verdict {
            Err((got, sentence)) if got == label && sentence.contains(words) => {}
            Err((got, sentence)) => {
                wrong.push(format!("{number}: {name}: {got} ({sentence}) and not {label} ({words})"));
            }
            Ok(()) => wrong.push(format!("{number}: {name}: accepted")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut counted = BTreeMap::<u8, usize>::new();
    for vector in &table {
        *counted.entry(vector.number).or_default() += 1;
    }
    for (number, named) in LIST {
        let shown = counted.remove(&number).unwrap_or_default();
        assert!(shown >= named, "{number}: {shown} of {named}");
    }
    assert!(counted.is_empty(), "not in the list: {counted:?}");
    assert!(LIST.iter().zip(1u8..).all(|((number, _), expected)| *number == expected), "a number is missing");
    let mut names: Vec<_> = table.iter().map(|vector| (vector.number, &vector.name)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), table.len(), "a name stands twice");
}

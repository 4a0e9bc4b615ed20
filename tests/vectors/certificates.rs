//! Certificates and chains: 1 to 39.

use std::time::SystemTime;

use identity::{Bundle, CertificateDer, SpiffeId, Svid, SvidError, TrustDomain, Usage, verify};
use support::scratch::Scratch;
use support::x509::{
    ANY_USAGE, Authority, BASIC_CONSTRAINTS, CLIENT_AUTH, CODE_SIGNING, EXT_KEY_USAGE, HOUR, KEY_USAGE, Key,
    NAME_CONSTRAINTS, Papers, SAN, SERVER_AUTH, Spec, UNKNOWN, common_name, dns, element, now, oid, sequence, uri,
};

use crate::{Vector, Verdict};

const ID: &str = "spiffe://example.org/ns/shop/sa/web";

pub(crate) fn vectors() -> Vec<Vector> {
    let root = Authority::root("root");
    let mut vectors = Vec::new();
    vectors.extend(profiles(&root));
    vectors.extend(names(&root));
    vectors.extend(chains(&root));
    vectors.extend(forms(&root));
    vectors
}

/// A leaf with one thing spoilt.
type Spoil = fn(Spec) -> Spec;

fn profiles(root: &Authority) -> Vec<Vector> {
    let rows: &[(u8, &str, &'static str, &'static str, Spoil)] = &[
        (1, "no basic constraints", "basic_constraints", "are absent", |leaf| leaf.without(BASIC_CONSTRAINTS)),
        (2, "basic constraints with FALSE written out", "basic_constraints", "not an empty sequence", |leaf| {
            leaf.set(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0])]))
        }),
        (2, "a path length without a CA", "basic_constraints", "not an empty sequence", |leaf| {
            leaf.set(BASIC_CONSTRAINTS, true, sequence(&[element(0x02, &[0])]))
        }),
        (3, "two SPIFFE IDs", "two_uri_sans", "", |leaf| leaf.names(&[uri(ID), uri("spiffe://example.org/x")])),
        (3, "one SPIFFE ID twice", "two_uri_sans", "", |leaf| leaf.names(&[uri(ID), uri(ID)])),
        (4, "a SPIFFE ID and a web address", "two_uri_sans", "", |leaf| leaf.names(&[uri(ID), uri("https://x/")])),
        (4, "a web address and a SPIFFE ID", "two_uri_sans", "", |leaf| leaf.names(&[uri("https://x/"), uri(ID)])),
        (5, "a DNS name alone", "no_uri_san", "", |leaf| leaf.names(&[dns("web.shop.svc")])),
        (5, "no names", "no_uri_san", "", |leaf| leaf.without(SAN)),
        (25, "a leaf that is a CA", "leaf_is_ca", "", |leaf| {
            leaf.set(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0xff])]))
        }),
        (26, "keyCertSign", "key_usage", "allows signing certificates", |leaf| usage(leaf, &[2, 0x84])),
        (27, "cRLSign", "key_usage", "allows signing revocation lists", |leaf| usage(leaf, &[1, 0x82])),
        (28, "no digitalSignature", "key_usage", "lacks digitalSignature", |leaf| usage(leaf, &[5, 0x20])),
        (29, "no key usage", "key_usage", "is absent", |leaf| leaf.without(KEY_USAGE)),
        (30, "a key usage that is not critical", "key_usage", "is not critical", |leaf| {
            leaf.set(KEY_USAGE, false, element(0x03, &[7, 0x80]))
        }),
        (31, "for servers only", "ext_key_usage", "", |leaf| purposes(leaf, &[SERVER_AUTH])),
        (31, "for clients only", "ext_key_usage", "", |leaf| purposes(leaf, &[CLIENT_AUTH])),
        (31, "for any purpose", "ext_key_usage", "", |leaf| purposes(leaf, &[ANY_USAGE])),
        (32, "no subject, and names that are not critical", "san_not_critical", "", |leaf| {
            leaf.set(SAN, false, sequence(&[uri(ID)]))
        }),
        (33, "expired", "expired", "", |leaf| leaf.with(|leaf| leaf.not_after = now() - 60)),
        (34, "not yet valid", "not_yet_valid", "", |leaf| leaf.with(|leaf| leaf.not_before = now() + 600)),
    ];
    let judge = |spoil: &Spoil| judged(&root.leaf(ID, spoil), &[root], "example.org");
    rows.iter()
        .map(|(number, name, label, words, spoil)| Vector::new(*number, *name, (label, words), judge(spoil)))
        .collect()
}

fn names(root: &Authority) -> Vec<Vector> {
    let long_domain = format!("spiffe://{}/a", "d".repeat(256));
    let long_id = format!("spiffe://example.org/{}", "a".repeat(2049 - 21));
    assert_eq!(long_id.len(), 2049);
    let rows: &[(u8, &[u8], &'static str)] = &[
        (6, b"spiffe://example.org", "id_without_path"),
        (7, b"spiffe://example.org/", "id_trailing_slash"),
        (8, b"spiffe://example.org/ns/shop/", "id_trailing_slash"),
        (9, b"spiffe://example.org//ns", "id_empty_segment"),
        (9, b"spiffe://example.org/ns//shop", "id_empty_segment"),
        (10, b"spiffe://example.org/a/../b", "id_dot_segment"),
        (11, b"spiffe://example.org/a/./b", "id_dot_segment"),
        (12, b"spiffe://example.org/a%2Fb", "id_percent_encoding"),
        (13, b"spiffe://example%2eorg/a", "id_percent_encoding"),
        (14, b"spiffe://Example.org/a", "id_trust_domain_upper_case"),
        (15, b"SPIFFE://example.org/a", "id_scheme"),
        (16, b"spiffe://example.org/a?b", "id_query"),
        (17, b"spiffe://example.org/a#b", "id_fragment"),
        (18, b"spiffe://example.org:443/a", "id_port"),
        (19, b"spiffe://root@example.org/a", "id_user_info"),
        (20, b"spiffe://example.org/a:b", "id_path_character"),
        (21, b"spiffe://example.org/\xc3\xa4", "id_path_character"),
        (21, b"spiffe://example.org/\xff", "id_path_character"),
        (22, b"https://example.org/a", "id_scheme"),
        (23, long_domain.as_bytes(), "id_trust_domain_too_long"),
        (24, long_id.as_bytes(), "id_too_long"),
    ];
    // Nor can the CA make one: there is no value of the type whose certificates it issues.
    for (_, name, _) in rows.iter().filter(|row| row.0 > 6) {
        let text = String::from_utf8_lossy(name);
        assert!(SpiffeId::parse(&text).is_err(), "{text} is an ID");
    }
    let judge = |name: &[u8]| {
        let papers = root.leaf(ID, |leaf| leaf.names(&[element(0x86, name)]));
        judged(&papers, &[root], "example.org")
    };
    rows.iter()
        .map(|(number, name, label)| Vector::new(*number, String::from_utf8_lossy(name), (label, ""), judge(name)))
        .collect()
}

fn chains(root: &Authority) -> Vec<Vector> {
    let judge = |papers: &Papers| judged(papers, &[root], "example.org");
    let intermediate = |spoil: Spoil| {
        let middle = root.below("middle", spoil);
        judge(&middle.leaf(ID, |leaf| leaf).followed_by([&middle]))
    };
    let mut vectors = Vec::new();
    let mut add = |number, name: &str, label, words, verdict| {
        vectors.push(Vector::new(number, name, (label, words), verdict));
    };

    let theirs = Authority::root("theirs");
    let forged = theirs.leaf(ID, |leaf| leaf);
    add(35, "our name under another domain's root", "unknown_issuer", "", judge(&forged));
    let with_root = forged.clone().followed_by([&theirs]);
    add(35, "with that root beside it", "unknown_issuer", "", judge(&with_root));
    let theirs_says = judged(&forged, &[&theirs], "partner.example");
    add(35, "our name, read with the other domain's bundle", "trust_domain", "", theirs_says);
    let twin = Authority::root("root").leaf(ID, |leaf| leaf);
    add(35, "under a root of our root's name", "bad_signature", "", judge(&twin));

    add(36, "signed by a leaf", "issuer_not_ca", "", {
        let evil = root.below("evil", |ca| {
            let name = ca.subject.clone();
            Spec::leaf("spiffe://example.org/evil", ca.spki).with(|leaf| leaf.subject = name)
        });
        judge(&evil.leaf(ID, |leaf| leaf).followed_by([&evil]))
    });
    let not_ca: Spoil = |ca| ca.set(BASIC_CONSTRAINTS, true, sequence(&[]));
    add(36, "an intermediate that is no CA", "issuer_not_ca", "", intermediate(not_ca));
    let no_sign: Spoil = |ca| usage(ca, &[7, 0x80]);
    add(36, "an intermediate that may not sign certificates", "issuer_key_usage", "", intermediate(no_sign));
    add(36, "an intermediate more than the path length", "path_length", "", {
        let upper = root.below("upper", |ca| {
            ca.set(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0xff]), element(0x02, &[0])]))
        });
        let lower = upper.below("lower", |ca| ca);
        judge(&lower.leaf(ID, |leaf| leaf).followed_by([&lower, &upper]))
    });
    add(37, "the CA's root as one's own", "leaf_is_ca", "", {
        // The product's own, which has the name of its trust domain.
        let domain = TrustDomain::parse("example.org").unwrap();
        let ours = ca::Authority::init(&domain, SystemTime::now()).unwrap();
        let bundle = Bundle::from_pem(domain, ours.bundle_pem().as_bytes()).unwrap();
        said(verify(bundle.roots(), &bundle, Usage::Client, SystemTime::now()))
    });
    let named = root.below("named", |ca| ca.and(SAN, false, sequence(&[uri(ID)])));
    add(37, "an intermediate that has a workload's name", "leaf_is_ca", "", judge(&named.itself()));
    let constrained: Spoil =
        |ca| ca.and(NAME_CONSTRAINTS, true, sequence(&[element(0xa0, &sequence(&[uri("example.org")]))]));
    add(38, "a URI name constraint that permits us", "name_constraint", "URI kind", intermediate(constrained));
    let excluding: Spoil =
        |ca| ca.and(NAME_CONSTRAINTS, true, sequence(&[element(0xa1, &sequence(&[uri("evil.example")]))]));
    add(38, "one that excludes others", "name_constraint", "URI kind", intermediate(excluding));
    vectors
}

/// What is not one DER certificate, or one that RFC 5280 forbids.
fn forms(root: &Authority) -> Vec<Vector> {
    let judge = |papers: &Papers| judged(papers, &[root], "example.org");
    let rows: &[(&str, &'static str, &'static str, Spoil)] = &[
        ("an extension twice", "duplicate_extension", "", |leaf| leaf.and(KEY_USAGE, true, element(0x03, &[7, 0x80]))),
        ("a critical extension nobody knows", "critical_extension", "", |leaf| leaf.and(UNKNOWN, true, vec![5, 0])),
        ("a negative number", "serial", "", |leaf| leaf.with(|leaf| leaf.serial = vec![0x80, 1])),
        ("the number zero", "serial", "", |leaf| leaf.with(|leaf| leaf.serial = vec![0])),
        ("a number of 21 octets", "serial", "", |leaf| leaf.with(|leaf| leaf.serial = vec![1; 21])),
        ("a number with a needless zero", "serial", "", |leaf| leaf.with(|leaf| leaf.serial = vec![0, 1])),
        ("version 1", "not_x509", "", |leaf| leaf.with(|leaf| leaf.version = 0)),
    ];
    let mut vectors: Vec<_> = rows
        .iter()
        .map(|(name, label, words, spoil)| Vector::new(39, *name, (label, words), judge(&root.leaf(ID, spoil))))
        .collect();
    let good = root.leaf(ID, |leaf| leaf);
    let der = good.chain[0].clone();
    let mut altered = |name: &str, bytes: Vec<u8>| {
        let papers = Papers { chain: vec![bytes], ..good.clone() };
        vectors.push(Vector::new(39, name, ("not_x509", ""), judge(&papers)));
    };
    altered("an octet behind the certificate", [&der[..], &[0]].concat());
    // 30 82 xx xx: the length in three octets where two are enough, and without a length.
    altered("a length in more octets than it needs", [&[0x30, 0x83, 0x00], &der[2..]].concat());
    altered("no length", [&[0x30, 0x80], &der[4..], &[0, 0]].concat());
    vectors
}

/// What the verifier says in the role of a client and in that of a server, which must be the same.
fn judged(papers: &Papers, roots: &[&Authority], domain: &str) -> Verdict {
    let chain: Vec<_> = papers.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let ders: Vec<_> = roots.iter().map(|root| CertificateDer::from(root.der.clone())).collect();
    let bundle = Bundle::from_roots(TrustDomain::parse(domain).unwrap(), ders).unwrap().unwrap();
    let judge = |usage| verify(&chain, &bundle, usage, SystemTime::now());
    let (client, server) = (judge(Usage::Client), judge(Usage::Server));
    assert_eq!(client.as_ref().err().map(SvidError::reason), server.as_ref().err().map(SvidError::reason));
    said(client)
}

fn said(judged: Result<Svid, SvidError>) -> Verdict {
    judged.map(|_| ()).map_err(|error| (error.reason().to_owned(), error.to_string()))
}

fn usage(spec: Spec, bits: &[u8]) -> Spec {
    spec.set(KEY_USAGE, true, element(0x03, bits))
}

fn purposes(spec: Spec, purposes: &[&[u8]]) -> Spec {
    let purposes: Vec<_> = purposes.iter().map(|purpose| oid(purpose)).collect();
    spec.set(EXT_KEY_USAGE, false, sequence(&purposes))
}

#[test]
fn what_the_standard_allows_is_accepted() {
    let root = Authority::root("root");
    let rows: &[(&str, Spoil)] = &[
        ("flawless", |leaf| leaf),
        ("DNS names and an address beside the ID", |leaf| {
            leaf.names(&[dns("web.shop.svc"), uri(ID), dns("*.web"), element(0x87, &[127, 0, 0, 1])])
        }),
        ("a subject, and names that are not critical", |leaf| {
            leaf.set(SAN, false, sequence(&[uri(ID)])).with(|leaf| leaf.subject = common_name("web"))
        }),
        ("keyEncipherment too, as istiod writes it", |leaf| usage(leaf, &[5, 0xa0])),
        ("no extended usages", |leaf| leaf.without(EXT_KEY_USAGE)),
        ("the extended usages in the other order", |leaf| purposes(leaf, &[CLIENT_AUTH, SERVER_AUTH])),
        ("one usage more", |leaf| purposes(leaf, &[SERVER_AUTH, CODE_SIGNING, CLIENT_AUTH])),
        ("an extension nobody knows", |leaf| leaf.and(UNKNOWN, false, vec![5, 0])),
        ("a number of 20 octets", |leaf| leaf.with(|leaf| leaf.serial = vec![0x7f; 20])),
        ("the number 1", |leaf| leaf.with(|leaf| leaf.serial = vec![1])),
        ("to the last second", |leaf| leaf.with(|leaf| leaf.not_after = now() + HOUR)),
        ("a key on P-384", |leaf| leaf.with(|leaf| leaf.spki = Key::p384().spki)),
        ("a key on P-521", |leaf| leaf.with(|leaf| leaf.spki = Key::p521().spki)),
        ("a key of Ed25519", |leaf| leaf.with(|leaf| leaf.spki = Key::ed25519().spki)),
    ];
    for (name, variant) in rows {
        assert_eq!(judged(&root.leaf(ID, variant), &[&root], "example.org"), Ok(()), "{name}");
    }
    let scratch = Scratch::new();
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let rsa = Key::by_openssl(scratch.path(), "rsa", &rsa, rustls::SignatureScheme::RSA_PSS_SHA256);
    let papers = root.leaf(ID, |leaf| leaf.with(|leaf| leaf.spki = rsa.spki));
    assert_eq!(judged(&papers, &[&root], "example.org"), Ok(()), "RSA of 2048 bits");

    let long_domain = "d".repeat(255);
    let long_id = format!("spiffe://example.org/{}", "a".repeat(2048 - 21));
    for (domain, id) in [
        ("example.org", "spiffe://example.org/a"),
        ("example.org", "spiffe://example.org/..."),
        ("example.org", "spiffe://example.org/.x/..x/A-b_C.9"),
        ("10.0.0.1", "spiffe://10.0.0.1/a"),
        ("under_score", "spiffe://under_score/a"),
        (&long_domain, &format!("spiffe://{long_domain}/a")),
        ("example.org", &long_id),
    ] {
        assert_eq!(judged(&root.leaf(id, |leaf| leaf), &[&root], domain), Ok(()), "{id}");
    }

    let middle = root.below("middle", |ca| {
        ca.set(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0xff]), element(0x02, &[0])]))
    });
    let papers = middle.leaf(ID, |leaf| leaf).followed_by([&middle]);
    assert_eq!(judged(&papers, &[&root], "example.org"), Ok(()), "an intermediate");
    assert_eq!(judged(&papers.followed_by([&root]), &[&root], "example.org"), Ok(()), "the root comes along");
    let other = Authority::root("other");
    let papers = root.leaf(ID, |leaf| leaf);
    assert_eq!(judged(&papers, &[&other, &root], "example.org"), Ok(()), "the second root of two");
}

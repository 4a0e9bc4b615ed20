//! The certificates of the table: each is a good one with one thing spoilt, and says how Sekisho has to take it.

use support::scratch::Scratch;
use support::x509::*;

/// One certificate with its chain.
pub(super) struct Variant {
    /// Class of the catalogue.
    pub(super) class: u8,
    /// What is odd about it.
    pub(super) case: &'static str,
    /// Why it is refused; `None` for those that must pass.
    pub(super) reason: Option<&'static str>,
    /// What is shown.
    pub(super) papers: Papers,
}

/// The good leaf's trust domain.
const DOMAIN: &str = "spiffe://example.org";

/// All of them. The good identity is `DOMAIN` with `path`; `root` is the root that the other side trusts.
pub(super) fn all(dir: &Scratch, root: &Authority, path: &str) -> Vec<Variant> {
    let id = format!("{DOMAIN}{path}");
    let mut all = Table { root, id: &id, rows: Vec::new() };
    dates(&mut all);
    domains(&mut all, path);
    names(&mut all);
    ids(&mut all, path);
    usages(&mut all);
    issuers(&mut all);
    structure(&mut all);
    algorithms(&mut all, dir);
    chains(&mut all);
    all.rows
}

struct Table<'a> {
    root: &'a Authority,
    id: &'a str,
    rows: Vec<Variant>,
}

impl Table<'_> {
    fn papers(&mut self, class: u8, case: &'static str, reason: Option<&'static str>, papers: Papers) {
        self.rows.push(Variant { class, case, reason, papers });
    }

    /// A leaf under the right root with one thing spoilt.
    fn leaf(&mut self, class: u8, case: &'static str, reason: &'static str, spoil: impl FnOnce(Spec) -> Spec) {
        let papers = self.root.leaf(self.id, spoil);
        self.papers(class, case, Some(reason), papers);
    }

    /// A leaf that is odd and right.
    fn good(&mut self, class: u8, case: &'static str, change: impl FnOnce(Spec) -> Spec) {
        let papers = self.root.leaf(self.id, change);
        self.papers(class, case, None, papers);
    }

    /// A leaf of another name under the right root.
    fn named(&mut self, class: u8, case: &'static str, reason: &'static str, name: &str) {
        self.leaf(class, case, reason, |leaf| leaf.names(&[uri(name)]));
    }
}

fn dates(all: &mut Table<'_>) {
    let now = now();
    all.leaf(86, "expired by a second", "expired", |leaf| leaf.with(|leaf| leaf.not_after = now - 1));
    all.leaf(86, "expired a year ago", "expired", |leaf| {
        leaf.with(|leaf| (leaf.not_before, leaf.not_after) = (now - 9000 * HOUR, now - 8760 * HOUR))
    });
    all.leaf(86, "valid in a minute", "not_yet_valid", |leaf| leaf.with(|leaf| leaf.not_before = now + 60));
    all.leaf(86, "ends before it begins", "expired", |leaf| {
        leaf.with(|leaf| (leaf.not_before, leaf.not_after) = (now - HOUR, now - 2 * HOUR))
    });
    for (case, reason, from, to) in [
        ("intermediate expired by a second", "issuer_expired", -HOUR, -1),
        ("intermediate valid in a minute", "issuer_not_yet_valid", 60, HOUR),
    ] {
        let middle =
            all.root.below("middle", |ca| ca.with(|ca| (ca.not_before, ca.not_after) = (now + from, now + to)));
        let papers = middle.leaf(all.id, |leaf| leaf).followed_by([&middle]);
        all.papers(86, case, Some(reason), papers);
    }
}

fn domains(all: &mut Table<'_>, path: &str) {
    for (case, reason, domain) in [
        ("another trust domain under the right root", "trust_domain", "example.com"),
        ("trust domain cut short at its end", "trust_domain", "example.or"),
        ("trust domain cut short at its front", "trust_domain", "xample.org"),
        ("trust domain with more behind it", "trust_domain", "example.org.evil.test"),
        ("trust domain with more before it", "trust_domain", "evil-example.org"),
        ("a domain below the trust domain", "trust_domain", "a.example.org"),
        ("trust domain with a dot at its end", "trust_domain", "example.org."),
        ("trust domain in upper case", "id_trust_domain_upper_case", "EXAMPLE.ORG"),
        ("trust domain with one upper-case letter", "id_trust_domain_upper_case", "Example.org"),
        ("trust domain with a look-alike letter", "id_", "ex\u{430}mple.org"),
        ("trust domain empty", "id_", ""),
    ] {
        all.named(87, case, reason, &format!("spiffe://{domain}{path}"));
    }
    all.named(87, "scheme in upper case", "id_scheme", &format!("SPIFFE://example.org{path}"));
    all.named(87, "scheme https", "id_scheme", &format!("https://example.org{path}"));
}

fn names(all: &mut Table<'_>) {
    let id = all.id.to_owned();
    let other = format!("{DOMAIN}/ns/shop/sa/other");
    all.leaf(88, "no alternative names, the ID as common name", "no_uri_san", |leaf| {
        leaf.without(SAN).with(|leaf| leaf.subject = common_name(&id))
    });
    all.leaf(88, "alternative names without a name", "", |leaf| leaf.names(&[]));
    all.leaf(88, "two IDs", "two_uri_sans", |leaf| leaf.names(&[uri(&id), uri(&other)]));
    all.leaf(88, "two IDs, the right one last", "two_uri_sans", |leaf| leaf.names(&[uri(&other), uri(&id)]));
    all.leaf(88, "the same ID twice", "two_uri_sans", |leaf| leaf.names(&[uri(&id), uri(&id)]));
    all.leaf(88, "three IDs", "two_uri_sans", |leaf| leaf.names(&[uri(&id), uri(&other), uri(&id)]));
    all.leaf(88, "an ID and another URI", "two_uri_sans", |leaf| leaf.names(&[uri(&id), uri("https://example.org/")]));
    all.leaf(88, "an ID and an empty URI", "two_uri_sans", |leaf| leaf.names(&[uri(&id), uri("")]));
    all.leaf(88, "DNS name that looks like the ID", "dns_name", |leaf| leaf.names(&[dns(&id)]));
    all.leaf(88, "mail name that looks like the ID", "", |leaf| leaf.names(&[element(0x81, id.as_bytes())]));
    all.leaf(88, "DNS name alone", "no_uri_san", |leaf| leaf.names(&[dns("web.shop.svc")]));
    all.leaf(88, "NUL behind the ID", "id_path_character", |leaf| leaf.names(&[uri(&format!("{id}\0.evil"))]));
    all.leaf(88, "NUL at the end of the ID", "id_path_character", |leaf| leaf.names(&[uri(&format!("{id}\0"))]));
    all.leaf(88, "NUL in a DNS name beside the ID", "dns_name", |leaf| leaf.names(&[uri(&id), dns("a\0b")]));
    all.leaf(88, "header syntax in a DNS name beside the ID", "dns_name", |leaf| {
        leaf.names(&[uri(&id), dns("a;URI=spiffe://example.org/admin")])
    });
    all.leaf(88, "ID that is not UTF-8", "id_path_character", |leaf| {
        leaf.names(&[element(0x86, &[id.as_bytes(), &[0xff]].concat())])
    });
    all.leaf(88, "line end behind the ID", "id_path_character", |leaf| leaf.names(&[uri(&format!("{id}\r\n"))]));
    all.leaf(88, "blank before the ID", "id_scheme", |leaf| leaf.names(&[uri(&format!(" {id}"))]));
    all.leaf(88, "names not critical beside an empty subject", "san_not_critical", |leaf| {
        leaf.set(SAN, false, sequence(&[uri(&id)]))
    });
    all.good(88, "DNS and address names beside the ID", |leaf| {
        leaf.names(&[dns("web.shop.svc"), uri(&id), element(0x87, &[127, 0, 0, 1])])
    });
}

fn ids(all: &mut Table<'_>, path: &str) {
    for (case, reason, name) in [
        ("ID with a port", "id_port", format!("spiffe://example.org:443{path}")),
        ("ID with a user", "id_user_info", format!("spiffe://user@example.org{path}")),
        ("ID with a query", "id_query", format!("{DOMAIN}{path}?admin")),
        ("ID with a fragment", "id_fragment", format!("{DOMAIN}{path}#admin")),
        ("ID with two dots", "id_dot_segment", format!("{DOMAIN}/ns/shop/sa/x/..{path}")),
        ("ID with one dot", "id_dot_segment", format!("{DOMAIN}/.{path}")),
        ("ID with encoded dots", "id_percent_encoding", format!("{DOMAIN}/%2e%2e{path}")),
        ("ID with an encoded slash", "id_percent_encoding", format!("{DOMAIN}{}", path.replace("/sa", "%2fsa"))),
        ("ID with an encoded NUL", "id_percent_encoding", format!("{DOMAIN}{path}%00")),
        ("ID with a slash at its end", "id_trailing_slash", format!("{DOMAIN}{path}/")),
        ("ID with an empty segment", "id_empty_segment", format!("{DOMAIN}/{path}")),
        ("ID without a path", "id_without_path", DOMAIN.to_owned()),
        ("ID with only a slash as its path", "id_trailing_slash", format!("{DOMAIN}/")),
        ("ID with a blank", "id_path_character", format!("{DOMAIN}{path} x")),
        ("ID with a backslash", "id_path_character", format!("{DOMAIN}{}", path.replace("/sa", "\\sa"))),
        ("ID with a letter beyond ASCII", "id_path_character", format!("{DOMAIN}{path}\u{e4}")),
        ("ID of 2049 bytes", "id_too_long", long_id(2049)),
        ("ID of 5 KB", "id_too_long", long_id(5000)),
    ] {
        all.named(89, case, reason, &name);
    }
}

/// An ID of so many bytes.
pub(super) fn long_id(bytes: usize) -> String {
    let begin = format!("{DOMAIN}/long/");
    format!("{begin}{}", "a".repeat(bytes - begin.len()))
}

fn usages(all: &mut Table<'_>) {
    let bits = |bits: &[u8]| element(0x03, bits);
    let constraints = |parts: &[Vec<u8>]| sequence(parts);
    all.leaf(90, "leaf that is a CA", "leaf_is_ca", |leaf| {
        leaf.set(BASIC_CONSTRAINTS, true, constraints(&[element(0x01, &[0xff])]))
    });
    all.leaf(90, "no basic constraints", "basic_constraints", |leaf| leaf.without(BASIC_CONSTRAINTS));
    all.leaf(90, "CA:FALSE written out, which is not DER", "basic_constraints", |leaf| {
        leaf.set(BASIC_CONSTRAINTS, true, constraints(&[element(0x01, &[0])]))
    });
    all.leaf(90, "path length without CA", "basic_constraints", |leaf| {
        leaf.set(BASIC_CONSTRAINTS, true, constraints(&[element(0x02, &[0])]))
    });
    for (case, value) in [
        ("keyCertSign", [2, 0x84]),
        ("cRLSign", [1, 0x82]),
        ("keyCertSign and cRLSign", [1, 0x86]),
        ("no digitalSignature", [5, 0x20]),
        ("no usage at all", [7, 0x00]),
    ] {
        all.leaf(90, case, "key_usage", |leaf| leaf.set(KEY_USAGE, true, bits(&value)));
    }
    all.leaf(90, "no keyUsage", "key_usage", |leaf| leaf.without(KEY_USAGE));
    all.leaf(90, "keyUsage not critical", "key_usage", |leaf| leaf.set(KEY_USAGE, false, bits(&[7, 0x80])));
    all.good(90, "digitalSignature with keyEncipherment", |leaf| leaf.set(KEY_USAGE, true, bits(&[5, 0xa0])));
    let purposes = |oids: &[&[u8]]| sequence(&oids.iter().map(|one| oid(one)).collect::<Vec<_>>());
    all.leaf(90, "for servers only", "ext_key_usage", |leaf| leaf.set(EXT_KEY_USAGE, false, purposes(&[SERVER_AUTH])));
    all.leaf(90, "for clients only", "ext_key_usage", |leaf| leaf.set(EXT_KEY_USAGE, false, purposes(&[CLIENT_AUTH])));
    all.leaf(90, "for signing code only", "ext_key_usage", |leaf| {
        leaf.set(EXT_KEY_USAGE, false, purposes(&[CODE_SIGNING]))
    });
    all.leaf(90, "for any purpose", "ext_key_usage", |leaf| leaf.set(EXT_KEY_USAGE, false, purposes(&[ANY_USAGE])));
    all.leaf(90, "purposes without a purpose", "ext_key_usage", |leaf| leaf.set(EXT_KEY_USAGE, false, purposes(&[])));
    all.good(90, "no extended key usage", |leaf| leaf.without(EXT_KEY_USAGE));
}

fn issuers(all: &mut Table<'_>) {
    let (root, id) = (all.root, all.id.to_owned());
    let plain = |leaf: Spec| leaf;
    let unknown = Authority::root("unknown");
    all.papers(91, "unknown root", Some("unknown_issuer"), unknown.leaf(&id, plain));
    let papers = unknown.leaf(&id, plain).followed_by([&unknown]);
    all.papers(91, "unknown root, sent along", Some("unknown_issuer"), papers);
    let namesake = Authority::root("root");
    all.papers(91, "root of the same name and another key", Some("bad_signature"), namesake.leaf(&id, plain));
    let papers = namesake.leaf(&id, plain).followed_by([&namesake]);
    all.papers(91, "the same, sent along", Some("bad_signature"), papers);

    let middle = root.below("middle", plain);
    let papers = middle.leaf(&id, plain).followed_by([&middle]);
    all.papers(91, "good intermediate", None, papers);
    let papers = root.leaf(&id, plain).followed_by([root]);
    all.papers(91, "the root sent along", None, papers);
    all.papers(91, "intermediate missing", Some("unknown_issuer"), middle.leaf(&id, plain));
    let papers = middle.leaf(&id, plain).followed_by([&root.below("middle", plain)]);
    all.papers(91, "intermediate of the same name and another key", Some("bad_signature"), papers);
    let papers = middle.leaf(&id, plain).followed_by([&root.below("other", plain)]);
    all.papers(91, "somebody else's intermediate", Some("unknown_issuer"), papers);

    let mut below = |case, reason, spoil: &dyn Fn(Spec) -> Spec| {
        let ca = root.below("middle", spoil);
        all.papers(91, case, Some(reason), ca.leaf(&id, plain).followed_by([&ca]));
    };
    below("issuer that is a good leaf", "issuer_not_ca", &|ca| {
        Spec::leaf(&id, ca.spki.clone()).with(|leaf| leaf.subject = common_name("middle"))
    });
    below("issuer that is no CA", "issuer_not_ca", &|ca| ca.set(BASIC_CONSTRAINTS, true, sequence(&[])));
    below("issuer without basic constraints", "issuer_not_ca", &|ca| ca.without(BASIC_CONSTRAINTS));
    below("issuer without keyCertSign", "issuer_key_usage", &|ca| ca.set(KEY_USAGE, true, element(0x03, &[1, 0x02])));
    below("issuer without keyUsage", "issuer_key_usage", &|ca| ca.without(KEY_USAGE));
    below("issuer for signing code", "issuer_key_usage", &|ca| {
        ca.and(EXT_KEY_USAGE, false, sequence(&[oid(CODE_SIGNING)]))
    });
    below("issuer with an unknown critical extension", "critical_extension", &|ca| {
        ca.and(UNKNOWN, true, vec![0x05, 0x00])
    });
    let constraint = |tag, base: Vec<u8>| sequence(&[element(tag, &sequence(&[base]))]);
    below("name constraint that permits another trust domain", "name_constraint", &|ca| {
        ca.and(NAME_CONSTRAINTS, true, constraint(0xa0, uri("example.com")))
    });
    below("name constraint that excludes ours", "name_constraint", &|ca| {
        ca.and(NAME_CONSTRAINTS, true, constraint(0xa1, uri("example.org")))
    });
    below("name constraint that permits ours, which is not understood", "name_constraint", &|ca| {
        ca.and(NAME_CONSTRAINTS, true, constraint(0xa0, uri("example.org")))
    });
    below("name constraint that is not DER", "", &|ca| ca.and(NAME_CONSTRAINTS, true, vec![0x30, 0x05, 0x00]));

    let limit = |ca: Spec| ca.set(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0xff]), element(0x02, &[0])]));
    let upper = root.below("upper", limit);
    let lower = upper.below("lower", plain);
    let papers = lower.leaf(&id, plain).followed_by([&lower, &upper]);
    all.papers(91, "path length broken", Some("path_length"), papers);
    let papers = upper.leaf(&id, plain).followed_by([&upper]);
    all.papers(91, "path length kept", None, papers);

    let key = Key::p256();
    let own = Spec::leaf(&id, key.spki.clone()).with(|leaf| {
        leaf.subject = common_name("self");
    });
    let selfish = Authority::root("self");
    let papers = Papers { chain: vec![selfish.issue(own)], key };
    all.papers(91, "leaf under a root of its own", Some("unknown_issuer"), papers);
    all.papers(91, "a CA's own certificate as a leaf", Some("no_uri_san"), middle.itself().followed_by([root]));
    all.papers(91, "the trusted root as a leaf", Some("no_uri_san"), root.itself());

    all.leaf(91, "unknown critical extension", "critical_extension", |leaf| leaf.and(UNKNOWN, true, vec![0x05, 0x00]));
    all.good(91, "unknown extension that is not critical", |leaf| leaf.and(UNKNOWN, false, vec![0x05, 0x00]));
    let mut papers = root.leaf(&id, plain);
    papers.key = Key::p256();
    all.papers(91, "key that is not the certificate's", Some("BadSignature"), papers);
    let mut papers = root.leaf(&id, plain);
    let last = papers.chain[0].len() - 1;
    papers.chain[0][last] ^= 1;
    all.papers(91, "one bit of the signature turned", Some("bad_signature"), papers);
    let mut papers = root.leaf(&format!("{id}x"), |leaf| leaf.names(&[uri(&id.replace("/sa/", "/sb/"))]));
    let at = papers.chain[0].windows(4).position(|part| part == b"/sb/").unwrap();
    papers.chain[0][at + 2] = b'a';
    all.papers(91, "name changed after the signature", Some("bad_signature"), papers);
}

fn structure(all: &mut Table<'_>) {
    let plain = |leaf: Spec| leaf;
    let bytes = |all: &mut Table<'_>, case, reason, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let mut papers = all.root.leaf(all.id, plain);
        papers.chain = papers.chain.into_iter().map(change).collect();
        all.papers(91, case, Some(reason), papers);
    };
    bytes(all, "garbage instead of a certificate", "", &|_| b"this is not a certificate".to_vec());
    bytes(all, "certificate cut short", "", &|der| der[..der.len() - 10].to_vec());
    bytes(all, "bytes after the certificate", "", &|der| [der, vec![0]].concat());
    bytes(all, "two certificates as one", "", &|der| [der.clone(), der].concat());
    bytes(all, "indefinite length, which is not DER", "", &|der| [&[0x30, 0x80], &der[4..], &[0, 0]].concat());
    let mut papers = all.root.leaf(all.id, plain);
    papers.chain.push(b"this is not a certificate".to_vec());
    all.papers(91, "garbage behind a good leaf", Some("not_x509"), papers);

    all.leaf(91, "version 1 without extensions", "not_x509", |leaf| {
        leaf.with(|leaf| {
            leaf.version = 0;
            leaf.extensions.clear();
            leaf.subject = common_name("v1");
        })
    });
    all.leaf(91, "version 1 with extensions", "not_x509", |leaf| leaf.with(|leaf| leaf.version = 0));
    all.leaf(91, "version 2", "not_x509", |leaf| leaf.with(|leaf| leaf.version = 1));
    let id = all.id.to_owned();
    all.leaf(91, "alternative names twice", "duplicate_extension", |leaf| leaf.and(SAN, true, sequence(&[uri(&id)])));
    all.leaf(91, "key usage twice", "duplicate_extension", |leaf| leaf.and(KEY_USAGE, true, vec![3, 2, 7, 0x80]));
    all.leaf(91, "serial number 0", "serial", |leaf| leaf.with(|leaf| leaf.serial = vec![0]));
    all.leaf(91, "serial number below 0", "serial", |leaf| leaf.with(|leaf| leaf.serial = vec![0x80]));
    all.leaf(91, "serial number of 21 bytes", "serial", |leaf| leaf.with(|leaf| leaf.serial = vec![1; 21]));
    all.leaf(91, "certificate of 20 KB", "not_x509", |leaf| leaf.and(UNKNOWN, false, vec![0; 20_000]));
}

fn algorithms(all: &mut Table<'_>, dir: &Scratch) {
    use support::tls::SignatureScheme::{ECDSA_NISTP256_SHA256, RSA_PSS_SHA256};
    let (root, id) = (all.root, all.id.to_owned());
    let with = |key: Key| Papers { chain: vec![root.issue(Spec::leaf(&id, key.spki.clone()))], key };
    let rsa = |bits: &str| {
        let size = format!("rsa_keygen_bits:{bits}");
        let options = ["-algorithm", "RSA", "-pkeyopt", &size];
        Key::by_openssl(dir.path(), &format!("rsa{bits}"), &options, RSA_PSS_SHA256)
    };
    let curve = |name: &str| {
        let curve = format!("ec_paramgen_curve:{name}");
        let options = ["-algorithm", "EC", "-pkeyopt", &curve, "-pkeyopt", "ec_param_enc:named_curve"];
        Key::by_openssl(dir.path(), name, &options, ECDSA_NISTP256_SHA256)
    };
    all.papers(92, "RSA of 1024 bits", Some("weak_key"), with(rsa("1024")));
    all.papers(92, "RSA of 1536 bits", Some("weak_key"), with(rsa("1536")));
    all.papers(92, "RSA of 2048 bits", None, with(rsa("2048")));
    all.papers(92, "curve secp256k1", Some("weak_key"), with(curve("secp256k1")));
    all.papers(92, "curve P-224", Some("weak_key"), with(curve("secp224r1")));
    all.papers(92, "curve P-384", None, with(Key::p384()));
    all.papers(92, "curve P-521", None, with(Key::p521()));
    all.papers(92, "Ed25519", None, with(Key::ed25519()));

    let key = Key::p256();
    let chain = vec![root.issue_sha1(dir.path(), Spec::leaf(&id, key.spki.clone()))];
    all.papers(92, "signature over SHA-1", Some("weak_signature"), Papers { chain, key });
    let mut middle = root.below("middle", |ca| ca);
    let spki = Spec::ca("middle", middle.itself().key.spki.clone());
    middle.der = root.issue_sha1(dir.path(), spki);
    let papers = middle.leaf(&id, |leaf| leaf).followed_by([&middle]);
    all.papers(92, "intermediate's signature over SHA-1", Some("weak_signature"), papers);
    all.leaf(92, "two algorithms named, inside and outside", "", |leaf| {
        leaf.with(|leaf| leaf.outer_algorithm = ECDSA_SHA384.to_vec())
    });
    let key = Key::p256();
    let spec = Spec::leaf(&id, key.spki.clone()).with(|leaf| leaf.issuer = root.name.clone());
    let chain = vec![spec.sign(|_| Vec::new())];
    all.papers(92, "no signature", Some("bad_signature"), Papers { chain, key: key.clone() });
    let chain = vec![spec.sign(|_| sequence(&[element(2, &[0]), element(2, &[0])]))];
    all.papers(92, "signature of two zeros", Some("bad_signature"), Papers { chain, key });
}

fn chains(all: &mut Table<'_>) {
    let (root, id) = (all.root, all.id.to_owned());
    let mut cas = vec![root.below("ca-0", |ca| ca)];
    for number in 1..24 {
        let next = cas[number - 1].below(&format!("ca-{number}"), |ca| ca);
        cas.push(next);
    }
    let deep = |cas: usize, all: &[Authority]| all[cas - 1].leaf(&id, |leaf| leaf).followed_by(all[..cas].iter().rev());
    all.papers(93, "6 certificates deep", None, deep(5, &cas));
    all.papers(93, "7 certificates deep", Some("chain_too_long"), deep(6, &cas));
    all.papers(93, "25 certificates deep", Some("chain_too_long"), deep(24, &cas));
    let padded = |count: usize| {
        let mut papers = root.leaf(&id, |leaf| leaf);
        papers.chain.extend((1..count).map(|number| cas[number % cas.len()].der.clone()));
        papers
    };
    all.papers(93, "150 certificates behind each other", Some("chain_too_long"), padded(150));
    // More than the 64 KiB that a handshake message may have.
    all.papers(93, "200 certificates of 400 bytes", Some(""), {
        let mut papers = padded(1);
        let big = root.below("big", |ca| ca.and(UNKNOWN, false, vec![0; 200]));
        papers.chain.extend((1..200).map(|_| big.der.clone()));
        papers
    });
    // Everyone seems to issue everyone: what costs most to search.
    let other = Authority::root("root");
    let mut papers = other.leaf(&id, |leaf| leaf);
    for _ in 0..5 {
        papers.chain.push(other.below("root", |ca| ca).der);
    }
    all.papers(93, "five CAs of one name, entangled", Some(""), papers);
}

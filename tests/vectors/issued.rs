//! A thousand certificates of our own, judged by others: openssl's strict mode, and a linter that knows nothing of SPIFFE.
//!
//! Three CAs: a new one, one whose root was replaced, one whose keys lie under a passphrase; of each the root, the intermediate
//! that signs, the server's own leaf and a third of the leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use ca::attest::Attested;
use ca::{Authority, Keys};
use identity::{CertificateDer, SpiffeId, Svid};
use serde_json::Value;
use support::child::run;
use support::scratch::Scratch;
use support::x509::{Authority as Forger, KEY_USAGE, certificates, element};
use support::{pki, tools};

const LEAVES_OF_EACH: usize = 334;

/// The one finding that is wrong: for the linter, a URI has a host name that DNS knows (RFC 3986 asks for none).
const NO_FAULT: &str = "pkix.invalid_uri_syntax";

#[test]
fn a_thousand_leaves_are_accepted_by_others_and_no_two_have_one_number() {
    let scratch = Scratch::new();
    let mut serials = BTreeSet::new();
    let mut leaves = 0;
    for (name, passphrase, rotated) in [("new", false, false), ("rotated", false, true), ("sealed", true, false)] {
        let ca = Ca::make(&scratch.join(name), passphrase, rotated);
        for serial in ca.issue(LEAVES_OF_EACH) {
            leaves += 1;
            assert!(serials.insert(serial), "a number stands twice");
        }
        ca.openssl_accepts();
        let findings = lint(&[ca.dir.join("leaves.pem"), ca.dir.join("above.pem"), ca.dir.join("server.pem")]);
        assert_eq!(findings.certificates, LEAVES_OF_EACH + 3, "{name}");
        let others: Vec<_> = findings.codes.iter().filter(|finding| finding["code"] != NO_FAULT).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
        let uris = findings.codes.iter().map(|finding| finding["message"].as_str().unwrap_or_default());
        assert!(
            uris.into_iter().all(|text| text.contains("\"spiffe://example.org")),
            "another URI is found fault with"
        );
    }
    assert!(leaves >= 1000, "{leaves}");
    assert_eq!(serials.len(), leaves);
}

/// The judges can say no.
#[test]
fn the_linter_and_openssl_find_faults() {
    let scratch = Scratch::new();
    let root = Forger::root("root");
    let id = "spiffe://example.org/x";
    let uncritical = root.leaf(id, |leaf| leaf.set(KEY_USAGE, false, element(0x03, &[7, 0x80]))).chain;
    fs::write(scratch.join("bad.pem"), certificates(uncritical.iter())).unwrap();
    let findings = lint(&[scratch.join("bad.pem")]);
    let code = |code: &str| findings.codes.iter().any(|finding| finding["code"] == code);
    assert!(code("pkix.key_usage_extension_not_critical"), "{:?}", findings.codes);

    let expired = root.leaf(id, |leaf| leaf.with(|leaf| leaf.not_after = leaf.not_before + 1)).chain;
    fs::write(scratch.join("old.pem"), certificates(expired.iter())).unwrap();
    fs::write(scratch.join("root.pem"), certificates([root.der].iter())).unwrap();
    let mut openssl = tools::system("openssl", "openssl");
    let output = openssl.args(["verify", "-x509_strict", "-CAfile", "root.pem", "old.pem"]).current_dir(scratch.path());
    assert!(!output.output().unwrap().status.success());
}

struct Ca {
    dir: PathBuf,
    authority: Authority,
}

impl Ca {
    /// By the commands.
    fn make(dir: &Path, passphrase: bool, rotated: bool) -> Self {
        fs::create_dir(dir).unwrap();
        let secret: &[&str] = if passphrase { &["--passphrase-file", "passphrase"] } else { &[] };
        fs::write(dir.join("passphrase"), "correct horse battery staple\n").unwrap();
        let sekisho = |arguments: &[&str]| {
            run(Command::new(tools::sekisho()).arg("ca").args(arguments).args(secret).current_dir(dir));
        };
        sekisho(&["init", "--trust-domain", pki::TRUST_DOMAIN, "--dir", "ca"]);
        let first = pki::root(&dir.join("ca"));
        if rotated {
            sekisho(&["rotate", "--dir", "ca", "prepare"]);
            sekisho(&["rotate", "--dir", "ca", "activate", "--override"]);
        }
        let keys = Keys { passphrase: passphrase.then_some(b"correct horse battery staple".as_slice()), secret: None };
        let authority = Authority::open(&dir.join("ca"), keys, SystemTime::now()).unwrap();
        let root = authority.root_id().to_string();
        assert_eq!(first.ends_with(&root), !rotated, "the first root issues");
        Self { dir: dir.to_owned(), authority }
    }

    /// Leaves of many names and lifetimes, as `leaves.pem` and, for openssl, one by one; their numbers. The intermediate and
    /// the root go into `above.pem`.
    fn issue(&self, leaves: usize) -> Vec<String> {
        let now = SystemTime::now();
        let issuer = self.authority.intermediate(now).unwrap();
        let (mut all, mut serials, mut above) = (String::new(), Vec::new(), String::new());
        fs::create_dir(self.dir.join("leaves")).unwrap();
        for i in 0..leaves {
            let id = SpiffeId::parse(&format!("spiffe://example.org/ns/shop-{i}/sa/{}", "a".repeat(1 + i))).unwrap();
            let ttl = Duration::from_secs(300 + 600 * i as u64);
            let (issued, _) = issuer.issue_with_new_key(&Attested::by_operator(id.clone()), ttl, now).unwrap();
            assert_eq!(*Svid::from_leaf(&CertificateDer::from(issued.leaf.to_vec())).unwrap().id(), id);
            fs::write(self.dir.join(format!("leaves/{i}.pem")), &issued.leaf_pem).unwrap();
            all.push_str(&issued.leaf_pem);
            above = issued.intermediate_pem;
            serials.push(issued.serial);
        }
        let id = SpiffeId::parse("spiffe://example.org/ca").unwrap();
        let names = ["ca.sekisho.svc".to_owned(), "ca.sekisho.svc.cluster.local".to_owned()];
        let (server, _) = issuer.issue_own(&id, &names, Duration::from_secs(86_400), now).unwrap();
        serials.push(server.serial);
        fs::write(self.dir.join("server.pem"), &server.leaf_pem).unwrap();
        fs::write(self.dir.join("middle.pem"), &above).unwrap();
        fs::write(self.dir.join("root.pem"), self.authority.root_pem()).unwrap();
        fs::write(self.dir.join("above.pem"), above + &self.authority.root_pem()).unwrap();
        fs::write(self.dir.join("leaves.pem"), all).unwrap();
        serials
    }

    fn openssl_accepts(&self) {
        for purpose in ["sslclient", "sslserver"] {
            let mut openssl = tools::system("openssl", "openssl");
            openssl.args([
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                "root.pem",
                "-untrusted",
                "middle.pem",
            ]);
            openssl.arg("server.pem").args((0..LEAVES_OF_EACH).map(|i| format!("leaves/{i}.pem")));
            let said = run(openssl.current_dir(&self.dir));
            assert_eq!(said.lines().filter(|line| line.ends_with(": OK")).count(), LEAVES_OF_EACH + 1);
        }
    }
}

struct Findings {
    certificates: usize,
    codes: Vec<Value>,
}

fn lint(files: &[PathBuf]) -> Findings {
    let said = run(tools::python().arg(tools::script("lint.py")).args(files));
    let mut codes: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = codes.pop().unwrap();
    Findings { certificates: last["certificates"].as_u64().unwrap() as usize, codes }
}

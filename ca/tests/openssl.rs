//! The CA beside OpenSSL: our chains under its verifier, our sealed keys in its hands, its requests in ours.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ca::attest::Attested;
use ca::{Authority, CsrError, parse_csr};
use identity::{SpiffeId, TrustDomain};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Runs `openssl` in `dir` and returns its output; any failure fails the test.
fn openssl(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {args:?}: {text}{error}");
    text
}

fn web() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap()
}

fn found() -> Authority {
    let domain = TrustDomain::parse("example.org").unwrap();
    Authority::init(&domain, SystemTime::now()).unwrap()
}

#[test]
fn our_chains_pass_its_strict_verifier_in_both_roles() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let authority = found();
    let issuer = authority.intermediate(SystemTime::now()).unwrap();
    let (issued, key) = issuer.issue_with_new_key(&Attested::by_operator(web()), DAY, SystemTime::now()).unwrap();
    fs::write(dir.join("roots.pem"), authority.root_pem()).unwrap();
    fs::write(dir.join("web.pem"), issued.chain_pem()).unwrap();
    fs::write(dir.join("web.key"), &key).unwrap();
    for purpose in ["sslclient", "sslserver"] {
        let args =
            ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "roots.pem", "-untrusted", "web.pem", "web.pem"];
        assert!(openssl(dir, &args).contains("web.pem: OK"));
    }
    let shown = openssl(dir, &["x509", "-in", "web.pem", "-noout", "-serial", "-ext", "subjectAltName"]);
    assert!(shown.contains(&format!("serial={}", issued.serial.to_uppercase())));
    assert!(shown.contains("critical"));
    assert!(shown.contains("URI:spiffe://example.org/ns/shop/sa/web"));
    assert_eq!(
        openssl(dir, &["pkey", "-in", "web.key", "-pubout"]),
        openssl(dir, &["x509", "-in", "web.pem", "-noout", "-pubkey"])
    );
}

#[test]
fn it_opens_our_sealed_key_and_we_open_its() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = found();
    authority.save(scratch.path(), Some(b"open sesame")).unwrap();
    let dir = &scratch.path().join("roots").join(authority.root_id().to_string());
    openssl(dir, &["pkey", "-in", "root.key", "-passin", "pass:open sesame", "-out", "plain.key"]);
    assert_eq!(
        openssl(dir, &["pkey", "-in", "plain.key", "-pubout"]),
        openssl(dir, &["x509", "-in", "root.pem", "-noout", "-pubkey"])
    );
    fs::remove_file(dir.join("root.key")).unwrap();
    openssl(
        dir,
        &[
            "pkcs8",
            "-topk8",
            "-in",
            "plain.key",
            "-out",
            "root.key",
            "-v2",
            "aes-256-cbc",
            "-iter",
            "10000",
            "-passout",
            "pass:new one",
        ],
    );
    // OpenSSL writes private keys with mode 0600 of its own accord.
    let back = Authority::load(scratch.path(), Some(b"new one"), SystemTime::now()).unwrap();
    assert_eq!(back.root_pem(), authority.root_pem());
}

#[test]
fn its_requests_are_read_whatever_hash_they_use() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let issuer = found().intermediate(SystemTime::now()).unwrap();
    for (name, key, hash) in [
        ("p256", "ec:prime256v1", "-sha256"),
        // The pair of plain `openssl req`: a reader that infers the curve from the hash gets it wrong.
        ("p384", "ec:secp384r1", "-sha256"),
        ("p521", "ec:secp521r1", "-sha384"),
        ("rsa", "rsa:2048", "-sha512"),
        ("ed25519", "ed25519", "-sha256"),
    ] {
        request(dir, name, key, &[hash]);
        let csr = fs::read(dir.join(format!("{name}.csr"))).unwrap();
        let spki = parse_csr(&csr, &web()).unwrap().spki().to_vec();
        let issued = issuer.issue(&Attested::by_operator(web()), &spki, DAY, SystemTime::now()).unwrap();
        fs::write(dir.join("leaf.pem"), issued.chain_pem()).unwrap();
        assert_eq!(
            openssl(dir, &["pkey", "-in", &format!("{name}.key"), "-pubout"]),
            openssl(dir, &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]),
            "{name}"
        );
    }
}

#[test]
fn its_weak_or_greedy_requests_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let judge = |name: &str, key: &str, extra: &[&str]| {
        request(dir, name, key, extra);
        let csr = fs::read(dir.join(format!("{name}.csr"))).unwrap();
        parse_csr(&csr, &web()).unwrap_err()
    };
    assert!(matches!(judge("p224", "ec:secp224r1", &[]), CsrError::Key(_)));
    assert!(matches!(judge("k256", "ec:secp256k1", &[]), CsrError::Key(_)));
    assert!(matches!(judge("rsa1024", "rsa:1024", &[]), CsrError::Key(_)));
    assert!(matches!(judge("sha1", "ec:prime256v1", &["-sha1"]), CsrError::Signature));
    let ca = ["-addext", "basicConstraints=critical,CA:TRUE"];
    assert_eq!(judge("ca", "ec:prime256v1", &ca), CsrError::CaRights);
    let other = ["-addext", "subjectAltName=URI:spiffe://example.org/ns/shop/sa/db"];
    assert!(matches!(judge("other", "ec:prime256v1", &other), CsrError::OtherName(_)));
    let critical = ["-addext", "1.2.3.4=critical,DER:0500"];
    assert_eq!(judge("critical", "ec:prime256v1", &critical), CsrError::CriticalExtension);
}

/// Makes `name.key` and `name.csr`.
fn request(dir: &Path, name: &str, key: &str, extra: &[&str]) {
    let (key_file, csr_file) = (format!("{name}.key"), format!("{name}.csr"));
    let mut generate = vec!["genpkey", "-out", &key_file, "-algorithm"];
    let option;
    match key.split_once(':') {
        Some(("ec", curve)) => {
            option = format!("ec_paramgen_curve:{curve}");
            generate.extend(["EC", "-pkeyopt", &option, "-pkeyopt", "ec_param_enc:named_curve"]);
        }
        Some((_, bits)) => {
            option = format!("rsa_keygen_bits:{bits}");
            generate.extend(["RSA", "-pkeyopt", &option]);
        }
        None => generate.push(key),
    }
    openssl(dir, &generate);
    let mut make = vec!["req", "-new", "-key", &key_file, "-out", &csr_file, "-subj", "/CN=anything"];
    make.extend(extra);
    openssl(dir, &make);
}

//! Certificates that an operator made with OpenSSL, and names as OpenSSL prints them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use identity::{Credentials, SpiffeId, Svid};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

const ID: &str = "spiffe://example.org/ns/shop/sa/web";

fn openssl(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {args:?}: {text}{error}");
    text
}

/// Makes `roots.pem`, `web.pem` and `web.key` the way the documentation tells an operator to.
fn make(dir: &Path, subject: &str, new_key: &[&str]) {
    let root = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "root.key",
        "-out",
        "roots.pem",
        "-days",
        "30",
        "-subj",
        "/CN=my root",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ];
    openssl(dir, &root);
    let mut request = vec!["req", "-new", "-nodes", "-utf8", "-keyout", "web.key", "-out", "web.csr", "-subj", subject];
    request.extend(new_key);
    openssl(dir, &request);
    fs::write(
        dir.join("leaf.cnf"),
        format!(
            "subjectAltName=critical,URI:{ID},DNS:web.shop.svc\n\
             basicConstraints=critical,CA:FALSE\n\
             keyUsage=critical,digitalSignature\n\
             extendedKeyUsage=serverAuth,clientAuth\n"
        ),
    )
    .unwrap();
    let sign = [
        "x509",
        "-req",
        "-in",
        "web.csr",
        "-CA",
        "roots.pem",
        "-CAkey",
        "root.key",
        "-CAcreateserial",
        "-days",
        "7",
        "-extfile",
        "leaf.cnf",
        "-out",
        "web.pem",
    ];
    openssl(dir, &sign);
}

const EC: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
const RSA: &[&str] = &["-newkey", "rsa:2048"];

#[test]
fn what_an_operator_makes_with_openssl_is_accepted() {
    for (new_key, convert, label) in [(EC, "ec", "BEGIN EC PRIVATE KEY"), (RSA, "rsa", "BEGIN RSA PRIVATE KEY")] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        make(dir, "/", new_key);
        // Old tools write SEC 1 and PKCS #1.
        openssl(dir, &["pkey", "-in", "web.key", "-traditional", "-out", "old.key"]);
        let old = fs::read_to_string(dir.join("old.key")).unwrap();
        assert!(old.contains(label), "{convert}: {old}");
        for key in ["web.key", "old.key"] {
            let read = |name: &str| fs::read(dir.join(name)).unwrap();
            let credentials = Credentials::from_pem(
                &read("web.pem"),
                &read(key),
                &read("roots.pem"),
                &SpiffeId::parse(ID).unwrap(),
                SystemTime::now(),
            )
            .unwrap();
            assert_eq!(credentials.svid().dns_names(), ["web.shop.svc"]);
            assert_eq!(credentials.svid().subject(), "");
        }
    }
}

#[test]
fn subjects_read_as_openssl_prints_them() {
    for subject in [
        "/C=US/O=Acme, \"Inc\"/CN=web;x",
        "/DC=org/DC=example/OU=a+OU=b/CN= #x\\\\y<z> ",
        "/CN=Zoë/emailAddress=web@example.org/UID=7",
        "/serialNumber=12/street=Main St. 1/title=Dr/GN=A/SN=B",
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let mut multi = EC.to_vec();
        multi.push("-multivalue-rdn");
        make(dir, subject, &multi);
        let shown = openssl(dir, &["x509", "-in", "web.pem", "-noout", "-subject", "-nameopt", "RFC2253"]);
        let shown = shown.strip_prefix("subject=").unwrap();
        let shown = shown.strip_suffix('\n').unwrap();
        let der = CertificateDer::from_pem_file(dir.join("web.pem")).unwrap();
        assert_eq!(Svid::from_leaf(&der).unwrap().subject(), shown, "{subject}");
    }
}

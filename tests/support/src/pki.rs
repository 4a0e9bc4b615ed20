//! Certificates for the tests: good ones from `sekisho ca`, bad ones from openssl under the same root or another.
//!
//! The product's CA refuses to make a certificate that is expired, names two identities or another trust domain. An
//! attacker who holds a CA key, or a careless operator, does not refuse; openssl plays that part here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::run;
use crate::tools;

/// The trust domain of the contract.
pub const TRUST_DOMAIN: &str = "example.org";

/// A certificate chain, its key and the bundle beside it, as files.
#[derive(Debug, Clone)]
pub struct Cert {
    /// PEM, leaf first.
    pub chain: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// The roots that the holder believes.
    pub bundle: PathBuf,
}

/// A CA made by `sekisho ca init`.
#[derive(Debug, Clone)]
pub struct Ca {
    dir: PathBuf,
    out: PathBuf,
}

impl Ca {
    /// `sekisho ca init` into `<out>/ca` for `example.org`; certificates are issued into `out`.
    #[must_use]
    pub fn init(out: &Path) -> Self {
        let dir = out.join("ca");
        run(Command::new(tools::sekisho()).args(["ca", "init", "--trust-domain", TRUST_DOMAIN, "--dir"]).arg(&dir));
        Self { dir, out: out.to_owned() }
    }

    /// `sekisho ca issue` for `spiffe://example.org/ns/<namespace>/sa/<account>`, as `<name>.pem` and so on.
    pub fn issue(&self, name: &str, namespace: &str, account: &str) -> Cert {
        self.issue_for(name, namespace, account, "24h")
    }

    /// The same for a certificate that lives so long, such as `5s`.
    pub fn issue_for(&self, name: &str, namespace: &str, account: &str, ttl: &str) -> Cert {
        let id = spiffe(namespace, account);
        run(Command::new(tools::sekisho())
            .args(["ca", "issue", "--id", &id, "--name", name, "--ttl", ttl, "--dir"])
            .arg(&self.dir)
            .arg("--out")
            .arg(&self.out));
        Cert {
            chain: self.out.join(format!("{name}.pem")),
            key: self.out.join(format!("{name}.key")),
            bundle: self.out.join("roots.pem"),
        }
    }

    /// The folder of the only root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        root(&self.dir)
    }

    /// The same root in openssl's hands.
    #[must_use]
    pub fn forger(&self) -> Forger {
        Forger::of(&self.root(), &self.out)
    }
}

/// The folder of the only root of a CA's folder.
///
/// # Panics
/// When there is none, or more than one.
#[must_use]
pub fn root(ca: &Path) -> PathBuf {
    let mut roots = std::fs::read_dir(ca.join("roots")).unwrap().map(|entry| entry.unwrap().path());
    let root = roots.next().unwrap();
    assert_eq!(roots.next(), None, "more than one root in {}", ca.display());
    root
}

/// The SPIFFE ID of a workload in the contract's trust domain.
#[must_use]
pub fn spiffe(namespace: &str, account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}")
}

/// openssl with a root key: makes whatever it is told to.
#[derive(Debug, Clone)]
pub struct Forger {
    root: PathBuf,
    key: PathBuf,
    out: PathBuf,
}

/// What to write into a forged certificate.
#[derive(Debug, Clone, Default)]
pub struct Forged<'a> {
    /// Subject alternative names in openssl's words, such as `URI:spiffe://...`; none leaves the extension out.
    pub names: &'a [&'a str],
    /// Whether its validity ended long ago.
    pub expired: bool,
    /// Whether it is a CA certificate.
    pub ca: bool,
    /// Its number in hex; a random one otherwise.
    pub serial: Option<&'a str>,
}

impl Forger {
    /// With the certificate and the key in a root's folder.
    #[must_use]
    pub fn of(root: &Path, out: &Path) -> Self {
        Self::with(&root.join("root.pem"), &root.join("root.key"), out)
    }

    /// With this root and its key, which need not be of a CA that still uses them.
    #[must_use]
    pub fn with(root: &Path, key: &Path, out: &Path) -> Self {
        Self { root: root.to_owned(), key: key.to_owned(), out: out.to_owned() }
    }

    /// A root of its own, made by openssl, for a trust domain of any name.
    #[must_use]
    pub fn new_root(out: &Path, name: &str, trust_domain: &str) -> Self {
        let root = out.join(format!("{name}-root.pem"));
        let key = out.join(format!("{name}-root.key"));
        run(openssl()
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
            .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=URI:spiffe://{trust_domain}")])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&root));
        Self { root, key, out: out.to_owned() }
    }

    /// The root certificate, as a bundle.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.root
    }

    /// Signs a leaf with a new key, as `<name>.pem` and `<name>.key`. The bundle beside it is this forger's root.
    #[must_use]
    pub fn leaf(&self, name: &str, forged: &Forged<'_>) -> Cert {
        let file = |ending: &str| self.out.join(format!("{name}.{ending}"));
        run(openssl()
            .args([
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                "/O=forged",
                "-keyout",
            ])
            .arg(file("key"))
            .arg("-out")
            .arg(file("csr")));
        std::fs::write(file("cnf"), self.settings(name, forged)).unwrap();
        std::fs::write(self.out.join(format!("{name}.index")), "").unwrap();
        // `openssl ca` and not `openssl x509`: only it takes a begin and an end in the past.
        let dates: &[&str] = if forged.expired {
            &["-startdate", "20240101000000Z", "-enddate", "20240102000000Z"]
        } else {
            &["-days", "1"]
        };
        run(openssl()
            .args(["ca", "-batch", "-notext"])
            .args(dates)
            .arg("-config")
            .arg(file("cnf"))
            .arg("-in")
            .arg(file("csr"))
            .arg("-out")
            .arg(file("pem")));
        Cert { chain: file("pem"), key: file("key"), bundle: self.root.clone() }
    }

    fn settings(&self, name: &str, forged: &Forged<'_>) -> String {
        let names = if forged.names.is_empty() {
            String::new()
        } else {
            format!("subjectAltName={}\n", forged.names.join(","))
        };
        let serial = match forged.serial {
            Some(serial) => {
                let file = self.out.join(format!("{name}.serial"));
                std::fs::write(&file, serial).unwrap();
                format!("serial={}", file.display())
            }
            None => "rand_serial=yes".to_owned(),
        };
        let usage = if forged.ca { "keyCertSign,digitalSignature" } else { "digitalSignature" };
        format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={index}\nnew_certs_dir={out}\ncertificate={root}\nprivate_key={key}\n\
             default_md=sha256\npolicy=p\nx509_extensions=e\nunique_subject=no\n{serial}\n[p]\norganizationName=optional\n[e]\n\
             basicConstraints=critical,CA:{ca}\nkeyUsage=critical,{usage}\nextendedKeyUsage=serverAuth,clientAuth\n\
             authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n{names}",
            index = self.out.join(format!("{name}.index")).display(),
            out = self.out.display(),
            root = self.root.display(),
            key = self.key.display(),
            ca = if forged.ca { "TRUE" } else { "FALSE" },
        )
    }
}

fn openssl() -> Command {
    tools::system("openssl", "openssl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_forged_leaf_says_what_it_was_told_to() {
        let scratch = Scratch::new();
        let forger = Forger::new_root(scratch.path(), "other", "other.example");
        let names = ["URI:spiffe://a.example/x", "URI:spiffe://b.example/y"];
        let cert = forger.leaf("two", &Forged { names: &names, expired: true, ..Forged::default() });
        let text = run(openssl().args(["x509", "-noout", "-text", "-in"]).arg(&cert.chain));
        assert!(text.contains("URI:spiffe://a.example/x, URI:spiffe://b.example/y"), "{text}");
        assert!(text.contains("Not After : Jan  2 00:00:00 2024 GMT"), "{text}");
        run(openssl().args(["verify", "-no_check_time", "-CAfile"]).arg(forger.bundle()).arg(&cert.chain));
    }
}

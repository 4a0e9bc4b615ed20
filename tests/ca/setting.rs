//! A CA with one cluster, the cluster's keys, and the client beside it.

use std::path::Path;

use serde_json::{Value, json};
use support::ca_server::CaServer;
use support::istio::{IstioClient, with};
use support::scratch::Scratch;
use support::wait;

/// What a token of [`IstioClient::token`] is good for.
pub(crate) const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

/// The sections of a file with the cluster `main`, whose key set is `jwks.json` beside the file.
pub(crate) const CLUSTER: &str =
    "[[cluster]]\nname = \"main\"\nissuer = \"https://kubernetes.default.svc\"\njwks = \"jwks.json\"\n";

/// Both, and the folder they are in.
pub(crate) struct Setting {
    pub(crate) client: IstioClient,
    pub(crate) server: CaServer,
    pub(crate) dir: Scratch,
}

impl Setting {
    /// A CA over a new folder, with these sections before that of the cluster. The cluster has the keys `r1` (RSA) and `e1`
    /// (P-256).
    pub(crate) fn new(sections: &str) -> Self {
        let dir = Scratch::new();
        let client = cluster(&dir);
        let server = CaServer::start(dir.path(), &format!("{sections}{CLUSTER}"));
        Self { client, server, dir }
    }

    /// Asks by token for a certificate, with a new key.
    pub(crate) fn ask(&mut self, token: &str, changes: Value) -> Value {
        let csr = self.client.csr(json!({}));
        self.ask_for(&csr, with(json!({ "authorization": [format!("Bearer {token}")] }), changes))
    }

    /// Asks with this request; `changes` are parameters of the script's `create`.
    pub(crate) fn ask_for(&mut self, csr: &str, changes: Value) -> Value {
        let mut base = json!({ "do": "create", "address": self.server.grpc(), "csr": csr });
        if changes.get("roots").is_none() {
            base["roots"] = json!(self.server.root());
        }
        self.client.tell(&with(base, changes))
    }

    /// Asks with a new token and a new key, which is kept in a file, and must get a certificate, which is kept beside it.
    pub(crate) fn holder(&mut self, name: &str, changes: Value) -> Holder {
        let csr = self.client.csr(json!({ "key_file": self.dir.join(format!("{name}.key")) }));
        let token = self.client.token("e1", json!({}));
        let answer = self.ask_for(&csr, with(json!({ "authorization": [format!("Bearer {token}")] }), changes));
        Holder::keep(&self.dir, name, &answer)
    }
}

/// Who holds a certificate, as files of PEM.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) chain: std::path::PathBuf,
    pub(crate) key: std::path::PathBuf,
    pub(crate) serial: String,
}

impl Holder {
    /// Keeps what an answer brought; the key is in `<name>.key` already.
    pub(crate) fn keep(dir: &Scratch, name: &str, answer: &Value) -> Self {
        assert_eq!(answer["code"], "OK", "{answer}");
        let text = |index: usize| answer["chain"][index].as_str().unwrap().to_owned();
        let chain = dir.write(&format!("{name}.pem"), text(0) + &text(1));
        Self {
            chain,
            key: dir.join(format!("{name}.key")),
            serial: answer["leaf"]["serial"].as_str().unwrap().to_owned(),
        }
    }

    /// The parameters of `create` that show this certificate.
    pub(crate) fn shown(&self) -> Value {
        json!({ "chain": self.chain, "key": self.key })
    }
}

/// A client, and the key set of a new cluster in `jwks.json`.
pub(crate) fn cluster(dir: &Scratch) -> IstioClient {
    let mut client = IstioClient::start(dir.path());
    let keys = [client.cluster_key("rsa", "r1"), client.cluster_key("ec", "e1")];
    dir.write("jwks.json", json!({ "keys": keys }).to_string());
    client
}

/// The records of one event.
pub(crate) fn of_event<'a>(records: &'a [Value], event: &'a str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| record["event"] == event)
}

/// Waits until the log holds a record that `fits`.
pub(crate) fn recorded(server: &CaServer, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, wait::SOON, || server.records().into_iter().find(|record| fits(record)))
}

/// Panics unless `sekisho ca log verify` finds the log whole; gives its report.
pub(crate) fn whole(server: &CaServer) -> Value {
    let output = server.verify_log();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Files in a folder and in those below it.
pub(crate) fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

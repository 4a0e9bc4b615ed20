//! A client of Istio's certificate service by others: grpcio and cryptography in a process of its own, told what to do line
//! by line. It makes the evidence as well: keys of clusters, tokens good and bad, requests good and bad.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::tools;

/// The client. Ends with its test.
#[derive(Debug)]
pub struct IstioClient {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl IstioClient {
    /// Starts it; its stubs are made from the service definition, in `dir`.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let mut command = tools::python();
        command.arg(tools::script("istio_client.py")).arg(tools::repository().join("wire/proto/istio/ca.proto"));
        let mut process = command.arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, commands, answers }
    }

    /// One command: an object whose `do` names a function of the script, its other members the parameters.
    pub fn tell(&mut self, command: &Value) -> Value {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {error}: {line:?}"))
    }

    /// Makes a key of a cluster, `rsa` or `ec`, and gives its JWK.
    pub fn cluster_key(&mut self, kind: &str, kid: &str) -> Value {
        self.tell(&json!({ "do": "cluster_key", "kind": kind, "kid": kid }))["jwk"].take()
    }

    /// A token signed by that key; `changes` are parameters of the script's function of this name.
    pub fn token(&mut self, kid: &str, changes: Value) -> String {
        let answer = self.tell(&with(json!({ "do": "token", "kid": kid }), changes));
        answer["token"].as_str().unwrap().to_owned()
    }

    /// A request; `changes` are parameters of the script's function of this name.
    pub fn csr(&mut self, changes: Value) -> String {
        self.tell(&with(json!({ "do": "csr" }), changes))["csr"].as_str().unwrap().to_owned()
    }
}

impl Drop for IstioClient {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The members of both objects; those of `changes` go first.
#[must_use]
pub fn with(base: Value, changes: Value) -> Value {
    match (base, changes) {
        (Value::Object(mut base), Value::Object(changes)) => {
            base.extend(changes);
            Value::Object(base)
        }
        (base, changes) => panic!("not objects: {base}, {changes}"),
    }
}

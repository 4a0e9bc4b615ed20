//! Steady load that is strict about every request: a request sent in full that brings no complete answer is a failure,
//! and so is any status but 200. There is no second try.
//!
//! A worker whose answer says `Connection: close` opens a new connection; a connection that is refused is a failure too.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::Child;
use crate::pki::Cert;
use crate::{tools, wait, wire};

/// What a load saw.
#[derive(Debug, Clone, Default)]
pub struct Total {
    /// Requests that were answered 200 in full.
    pub ok: u64,
    /// Answers that announced the end of their connection.
    pub closes: u64,
    /// Every other outcome, in words.
    pub failed: Vec<String>,
}

impl Total {
    /// Panics unless some requests went through and none failed.
    pub fn assert_clean(&self, at_least: u64) {
        assert!(
            self.failed.is_empty(),
            "{} failed of {}: {:?}",
            self.failed.len(),
            self.ok,
            self.failed.iter().take(5).collect::<Vec<_>>()
        );
        assert!(self.ok >= at_least, "only {} requests went through", self.ok);
    }
}

/// Plain HTTP/1.1 load from threads, until told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    /// Requests of all workers that went well.
    ok: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Total>>,
}

impl Load {
    /// `connections` kept connections that ask for `path` without a pause.
    #[must_use]
    pub fn start(to: SocketAddr, host: &str, path: &str, connections: usize) -> Self {
        Self::of(to, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"), connections)
    }

    /// The same with a new connection for every request, so many of them at a time.
    #[must_use]
    pub fn fresh(to: SocketAddr, host: &str, path: &str, connections: usize) -> Self {
        Self::of(to, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"), connections)
    }

    fn of(to: SocketAddr, request: String, connections: usize) -> Self {
        let (stop, ok) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let worker = |_| {
            let (stop, ok, request) = (Arc::clone(&stop), Arc::clone(&ok), request.clone());
            std::thread::spawn(move || work(to, request.as_bytes(), &stop, &ok))
        };
        let workers = (0..connections).map(worker).collect();
        Self { stop, ok, workers }
    }

    /// Lets it go on until so many requests have gone through, however slow the machine is, then stops it. Panics when that takes
    /// longer than anything should, or when a request failed.
    pub fn stop_clean(self, at_least: u64) -> Total {
        let _ = wait::within(wait::SOON, || {
            let ended = self.workers.iter().any(JoinHandle::is_finished);
            (ended || self.ok.load(Ordering::SeqCst) >= at_least).then_some(())
        });
        let total = self.stop();
        total.assert_clean(at_least);
        total
    }

    /// Lets running requests finish and adds everything up.
    #[must_use]
    pub fn stop(self) -> Total {
        self.stop.store(true, Ordering::SeqCst);
        let mut total = Total::default();
        for worker in self.workers {
            let one = worker.join().unwrap();
            total.ok += one.ok;
            total.closes += one.closes;
            total.failed.extend(one.failed);
        }
        total
    }
}

fn work(to: SocketAddr, request: &[u8], stop: &AtomicBool, ok: &AtomicU64) -> Total {
    let mut total = Total::default();
    while !stop.load(Ordering::SeqCst) {
        let mut connection = match wire::Connection::open(to) {
            Ok(connection) => connection,
            Err(error) => {
                total.failed.push(format!("no connection: {error}"));
                return total;
            }
        };
        while !stop.load(Ordering::SeqCst) {
            match connection.send(request).and_then(|()| connection.receive()) {
                Ok(answer) => {
                    if answer.status() == 200 {
                        total.ok += 1;
                        ok.fetch_add(1, Ordering::SeqCst);
                    } else {
                        total.failed.push(format!("{} {}", answer.start, answer.text()));
                    }
                    if answer.closes() {
                        total.closes += 1;
                        break;
                    }
                }
                Err(error) => {
                    total.failed.push(error.to_string());
                    break;
                }
            }
        }
    }
    total
}

/// The same over mutual TLS, by OpenSSL.
#[derive(Debug)]
pub struct TlsLoad {
    child: Child,
}

impl TlsLoad {
    /// `connections` kept connections that show `cert` and ask for `path` without a pause.
    #[must_use]
    pub fn start(dir: &Path, to: SocketAddr, cert: &Cert, path: &str, connections: usize) -> Self {
        let ask = json!({
            "address": to.ip().to_string(), "port": to.port(), "cert": cert.chain, "key": cert.key,
            "bundle": cert.bundle, "path": path, "connections": connections,
        });
        let mut command = tools::python();
        command.arg(tools::script("tls_load.py")).stdin(Stdio::piped());
        let mut child = Child::start(dir, "tls-load", &mut command);
        writeln!(child.process().stdin.as_mut().unwrap(), "{ask}").unwrap();
        child.wait_for("ready");
        Self { child }
    }

    /// Lets running requests finish and adds everything up.
    #[must_use]
    pub fn stop(mut self) -> Total {
        drop(self.child.process().stdin.take());
        assert!(self.child.wait(Duration::from_secs(60)).is_some(), "the load did not stop");
        let text = self.child.stdout.text();
        let last: Value =
            wait::until("the load's total", wait::SOON, || serde_json::from_str(text.lines().last()?).ok());
        Total {
            ok: last["ok"].as_u64().unwrap(),
            closes: last["closes"].as_u64().unwrap(),
            failed: last["failed"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one.as_str().unwrap_or("").to_owned())
                .collect(),
        }
    }
}

//! The built binary as a sidecar: `sekisho proxy -c FILE`, waited for, looked at through its own ports and logs.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use serde_json::Value;

use crate::child::Child;
use crate::message::Message;
use crate::prometheus::Scrape;
use crate::{tools, wait, wire};

/// A running sidecar. Killed when dropped.
#[derive(Debug)]
pub struct Sidecar {
    /// The process, with its access log on stdout and its refusals on stderr.
    pub child: Child,
    admin: SocketAddr,
    health: SocketAddr,
    metrics: SocketAddr,
}

impl Sidecar {
    /// Runs the file `<dir>/<name>.toml` and waits until it is ready. The file says `admin`, `health` and `metrics`.
    #[must_use]
    pub fn start(dir: &Path, name: &str) -> Self {
        let mut sidecar = Self::start_unready(dir, name);
        sidecar.wait_until_ready();
        sidecar
    }

    /// The same without waiting.
    #[must_use]
    pub fn start_unready(dir: &Path, name: &str) -> Self {
        Self::start_by(&mut command(dir, name), dir, name)
    }

    /// Runs the given command, which must be a proxy over `<dir>/<name>.toml`: for another user or network namespace.
    #[must_use]
    pub fn start_by(command: &mut Command, dir: &Path, name: &str) -> Self {
        let text = std::fs::read_to_string(dir.join(format!("{name}.toml"))).unwrap();
        let child = Child::start(dir, name, command);
        Self {
            child,
            admin: address(&text, "admin"),
            health: address(&text, "health"),
            metrics: address(&text, "metrics"),
        }
    }

    /// Runs the file to its end, which must come within 20 seconds: for files that it has to refuse.
    #[must_use]
    pub fn refuse(dir: &Path, name: &str) -> (ExitStatus, String) {
        let mut child = Child::start(dir, name, &mut command(dir, name));
        let status = child.wait(wait::SOON).unwrap_or_else(|| panic!("{name}.toml was not refused"));
        (status, child.stderr.text())
    }

    /// Waits for 200 from the health port; panics with its last words when it ends first.
    pub fn wait_until_ready(&mut self) {
        wait::until("the sidecar to be ready", wait::SOON, || {
            if let Some(status) = self.child.process().try_wait().unwrap() {
                panic!("the sidecar ended with {status}: {}", self.child.stderr.text());
            }
            self.is_ready().then_some(())
        });
    }

    /// Whether the health port says 200.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        wire::get(self.health, "probe", "/healthz/ready").is_ok_and(|reply| reply.status() == 200)
    }

    /// `GET path` on the admin port.
    #[must_use]
    pub fn admin(&self, path: &str) -> Message {
        wire::get(self.admin, "localhost", path).unwrap_or_else(|error| panic!("admin {path}: {error}"))
    }

    /// The JSON of `/policy/status`.
    #[must_use]
    pub fn policy_status(&self) -> Value {
        let reply = self.admin("/policy/status");
        serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("/policy/status: {error}: {}", reply.text()))
    }

    /// The generation that serves now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let status = self.policy_status();
        status["generation"].as_u64().unwrap_or_else(|| panic!("no generation in {status}"))
    }

    /// A scrape of the metrics port.
    #[must_use]
    pub fn metrics(&self) -> Scrape {
        let reply = wire::get(self.metrics, "scrape", "/stats/prometheus").unwrap();
        assert_eq!(reply.status(), 200, "{}", reply.text());
        Scrape::parse(&reply.text())
    }

    /// The access log so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<String> {
        self.child.stdout.lines()
    }

    /// Waits for an access log line that holds all of `texts`.
    pub fn logged(&self, texts: &[&str]) -> String {
        self.child.stdout.wait_for_line(&format!("{texts:?}"), |line| texts.iter().all(|text| line.contains(text)))
    }

    /// The JSON lines on stderr that have an `event`.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.child.stderr.lines();
        let values = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        values.filter(|value| value["event"].is_string()).collect()
    }

    /// Waits for a refusal line on stderr that `fits`, and gives it.
    pub fn refusal(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait::until(&format!("a refusal line with {what}"), wait::SOON, || {
            self.events().into_iter().find(|event| fits(event))
        })
    }

    /// Waits for a refusal line that has `text` in one of its values.
    pub fn refused(&self, text: &str) -> Value {
        self.refusal(text, |event| event.to_string().contains(text))
    }

    /// SIGHUP.
    pub fn reload(&self) {
        self.child.signal("HUP");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.child.signal("TERM");
    }

    /// Waits for the end after [`Sidecar::terminate`].
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        self.child.wait(limit).unwrap_or_else(|| panic!("still running {limit:?} after it was told to end"))
    }
}

/// `sekisho ARGS` in a folder, to its end.
pub fn sekisho(dir: &Path, args: &[&str]) -> Output {
    Command::new(tools::sekisho()).args(args).current_dir(dir).output().unwrap()
}

fn command(dir: &Path, name: &str) -> Command {
    let mut command = Command::new(tools::sekisho());
    command.args(["proxy", "-c", &format!("{name}.toml")]).current_dir(dir);
    command
}

/// The address that a file gives for a key of `[proxy]`, with any-address read as loopback.
fn address(text: &str, key: &str) -> SocketAddr {
    let line = text.lines().find(|line| line.split('=').next().is_some_and(|name| name.trim() == key));
    let line = line.unwrap_or_else(|| panic!("the file names no {key} address"));
    let value = line.split('"').nth(1).unwrap_or_else(|| panic!("{key} is no string in {line:?}"));
    value.replace("0.0.0.0:", "127.0.0.1:").parse().unwrap_or_else(|error| panic!("{key} {value}: {error}"))
}

//! The roles that this program plays beside the bench itself: origin, sensor, and the load generators.
//!
//! A load generator is told everything in one JSON argument, runs on the core of the load, and prints one JSON line. It
//! reads the costs of the sidecars itself, at both ends of the window in which it counts. A wrong response in any task or
//! thread ends it with that response on stderr, and the run is worthless.

pub(crate) mod bulk;
pub(crate) mod closed;
pub(crate) mod h2;
pub(crate) mod h2_origin;
pub(crate) mod handshake;
pub(crate) mod idle;
pub(crate) mod mix;
pub(crate) mod open;
pub(crate) mod origin;
pub(crate) mod reply;
pub(crate) mod sensor;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::options::{CONNECTIONS, RATE};
use mix::Mix;

/// What a load generator is told.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// The processes of caller, callee and origin.
    pub(crate) pids: [u32; 3],
    pub(crate) connections: usize,
    /// Requests per second, where the rate is fixed.
    pub(crate) rate: u32,
    pub(crate) mix: Mix,
    /// What kind of handshake, of connection; whether to count system calls.
    pub(crate) kind: String,
}

impl Load {
    /// 64 connections that ask for orders.
    pub(crate) fn new(to: SocketAddr, pids: [u32; 3], warm_up: Duration, window: Duration) -> Self {
        let kind = String::new();
        Self { to, warm_up, window, pids, connections: CONNECTIONS, rate: RATE, mix: Mix::Orders, kind }
    }

    /// As one argument of a process.
    pub(crate) fn to_json(&self) -> String {
        let milliseconds = [self.warm_up, self.window].map(|time| u64::try_from(time.as_millis()).unwrap());
        let (mix, of) = self.mix.to_words();
        json!({
            "to": self.to.to_string(), "times": milliseconds, "pids": self.pids, "connections": self.connections,
            "rate": self.rate, "mix": mix, "of": of, "kind": self.kind,
        })
        .to_string()
    }

    fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap();
        let number = |value: &Value| value.as_u64().unwrap();
        let milliseconds = |index: usize| Duration::from_millis(number(&value["times"][index]));
        Self {
            to: value["to"].as_str().unwrap().parse().unwrap(),
            warm_up: milliseconds(0),
            window: milliseconds(1),
            pids: [0, 1, 2].map(|index| u32::try_from(number(&value["pids"][index])).unwrap()),
            connections: usize::try_from(number(&value["connections"])).unwrap(),
            rate: u32::try_from(number(&value["rate"])).unwrap(),
            mix: Mix::of_words(value["mix"].as_str().unwrap(), usize::try_from(number(&value["of"])).unwrap()),
            kind: value["kind"].as_str().unwrap().to_owned(),
        }
    }
}

/// Plays a role until it is over or the process is killed.
pub(crate) fn play(role: &str, argument: &str) {
    match role {
        "origin" => return origin::serve(argument.parse().unwrap()),
        "sensor" => return sensor::serve(argument.parse().unwrap()),
        "deaf-sensor" => return sensor::ignore(argument.parse().unwrap()),
        _ => {}
    }
    end_at_the_first_panic();
    let load = Load::parse(argument);
    match role {
        "closed" => closed::run(&load),
        "open" => open::run(&load),
        "bulk" => bulk::run(&load),
        "h2" => h2::run(&load),
        "handshake" => handshake::run(&load),
        "idle" => idle::run(&load),
        other => panic!("no role {other}"),
    }
}

fn end_at_the_first_panic() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::exit(1)
    }));
}

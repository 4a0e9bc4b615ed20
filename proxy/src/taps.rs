//! The taps that run for the snapshot in force: started when a file names them, kept over reloads that leave what they were
//! started with as it is, stopped when a file no longer has them.

use crate::shadow::Shadow;
use crate::{connection::Connection, live::Live, tap_selection::Selection};
use config::{Sensor, TapKind, TapSettings};
use policy::PathCase;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// A tap as the data path sees it.
pub(crate) struct Tapped {
    pub(crate) tap: tap::Tap,
    pub(crate) selection: Selection,
    /// Bytes of each body that are copied.
    pub(crate) body: usize,
    /// Bytes of each direction of a stream that are copied.
    pub(crate) stream: u64,
    /// The server's port in the copy, if it is not its own.
    pub(crate) port: Option<u16>,
    pub(crate) kind: TapKind,
}

impl Tapped {
    pub(crate) fn new(tap: tap::Tap, settings: &TapSettings, case: PathCase) -> Self {
        Self {
            tap,
            selection: Selection::new(&settings.select, case),
            body: usize::try_from(settings.body.bytes()).unwrap_or(usize::MAX),
            stream: settings.stream.bytes(),
            port: settings.port,
            kind: settings.sensor.kind(),
        }
    }

    /// The server end of the copy of a connection.
    pub(crate) fn server(&self, connection: &Connection, live: &Live) -> SocketAddr {
        let mut server = connection.server_for_tap(live);
        if let Some(port) = self.port {
            server.set_port(port);
        }
        server
    }
}

/// Running taps, with the settings each was started for.
#[derive(Default)]
pub(crate) struct Taps {
    running: Vec<(TapSettings, tap::Tap, tap::Running)>,
}

/// How long a tap may take to send what it has when it is stopped.
const STOP: Duration = Duration::from_secs(2);

impl Taps {
    /// Makes exactly the taps of `wanted` run. Nothing is changed on an error.
    pub(crate) fn set(&mut self, wanted: &[TapSettings]) -> io::Result<Vec<tap::Tap>> {
        let mut started = Vec::new();
        for settings in wanted {
            if !self.running.iter().any(|(running, _, _)| running.runs_on_as(settings)) {
                let (tap, running) = tap::Tap::start(started_as(settings)?)
                    .map_err(|error| io::Error::new(error.kind(), format!("tap {}: {error}", settings.name)))?;
                started.push((settings.clone(), tap, running));
            }
        }
        let (keep, stop): (Vec<_>, Vec<_>) = self
            .running
            .drain(..)
            .partition(|(running, _, _)| wanted.iter().any(|settings| running.runs_on_as(settings)));
        self.running = keep;
        self.running.extend(started);
        if !stop.is_empty() {
            // Off this thread: a tap with a full queue takes its time, and the new rules must not wait for it.
            let _ = std::thread::Builder::new().name("tap-stop".into()).spawn(move || {
                for (_, _, running) in stop {
                    running.stop(STOP);
                }
            });
        }
        // In the order of the file.
        Ok(wanted
            .iter()
            .filter_map(|settings| self.running.iter().find(|(running, _, _)| running.runs_on_as(settings)))
            .map(|(_, tap, _)| tap.clone())
            .collect())
    }

    /// Taps whose sensor is a name, for resolving it again and again.
    pub(crate) fn named(&self) -> Vec<(String, u16, tap::Tap)> {
        let remote = |(settings, tap, _): &(TapSettings, tap::Tap, tap::Running)| {
            let (host, port) = settings.sensor.remote()?;
            host.parse::<IpAddr>().is_err().then(|| (host.to_owned(), port, tap.clone()))
        };
        self.running.iter().filter_map(remote).collect()
    }

    /// Sends what is waiting and stops all.
    pub(crate) fn stop(&mut self) {
        for (_, _, running) in self.running.drain(..) {
            running.stop(STOP);
        }
    }
}

/// What the tap is told at its start.
fn started_as(settings: &TapSettings) -> io::Result<tap::Settings> {
    let refuse =
        |what: String| Err(io::Error::new(io::ErrorKind::Unsupported, format!("tap {}: {what}", settings.name)));
    if let Some(key) = unserved(settings) {
        return refuse(format!("`{key}` is not yet supported"));
    }
    let addr = settings.sensor.remote().and_then(|(host, port)| Some(SocketAddr::new(host.parse().ok()?, port)));
    let sensor = match &settings.sensor {
        Sensor::Vxlan { vni, .. } => tap::Sensor::vxlan(addr, *vni),
        Sensor::Shadow { .. } => tap::Sensor::Shadow { addr, repeater: Arc::new(Shadow::start(&settings.name)?) },
        other => return refuse(format!("a sensor of `{}` is not yet supported", other.scheme())),
    };
    let mut started = tap::Settings::new(settings.name.clone(), sensor);
    started.mtu = settings.mtu;
    started.queue_bytes = usize::try_from(settings.queue).unwrap_or(usize::MAX);
    // Whoever collects the bodies cuts them, and may do so otherwise after a reload.
    started.max_body = usize::MAX;
    started.rate_cap = settings.rate_cap;
    Ok(started)
}

/// A key that is written and that no room serves yet: better no tap than one that copies what it should not.
fn unserved(settings: &TapSettings) -> Option<&'static str> {
    let TapSettings { vlan, redact, pass, .. } = settings;
    let keys = [("vlan", vlan.is_some()), ("redact", !redact.is_empty()), ("pass", !pass.is_empty())];
    keys.into_iter().find(|(_, written)| *written).map(|(key, _)| key)
}

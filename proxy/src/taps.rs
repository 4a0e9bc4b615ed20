//! The taps that run for the snapshot in force: started when a file names them, kept over reloads that leave what they were
//! started with as it is, stopped when a file no longer has them.

use crate::{
    connection::Connection,
    live::{Current, Live},
    shadow::Shadow,
    tap_selection::Selection,
    tap_tls::Secured,
};
use config::{Redaction, Sensor, TapHttp, TapKind, TapSettings};
use identity::Credentials;
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
    /// Bytes of each body that are copied: none for records, which hold none.
    pub(crate) body: usize,
    /// Bytes of each body that a copy with these settings shows.
    pub(crate) shown: u64,
    /// Bytes of each direction of a stream that are copied.
    pub(crate) stream: u64,
    /// The server's port in the copy, if it is not its own.
    pub(crate) port: Option<u16>,
    pub(crate) kind: TapKind,
}

impl Tapped {
    pub(crate) fn new(tap: tap::Tap, settings: &TapSettings, case: PathCase) -> Self {
        let shown = settings.body.bytes();
        let body = usize::try_from(shown).unwrap_or(usize::MAX);
        Self {
            tap,
            selection: Selection::new(&settings.select, case),
            body: if settings.sensor.kind() == TapKind::Records { 0 } else { body },
            shown,
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
pub(crate) struct Taps {
    /// In force, for taps that dial over mutual TLS.
    credentials: Arc<Current<Credentials>>,
    running: Vec<(TapSettings, tap::Tap, tap::Running)>,
}

/// How long a tap may take to send what it has when it is stopped.
const STOP: Duration = Duration::from_secs(2);

impl Taps {
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials: Arc::new(Current::new(credentials)), running: Vec::new() }
    }

    /// Newer credentials, for the connections to come.
    pub(crate) fn renew(&self, credentials: Arc<Credentials>) {
        self.credentials.publish(credentials);
    }

    /// Makes exactly the taps of `wanted` run. Nothing is changed on an error.
    pub(crate) fn set(&mut self, wanted: &[TapSettings]) -> io::Result<Vec<tap::Tap>> {
        let mut started = Vec::new();
        for settings in wanted {
            if !self.running.iter().any(|(running, _, _)| running.runs_on_as(settings)) {
                let alike = |(other, tap, _): &(TapSettings, tap::Tap, tap::Running)| {
                    let is_alike = (&other.redact, &other.pass) == (&settings.redact, &settings.pass);
                    is_alike.then(|| Arc::clone(tap.redaction()))
                };
                // One for all that mask the same: they share the text of a head.
                let redaction = self.running.iter().chain(&started).find_map(alike);
                let redaction = redaction.unwrap_or_else(|| redaction_of(settings));
                let mut told = started_as(settings, redaction, &self.credentials)?;
                if let tap::Sensor::PcapListen { takes_over, .. } = &mut told.sensor {
                    // The one it replaces stops when all is well.
                    *takes_over = self.running.iter().any(|(running, ..)| running.sensor == settings.sensor);
                }
                let (tap, running) = tap::Tap::start(told)
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
fn started_as(
    settings: &TapSettings,
    redaction: Arc<tap::Redaction>,
    credentials: &Arc<Current<Credentials>>,
) -> io::Result<tap::Settings> {
    let sensor = sensor(settings, credentials)?;
    let mut started = tap::Settings::new(settings.name.clone(), sensor);
    started.workload = credentials.load().svid().id().to_string();
    started.mtu = settings.mtu;
    started.vlan = settings.vlan;
    started.http = match settings.http {
        TapHttp::Http1 => tap::Mapping::Http1,
        TapHttp::H2c => tap::Mapping::H2c,
    };
    started.redaction = redaction;
    started.queue_bytes = usize::try_from(settings.queue).unwrap_or(usize::MAX);
    // Whoever collects the bodies cuts them, and may do so otherwise after a reload.
    started.max_body = usize::MAX;
    started.rate_cap = settings.rate_cap;
    Ok(started)
}

fn redaction_of(settings: &TapSettings) -> Arc<tap::Redaction> {
    fn secret(name: &Redaction) -> tap::Secret<'_> {
        match name {
            Redaction::Header(name) => tap::Secret::Header(name),
            Redaction::Cookie(name) => tap::Secret::Cookie(name),
            Redaction::Query(name) => tap::Secret::Query(name),
            Redaction::Json(name) => tap::Secret::Json(name),
        }
    }
    tap::Redaction::new(settings.redact.iter().map(secret), settings.pass.iter().map(secret))
}

/// Where the copy goes; `None` for a kind of tap that no room serves yet.
fn sensor(settings: &TapSettings, credentials: &Arc<Current<Credentials>>) -> io::Result<tap::Sensor> {
    let sensor = &settings.sensor;
    // A name is resolved later.
    let addr = sensor.remote().and_then(|(host, port)| Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port)));
    Ok(match sensor {
        Sensor::Vxlan { vni, .. } => tap::Sensor::Vxlan { addr, vni: *vni },
        Sensor::Pcap { .. } => tap::Sensor::Pcap { addr },
        Sensor::PcapListen { address } => tap::Sensor::PcapListen { addr: *address, takes_over: false },
        Sensor::PcapMtls { id, .. } => {
            let secured = Secured { credentials: Arc::clone(credentials), receiver: id.clone() };
            tap::Sensor::PcapTls { addr, connector: Arc::new(secured) }
        }
        Sensor::Pcapng { folder, size, files } => tap::Sensor::Ring { dir: folder.clone(), size: *size, files: *files },
        Sensor::Shadow { .. } => tap::Sensor::Shadow { addr, repeater: Arc::new(Shadow::start(&settings.name)?) },
        Sensor::JsonStdout => tap::Sensor::JsonStdout,
        Sensor::JsonFile { path } => tap::Sensor::JsonFile { path: path.clone() },
        Sensor::Syslog { .. } => tap::Sensor::Syslog { addr },
    })
}

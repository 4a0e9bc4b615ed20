//! The identity for others: Workload API and SDS on a unix socket.

use crate::say::Say;
use agent::{Api, Callers, Material, Observer, Readers, Settings, Surroundings};
use config::AgentSettings;
use rpc::{Limits, Process, Refused, Watcher};
use serde_json::json;
use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};

/// Serves until `stop` becomes true.
///
/// # Errors
/// A sentence: the socket cannot be had.
pub(crate) fn serve(
    settings: &AgentSettings,
    identity: watch::Receiver<Option<Arc<Material>>>,
    readers: &Readers,
    say: Say,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", settings.socket.display());
    if let Some(folder) = settings.socket.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|error| at(&error))?;
    }
    // Anybody may knock: who is let in is decided by what the kernel says of the process, not by the file's mode.
    let listener = rpc::bind_unix(&settings.socket, 0o666).map_err(|error| at(&error))?;
    let own = fs::metadata(Path::new("/proc/self")).map_err(|error| at(&error))?.uid();
    let callers =
        Callers::only(own).and_users(settings.users.iter().copied()).and_groups(settings.groups.iter().copied());
    let told = Arc::new(Told(Arc::clone(&say)));
    let routes = agent::routes(
        identity,
        Settings::default(),
        Surroundings::real(),
        Arc::clone(&told) as Arc<dyn Observer>,
        readers,
    );
    say("socket_open", json!({ "socket": settings.socket }));
    let limits = Limits { connections: 1024, drain: Duration::from_secs(1), ..Limits::default() };
    let admits = Arc::new(move |process| callers.admit(process));
    Ok(tokio::spawn(rpc::serve_unix(listener, admits, routes, limits, told, stop)))
}

/// Events of the socket, as lines.
struct Told(Say);

impl Observer for Told {
    fn streams(&self, _: Api, _: usize) {}

    fn served(&self, api: Api, process: Process, version: &str) {
        (self.0)(
            "identity_served",
            json!({ "api": api.label(), "uid": process.uid, "pid": process.pid, "version": version }),
        );
    }

    fn refused(&self, api: Api, process: Option<Process>, why: &str) {
        let uid = process.map(|process| process.uid);
        (self.0)("identity_refused", json!({ "api": api.label(), "uid": uid, "detail": why }));
    }

    fn rejected(&self, process: Process, version: &str, why: &str) {
        (self.0)("identity_rejected", json!({ "uid": process.uid, "version": version, "detail": why }));
    }

    fn stale(&self, _: Process) {}
}

impl Watcher for Told {
    fn refused(&self, _: Option<SocketAddr>, why: &Refused) {
        if let Refused::Process(why) = why {
            (self.0)("caller_refused", json!({ "detail": why }));
        }
    }

    fn open(&self, _: usize) {}
}

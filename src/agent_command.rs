//! `sekisho agent`: an identity in, a socket out, for workloads that bring their own proxy.

use crate::{
    cli::{self, EXIT_CONFIG, EXIT_FAILURE},
    following::Following,
    say, socket,
};
use serde_json::json;
use std::{io::IsTerminal, process::ExitCode};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Runs until a signal ends it.
pub(crate) fn run(arguments: &cli::Agent) -> ExitCode {
    let snapshot = match config::load(&arguments.config) {
        Ok(snapshot) => snapshot,
        Err(report) => {
            err_text!("{}", report.render(std::io::stderr().is_terminal()));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            err!("sekisho: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    match runtime.block_on(serve(&snapshot)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            err!("sekisho: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

async fn serve(snapshot: &config::Snapshot) -> Result<(), String> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return Err("signals cannot be received".to_owned());
    };
    let (stop, stopped) = watch::channel(false);
    let mut following = Following::begin(&snapshot.identity, &snapshot.workload)?;
    // The socket is there at once: who comes early is told to wait, rather than that nobody is at home.
    let serving =
        socket::serve(&snapshot.agent, following.identity.clone(), &following.readers, say::events(), stopped)?;
    say::event("started", json!({ "workload": snapshot.workload.as_str() }));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            changed = following.identity.changed() => {
                if changed.is_err() { break }
                if let Some(material) = &*following.identity.borrow_and_update() {
                    say::event("identity", json!({
                        "id": material.id().as_str(),
                        "serial": material.credentials().svid().serial(),
                        "not_after": proxy::rfc3339(material.expiry()),
                    }));
                }
            }
            changed = following.status.changed() => {
                if changed.is_err() { break }
                if let Some(fault) = &following.status.borrow_and_update().fault {
                    say::event("identity_source_failed", json!({ "detail": fault.text }));
                }
            }
        }
    }
    stop.send_replace(true);
    following.leave().await;
    let _ = serving.await;
    say::event("stopped", json!({}));
    Ok(())
}

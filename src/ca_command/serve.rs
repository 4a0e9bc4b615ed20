//! `sekisho ca serve`: the CA as a server.

use crate::{
    cli::{self, EXIT_CONFIG, EXIT_FAILURE},
    say,
};
use ca_server::Server;
use std::{io::IsTerminal, process::ExitCode, time::SystemTime};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Runs until a signal ends it.
pub(super) fn serve(arguments: &cli::CaServe) -> ExitCode {
    let settings = match config::load_ca(&arguments.config) {
        Ok(settings) => settings,
        Err(report) => {
            err_text!("{}", report.render(std::io::stderr().is_terminal()));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            err!("sekisho: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn run(settings: &config::CaSettings) -> Result<(), String> {
    let passphrase = settings.passphrase_file.as_deref().map(super::passphrase).transpose()?;
    let server = Server::open(settings, passphrase, say::events(), SystemTime::now());
    let server = server.map_err(|error| error.to_string())?;
    let descriptors = sys::descriptors::raise();
    // Opening read the log, which took memory that nothing needs again.
    sys::memory::release();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            return Err("signals cannot be received".to_owned());
        };
        let (stop, stopped) = watch::channel(false);
        let mut running = tokio::spawn(server.run(descriptors, stopped));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            ended = &mut running => return ended.map_err(|error| error.to_string())?.map_err(|error| error.to_string()),
        }
        stop.send_replace(true);
        running.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    })
}

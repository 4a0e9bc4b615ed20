//! `sekisho tap receive`: the other end of `pcap+mtls`.
//!
//! Senders in, each on a thread of its own; one order of all frames; outputs, each on a thread of its own. Nothing is kept for a
//! sender beyond one frame and one read: an output that is slower makes the senders wait, and their taps drop whole exchanges.

mod merge;
mod output;
mod sender;

use crate::{
    cli::{self, EXIT_CONFIG, EXIT_FAILURE, Format},
    following::Following,
    say,
};
use config::IdentitySource;
use identity::{SpiffeId, TrustDomain};
use merge::Merge;
use output::Output;
use policy::IdPattern;
use sender::{Door, Guard};
use serde_json::json;
use std::{io::IsTerminal, net::TcpListener, path::Path, process::ExitCode, sync::Arc, thread, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::timeout,
};

/// Why it did not run, and with which code it ends.
type Refusal = (u8, String);

/// Runs one of the tap's commands.
pub(crate) fn run(command: &cli::Tap) -> ExitCode {
    let cli::Tap::Receive(arguments) = command;
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (EXIT_FAILURE, error.to_string()))
        .and_then(|runtime| runtime.block_on(receive(arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            err!("sekisho: {error}");
            ExitCode::from(code)
        }
    }
}

async fn receive(arguments: &cli::TapReceive) -> Result<(), Refusal> {
    let wrong = |error: String| (EXIT_CONFIG, error);
    let failed = |error: String| (EXIT_FAILURE, error);
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return Err(failed("signals cannot be received".to_owned()));
    };
    let outputs = arguments.out.iter().map(|text| output::parse(text)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(wrong("--out stdout can be given once".to_owned()));
    }
    let in_use = outputs.iter().any(output::Wanted::is_stdout);
    let mut identity = identity(arguments).map_err(wrong)?;
    let guard = match &mut identity {
        None => Guard::Plain,
        Some((following, patterns)) => {
            let say = |why: &str| say::event("identity_source_failed", json!({ "detail": why }));
            let first = tokio::select! {
                material = following.first(say) => material,
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            };
            Guard::mutual(first.credentials(), patterns.clone()).map_err(failed)?
        }
    };
    let listener = TcpListener::bind(arguments.listen)
        .map_err(|error| failed(format!("cannot listen on {}: {error}", arguments.listen)))?;
    let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
    let broken = Arc::new(Notify::new());
    let outputs: Vec<Output> = outputs
        .into_iter()
        .map(|wanted| Output::start(wanted, Arc::clone(&broken)))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let merge = Arc::new(Merge::new(outputs));
    let door = Arc::new(Door::new(guard, arguments.max_senders, Arc::clone(&merge)));
    let for_thread = Arc::clone(&door);
    thread::Builder::new()
        .name("accept".into())
        .spawn(move || for_thread.accept(&listener))
        .map_err(|error| failed(error.to_string()))?;
    say::event("started", json!({ "listen": address.to_string(), "plain": arguments.plain }));

    let show = || show(&merge, &door, arguments.format, in_use);
    let mut ticks = tokio::time::interval(arguments.every.unwrap_or(NEVER));
    ticks.tick().await;
    let mut done = Ok(());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = broken.notified() => {
                done = Err(failed("the reader of stdout has gone".to_owned()));
                break;
            }
            _ = ticks.tick() => if arguments.every.is_some() { show() },
            () = renewed(&mut identity, &door) => {}
        }
    }
    door.leave();
    let leaving = async {
        while door.senders() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = timeout(LEAVE, leaving) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    merge.finish(LEAVE);
    if let Some((following, _)) = identity {
        following.leave().await;
    }
    show();
    done
}

/// Where our identity comes from, and whom we let in. `None` with `--plain`.
fn identity(arguments: &cli::TapReceive) -> Result<Option<(Following, Vec<IdPattern>)>, String> {
    if arguments.plain {
        return Ok(None);
    }
    let (source, workload) = match (&arguments.config, &arguments.cert, &arguments.key, &arguments.bundle) {
        (Some(file), ..) => from_file(file)?,
        (None, Some(cert), Some(key), Some(bundle)) => {
            let source = IdentitySource::Files { cert: cert.clone(), key: key.clone(), bundle: bundle.clone() };
            (source, named_in(cert)?)
        }
        _ => {
            return Err(
                "who are we? give --cert, --key and --bundle, or -c FILE with [identity], or --plain".to_owned()
            );
        }
    };
    let own = TrustDomain::parse(workload.trust_domain()).map_err(|error| error.to_string())?;
    let pattern = |text: &String| IdPattern::parse(text, &own).map_err(|error| format!("--from {text}: {error}"));
    let patterns = arguments.from.iter().map(pattern).collect::<Result<_, _>>()?;
    Ok(Some((Following::begin(&source, &workload)?, patterns)))
}

fn from_file(file: &Path) -> Result<(IdentitySource, SpiffeId), String> {
    let snapshot = config::load(file).map_err(|report| report.render(std::io::stderr().is_terminal()))?;
    Ok((snapshot.identity.clone(), snapshot.workload.clone()))
}

/// The identity in a certificate file; it stays ours as long as we run.
fn named_in(cert: &Path) -> Result<SpiffeId, String> {
    let say = |error: String| format!("{}: {error}", cert.display());
    let pem = crate::credentials::read(cert)?;
    let chain = identity::chain_from_pem(&pem).map_err(|error| say(error.to_string()))?;
    let leaf = chain.first().ok_or_else(|| say("no certificate in it".to_owned()))?;
    let svid = identity::Svid::from_leaf(leaf).map_err(|error| say(error.to_string()))?;
    Ok(svid.id().clone())
}

/// Waits for newer credentials and puts them in force.
async fn renewed(identity: &mut Option<(Following, Vec<IdPattern>)>, door: &Door) {
    let Some((following, patterns)) = identity else {
        return std::future::pending().await;
    };
    tokio::select! {
        changed = following.identity.changed() => {
            if changed.is_err() {
                return std::future::pending().await;
            }
            let material = following.identity.borrow_and_update().clone();
            if let Some(material) = material {
                match Guard::mutual(material.credentials(), patterns.clone()) {
                    Ok(guard) => door.renew(guard),
                    Err(error) => say::event("identity_source_failed", json!({ "detail": error })),
                }
            }
        }
        changed = following.status.changed() => {
            if changed.is_err() {
                return std::future::pending().await;
            }
            if let Some(fault) = &following.status.borrow_and_update().fault {
                say::event("identity_source_failed", json!({ "detail": fault.text }));
            }
        }
    }
}

fn show(merge: &Merge, door: &Door, format: Format, stdout_in_use: bool) {
    let counters = merge.counters(door.counters());
    let text = match format {
        Format::Json => counters.to_string(),
        Format::Human => merge::in_words(&counters),
    };
    if stdout_in_use {
        err!("{text}");
    } else {
        out!("{text}");
    }
}

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_secs(365 * 86_400);
/// How long the senders, and then the outputs, may take at the end.
const LEAVE: Duration = Duration::from_secs(2);

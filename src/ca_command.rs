//! `sekisho ca`: make a root, issue certificates, verify the audit log.

use crate::{
    cli::{self, EXIT_FAILURE},
    log_command,
};
use ca::{
    Authority, Issued,
    log::{self, Act, Event, Evidence, Issue, Lineage, Log, LogKey, What},
};
use identity::{SpiffeId, TrustDomain};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};

/// Lifetime of the intermediate that signs.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// Runs one of the CA's commands.
pub(crate) fn run(command: &cli::Ca) -> ExitCode {
    let done = match command {
        cli::Ca::Init(arguments) => init(arguments),
        cli::Ca::Issue(arguments) => issue(arguments),
        cli::Ca::Log(cli::CaLog::Verify(arguments)) => return log_command::verify(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            err!("sekisho: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn init(arguments: &cli::CaInit) -> Result<(), String> {
    let trust_domain = TrustDomain::parse(&arguments.trust_domain).map_err(|error| error.to_string())?;
    let passphrase = arguments.passphrase_file.as_deref().map(passphrase).transpose()?;
    let now = SystemTime::now();
    let authority = Authority::init(&trust_domain, now).map_err(|error| error.to_string())?;
    authority.save(&arguments.dir, passphrase.as_deref()).map_err(|error| error.to_string())?;
    let log_key = log::create(&arguments.dir, &trust_domain, passphrase.as_deref(), now);
    let log_key = log_key.map_err(|error| format!("{error}; remove the folder and begin again"))?;
    let root = log::root_id(&authority.root_pem()).ok_or("the root has no key id")?;
    let (detail, bundle, by) = ("".into(), None, user());
    let added = Act { what: What::RootAdded, subject: root, detail, bundle, by };
    let log = open_log(&arguments.dir, passphrase.as_deref(), now, false)?;
    log.append_and_wait(now, Event::Act(Box::new(added))).map_err(|error| error.to_string())?;
    let dir = arguments.dir.display();
    out!("root of {trust_domain} in {dir}");
    out!("audit log in {dir}/log, its key {}", log_key.id());
    if passphrase.is_none() {
        out!(
            "the keys {dir}/root.key and {dir}/log/log.key are not encrypted (mode 0600); use --passphrase-file to encrypt them"
        );
    }
    Ok(())
}

fn issue(arguments: &cli::CaIssue) -> Result<(), String> {
    let id = SpiffeId::parse(&arguments.id).map_err(|error| error.to_string())?;
    if arguments.name.is_empty() || arguments.name.contains('/') || arguments.name.starts_with('.') {
        return Err(format!("--name: `{}` is not a file name", arguments.name));
    }
    if arguments.ttl > LONGEST {
        return Err("--ttl: at most 7d: the intermediate that signs the certificate lives no longer".to_owned());
    }
    let passphrase = arguments.passphrase_file.as_deref().map(passphrase).transpose()?;
    let now = SystemTime::now();
    let authority = Authority::load(&arguments.dir, passphrase.as_deref(), now).map_err(|error| error.to_string())?;
    let log = open_log(&arguments.dir, passphrase.as_deref(), now, arguments.accept_clock)?;
    let issuer = authority.intermediate(now).map_err(|error| error.to_string())?;
    let (issued, key): (Issued, Option<String>) = match &arguments.csr {
        None => {
            let (issued, key) =
                issuer.issue_with_new_key(&id, arguments.ttl, now).map_err(|error| error.to_string())?;
            (issued, Some(key))
        }
        Some(path) => {
            let csr = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let key = ca::parse_csr(&csr, &id).map_err(|error| format!("{}: {error}", path.display()))?;
            (issuer.issue(&id, &key, arguments.ttl, now).map_err(|error| error.to_string())?, None)
        }
    };
    // Nothing leaves that is not in the log.
    record(&log, &issued, &authority, now)?;
    fs::create_dir_all(&arguments.out).map_err(|error| format!("{}: {error}", arguments.out.display()))?;
    let path = |suffix: &str| arguments.out.join(format!("{}.{suffix}", arguments.name));
    if let Some(key) = &key {
        write(&path("key"), key, 0o600)?;
    }
    write(&path("pem"), &issued.chain_pem, 0o644)?;
    write(&arguments.out.join("roots.pem"), &authority.root_pem(), 0o644)?;
    let until = proxy::rfc3339(issued.not_after);
    out!("{id}: {} serial {} until {until}", path("pem").display(), issued.serial);
    Ok(())
}

fn record(log: &Log, issued: &Issued, authority: &Authority, now: SystemTime) -> Result<(), String> {
    let evidence = Evidence::Operator { user: user() };
    let issue = Issue::of_chain(&issued.chain_pem, &authority.root_pem(), evidence, Lineage::Begins, None);
    let issue = issue.ok_or("the certificate that was made cannot be read; nothing was issued")?;
    let kept = log.append_and_wait(now, Event::Issued(Box::new(issue)));
    kept.map(|_| ()).map_err(|error| format!("{error}; nothing was issued"))
}

/// Commands of one folder wait for each other; a server that has it does not end.
fn open_log(dir: &Path, passphrase: Option<&[u8]>, now: SystemTime, accept_clock: bool) -> Result<Log, String> {
    let settings = log::Settings { accept_clock, patience: PATIENCE, ..log::Settings::default() };
    let key = LogKey::load(dir, passphrase).map_err(|error| error.to_string())?;
    Log::open(dir, key, now, settings).map(|(log, _)| log).map_err(|error| error.to_string())
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Who runs this command, from the owner of our own entry in `/proc`.
fn user() -> log::Text {
    let uid = fs::metadata("/proc/self").map(|about| about.uid().to_string());
    log::Text::bounded(&format!("uid {}", uid.as_deref().unwrap_or("unknown")))
}

/// The first line of a file, without its end.
fn passphrase(path: &Path) -> Result<Vec<u8>, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(format!("{}: the first line is empty", path.display()));
    }
    Ok(line.to_vec())
}

/// Writes beside and renames: a reader sees the old file or the new one, never half of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = (|| -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        format!("{}: {error}", path.display())
    })
}

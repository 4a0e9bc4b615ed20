//! `sekisho ca`: make a root, issue certificates, replace the root, deny, recover, verify the audit log.

mod deny;
mod log_verify;
mod rotate;
mod running;
mod serve;
mod token;

use crate::{
    check,
    cli::{self, EXIT_FAILURE, EXIT_NOT_NOW},
};

use ca::{
    Authority, CaError, Issued, Keys,
    attest::Attested,
    denied::{self, DenyList},
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
        cli::Ca::Init(arguments) => init(arguments).map_err(Failed::Other),
        cli::Ca::Issue(arguments) => issue(arguments).map_err(Failed::Other),
        cli::Ca::Serve(arguments) => return serve::serve(arguments),
        cli::Ca::Check(arguments) => return check::ca(arguments),
        cli::Ca::Token(arguments) => token::token(arguments),
        cli::Ca::Rotate(arguments) => rotate::rotate(arguments),
        cli::Ca::Deny(arguments) => deny::deny(arguments),
        cli::Ca::Recover(arguments) => rotate::recover(arguments),
        cli::Ca::Log(cli::CaLog::Verify(arguments)) => return log_verify::verify(arguments),
    };
    let (error, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failed::NotNow(error)) => (error, EXIT_NOT_NOW),
        Err(Failed::Other(error)) => (error, EXIT_FAILURE),
    };
    err!("sekisho: {error}");
    ExitCode::from(code)
}

/// Why a command did not do its work.
enum Failed {
    /// The rotation does not allow it, or not yet.
    NotNow(String),
    /// Anything else.
    Other(String),
}

impl From<CaError> for Failed {
    fn from(error: CaError) -> Self {
        match error {
            CaError::Refused(_) => Self::NotNow(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self::Other(error)
    }
}

impl From<&str> for Failed {
    fn from(error: &str) -> Self {
        Self::Other(error.to_owned())
    }
}

/// What opens the root keys, as the command line says.
struct Opened<'a> {
    passphrase: Option<Vec<u8>>,
    secret: Option<&'a Path>,
}

impl<'a> Opened<'a> {
    fn from(keys: &'a cli::CaKeys) -> Result<Self, String> {
        let passphrase = keys.passphrase_file.as_deref().map(passphrase).transpose()?;
        Ok(Self { passphrase, secret: keys.keys.as_deref() })
    }

    fn keys(&self) -> Keys<'_> {
        Keys { passphrase: self.passphrase.as_deref(), secret: self.secret }
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
    let root = log::Text::bounded(&authority.root_id().to_string());
    let (detail, bundle, by) = ("".into(), None, user());
    let added = Act { what: What::RootAdded, subject: root, detail, bundle, by };
    let log = open_log(&arguments.dir, passphrase.as_deref(), now, false)?;
    log.append_and_wait(now, Event::Act(Box::new(added))).map_err(|error| error.to_string())?;
    let dir = arguments.dir.display();
    out!("root of {trust_domain} in {dir}");
    out!("audit log in {dir}/log, its key {}", log_key.id());
    if passphrase.is_none() {
        let root = authority.root_id();
        out!(
            "the keys {dir}/roots/{root}/root.key and {dir}/log/log.key are not encrypted (mode 0600); use --passphrase-file to encrypt them"
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
    let opened = Opened::from(&arguments.keys)?;
    let now = SystemTime::now();
    let authority = Authority::open(&arguments.dir, opened.keys(), now).map_err(|error| error.to_string())?;
    let log = open_log(&arguments.dir, opened.passphrase.as_deref(), now, arguments.accept_clock)?;
    let issuer = authority.intermediate(now).map_err(|error| error.to_string())?;
    let denied = DenyList::load(&arguments.dir).map_err(|error| error.to_string())?;
    check_denied(&denied, &id, None, now)?;
    let attested = Attested::by_operator(id.clone());
    let (issued, key): (Issued, Option<String>) = match &arguments.csr {
        None => {
            let (issued, key) =
                issuer.issue_with_new_key(&attested, arguments.ttl, now).map_err(|error| error.to_string())?;
            (issued, Some(key))
        }
        Some(path) => {
            let csr = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let key = ca::parse_csr(&csr, &id)
                .map(|requested| requested.spki().to_vec())
                .map_err(|error| format!("{}: {error}", path.display()))?;
            check_denied(&denied, &id, Some(&key), now)?;
            (issuer.issue(&attested, &key, arguments.ttl, now).map_err(|error| error.to_string())?, None)
        }
    };
    // Nothing leaves that is not in the log.
    record(&log, &attested, &issued, &authority, now)?;
    fs::create_dir_all(&arguments.out).map_err(|error| format!("{}: {error}", arguments.out.display()))?;
    let path = |suffix: &str| arguments.out.join(format!("{}.{suffix}", arguments.name));
    if let Some(key) = &key {
        write(&path("key"), key, 0o600)?;
    }
    write(&path("pem"), &issued.chain_pem(), 0o644)?;
    write(&arguments.out.join("roots.pem"), authority.bundle_pem(), 0o644)?;
    let until = proxy::rfc3339(issued.not_after);
    out!("{id}: {} serial {} until {until}", path("pem").display(), issued.serial);
    Ok(())
}

/// The emergency deny list holds for the operator too: who wants to issue takes the entry away first.
fn check_denied(list: &DenyList, id: &SpiffeId, spki: Option<&[u8]>, now: SystemTime) -> Result<(), String> {
    let key = spki.map(denied::key_sha256);
    match list.find(id, None, key.as_deref(), now) {
        None => Ok(()),
        Some(entry) => {
            Err(format!("{} is denied until {}: {}", entry.denied, proxy::rfc3339(entry.until), entry.reason))
        }
    }
}

fn record(
    log: &Log,
    attested: &Attested,
    issued: &Issued,
    authority: &Authority,
    now: SystemTime,
) -> Result<(), String> {
    let evidence = Evidence::Operator { user: user() };
    let root = log::Text::bounded(&authority.root_id().to_string());
    let holder = log::Text::bounded(&attested.holder().to_string());
    let issue = Issue::of_svid(&issued.svid, root, evidence, Lineage::Begins, holder, None);
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

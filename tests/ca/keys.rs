//! No private key outside the memory of the process that uses it: a sidecar and an agent with an identity from the CA, and
//! every file they wrote.
//!
//! Which files those are says the kernel: strace notes each that is opened for writing. In them, in the folders that are theirs
//! and in /proc, a key is looked for by its forms, PEM and DER, and by itself: every 32 octets are tried as the private half of
//! the certificate's key.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use support::child::Child;
use support::{ports, tools, wait};

use crate::setting::{Setting, files, of_event, recorded};

#[test]
fn a_sidecar_and_an_agent_leave_no_private_key_behind() {
    for command in ["proxy", "agent"] {
        scan(command);
    }
}

fn scan(command: &str) {
    let mut setting = Setting::new("[issue]\nttl = \"5s\"\n");
    let work = setting.dir.join(command);
    for folder in ["", "tmp", "sockets", "home"] {
        std::fs::create_dir(work.join(folder)).unwrap();
    }
    std::fs::copy(setting.server.root(), work.join("roots.pem")).unwrap();
    std::fs::write(work.join("token"), setting.client.token("e1", json!({}))).unwrap();
    std::fs::write(work.join("sekisho.toml"), file(&setting.server.grpc())).unwrap();
    let mut child = start(&work, command);
    // The second certificate is of another key, and by the first.
    recorded(&setting.server, "a renewal", |record| record["attestation"] == "renewal");

    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let ours = std::fs::read_to_string(process.join("cmdline")).unwrap();
    assert!(ours.contains(command) && !ours.contains("strace"), "{ours:?}");
    let mut places: Vec<_> = ["environ", "cmdline"].map(|name| process.join(name)).to_vec();
    let open = std::fs::read_dir(process.join("fd")).unwrap().flatten().map(|entry| entry.path());
    places.extend(open.filter(|path| std::fs::metadata(path).is_ok_and(|open| open.is_file())));
    assert_eq!(found(&mut setting, &places), Vec::<String>::new());
    child.signal("TERM");
    assert!(child.wait(wait::SOON).is_some_and(|status| status.success()));

    let written = written(&setting.dir.join("trace"), child.id());
    let outside: Vec<_> = written.iter().filter(|path| !path.starts_with(&work) && !is_device(path)).collect();
    assert!(outside.is_empty(), "files outside of its folders: {outside:?}");
    let places: Vec<_> = files(&work).into_iter().chain(written.into_iter().filter(|path| path.is_file())).collect();
    assert!(places.len() >= 3, "{places:?}");
    assert_eq!(found(&mut setting, &places), Vec::<String>::new());

    // What is looked for would be found, in every form it could have.
    let planted = setting.holder("planted", json!({}));
    let pem = std::fs::read_to_string(&planted.key).unwrap();
    let mut openssl = tools::system("openssl", "openssl");
    let der = openssl.args(["pkey", "-outform", "DER", "-in"]).arg(&planted.key).output().unwrap().stdout;
    // RFC 5915 §3: version 1, then the octet string.
    let before = [2, 1, 1, 4, 32];
    let at = der.windows(before.len()).position(|window| window == before).unwrap() + before.len();
    let scalar = &der[at..at + 32];
    let hex: String = scalar.iter().map(|octet| format!("{octet:02x}")).collect();
    let bare: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    for (name, content) in [
        ("pem", pem.as_bytes()),
        ("base64", bare.as_bytes()),
        ("der", &der[..]),
        ("scalar", &[b"before", scalar, b"after"].concat()),
        ("hex", format!("key={hex}\n").as_bytes()),
    ] {
        let place = work.join("tmp").join(name);
        std::fs::write(&place, content).unwrap();
        assert_eq!(found(&mut setting, &files(&work)), [place.display().to_string()]);
        std::fs::remove_file(place).unwrap();
    }
}

/// The file of a sidecar that is an agent as well.
fn file(ca: &str) -> String {
    let [admin, health, metrics] = [(); 3].map(|()| ports::local());
    format!(
        "schema = 1\nworkload = \"shop/web\"\ntrust_domain = \"example.org\"\n\
         [identity]\nsource = \"ca\"\naddress = \"{ca}\"\nroots = \"roots.pem\"\ntoken = \"token\"\n\
         [agent]\nsocket = \"sockets/agent.sock\"\n\
         [proxy]\ncapture = \"none\"\nadmin = \"{admin}\"\nhealth = \"{health}\"\nmetrics = \"{metrics}\"\n\
         [log]\naccess = \"file:access.log\"\n"
    )
}

/// The process itself, beside which strace notes what it opens.
fn start(work: &Path, command: &str) -> Child {
    let mut strace = tools::system("strace", "strace");
    strace.args(["-D", "-f", "-y", "-o"]).arg(work.with_file_name("trace"));
    strace.args(["-e", "trace=openat,open,creat,openat2,memfd_create"]).arg(tools::sekisho());
    strace.args([command, "-c", "sekisho.toml"]).current_dir(work);
    strace.env("TMPDIR", work.join("tmp")).env("HOME", work.join("home"));
    Child::start(work, command, &mut strace)
}

/// The files that a traced process opened for writing.
fn written(trace: &Path, process: u32) -> Vec<PathBuf> {
    let text = wait::until("the trace to end", wait::SOON, || {
        let text = String::from_utf8_lossy(&std::fs::read(trace).unwrap_or_default()).into_owned();
        let ended =
            |line: &str| line.split_whitespace().next() == Some(&process.to_string()) && line.contains("+++ exited");
        text.lines().any(ended).then_some(text)
    });
    let mut begun = HashMap::new();
    let mut written = Vec::new();
    let mut opened = 0;
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        // A call that another thread's interrupted stands in two halves.
        let call = if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, begin);
            continue;
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            format!("{}{end}", begun.remove(thread).unwrap_or_default())
        } else {
            rest.to_owned()
        };
        let Some((call, result)) = call.rsplit_once(" = ") else { continue };
        opened += 1;
        let writes =
            ["O_WRONLY", "O_RDWR", "O_CREAT", "creat(", "memfd_create("].iter().any(|word| call.contains(word));
        if let (true, Some((_, path))) = (writes, result.split_once('<')) {
            written.push(PathBuf::from(path.trim_end_matches('>')));
        }
    }
    assert!(opened > 5, "nothing was traced: {text}");
    written
}

fn is_device(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/proc")
}

/// The places that hold a private key, of whatever certificate; above all of one on record.
fn found(setting: &mut Setting, places: &[PathBuf]) -> Vec<String> {
    let records = setting.server.records();
    let spkis: Vec<_> = of_event(&records, "issued").map(|record| record["spki"].clone()).collect();
    assert!(spkis.len() >= 2, "{spkis:?}");
    let answer = setting.client.tell(&json!({ "do": "find_key", "spkis": spkis, "paths": places }));
    let mut found: Vec<_> =
        answer["found"].as_array().unwrap().iter().map(|at| at.as_str().unwrap().to_owned()).collect();
    for place in places {
        let content = std::fs::read(place).unwrap();
        let holds = |form: &&str| content.windows(form.len()).any(|window| window == form.as_bytes());
        if FORMS.iter().any(holds) {
            found.push(place.display().to_string());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The label of any key in PEM, and how PKCS #8 and SEC 1 of a P-256 key begin in base64.
const FORMS: [&str; 3] = ["PRIVATE KEY-----", "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHB", "MHcCAQEEI"];

//! Both sidecars of a pair, each in a root folder of its own; entering it needs root, staying in it must not.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::message::{self, Kind, Message};
use support::origin::Origin;
use support::pair::{HOST, Setting};
use support::pki::Cert;
use support::scratch::Scratch;
use support::sidecar::Sidecar;
use support::{root, tls, tools, wait, wire};

#[test]
fn a_static_binary_alone_in_a_read_only_root_is_a_sidecar() {
    if !root::granted("a_static_binary_alone_in_a_read_only_root_is_a_sidecar") {
        return;
    }
    needs_no_library(&tools::static_sekisho());
    let setting = Setting::new();
    let origin = Origin::on(setting.at.app);
    let rooms = ["server", "client"].map(|side| Room::furnish(&setting, side));
    let before = rooms.each_ref().map(Room::contents);

    for room in &rooms {
        let version = room.run(&["--version"]);
        let same = Command::new(tools::sekisho()).arg("--version").output().unwrap();
        assert!(version.status.success(), "{version:?}");
        assert_eq!(version.stdout, same.stdout, "the static binary is of another commit: build it again");
        let check = room.run(&["check", "-c", "/sidecar/sidecar.toml"]);
        assert!(check.status.success(), "{check:?}");
    }
    let [mut server, mut client] = rooms.each_ref().map(|room| room.start(setting.dir.path()));
    for sidecar in [&mut server, &mut client] {
        sidecar.wait_until_ready();
        is_locked_in(sidecar.child.id());
    }

    // By the caller's sidecar, one that is allowed and one that is not; then past it, by mutual TLS with the same certificate.
    let ask = |path: &str| wire::get(setting.at.entry, HOST, path).unwrap();
    let allowed = ask("/api/orders/42");
    assert_eq!(allowed.status(), 200, "{}", allowed.text());
    assert_eq!(ask("/api/secrets").status(), 403);
    let direct = past_it(&setting, &setting.web, "/api/orders/43");
    assert_eq!(direct.status(), 200, "{}", direct.text());
    let stranger = setting.ca.issue("stranger", "shop", "stranger");
    assert_eq!(past_it(&setting, &stranger, "/api/orders/44").status(), 403);
    let caller = "URI=spiffe://example.org/ns/shop/sa/web";
    assert!(origin.last("/api/orders/42").header("x-forwarded-client-cert").is_some_and(|cert| cert.contains(caller)));
    assert_eq!(origin.requests().len(), 2, "a refused request arrived");

    // Access log on stdout, refusals on stderr, of both what they have seen.
    client.logged(&["/api/orders/42", " 200 "]);
    for (path, status) in [
        ("/api/orders/42", " 200 "),
        ("/api/orders/43", " 200 "),
        ("/api/secrets", " 403 "),
        ("/api/orders/44", " 403 "),
    ] {
        server.logged(&[path, status]);
    }
    server.refused("spiffe://example.org/ns/shop/sa/stranger");
    assert!(server.metrics().sum("sekisho_policy_generation", &[]) >= 1.0);

    for sidecar in [&mut client, &mut server] {
        sidecar.terminate();
        let status = sidecar.ended(wait::SOON);
        assert_eq!(status.code(), Some(0), "{status}: {}", sidecar.child.stderr.text());
        assert!(!sidecar.child.stderr.text().contains("panicked"));
    }
    assert_eq!(rooms.each_ref().map(Room::contents), before, "something was written");
}

/// What the file says is kept or refused: load cannot be shed by what nobody can see.
#[test]
fn a_memory_limit_that_cannot_be_kept_is_refused() {
    if !root::granted("a_memory_limit_that_cannot_be_kept_is_refused") {
        return;
    }
    let setting = Setting::new().client(|text| text.replace("[proxy]\n", "[proxy]\nmemory_limit = \"64MiB\"\n"));
    let refused = Room::furnish(&setting, "client").run(&["proxy", "-c", "/sidecar/sidecar.toml"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("memory_limit: /proc/self/statm cannot be read"), "{said}");
}

/// Asks the callee's sidecar by mutual TLS.
fn past_it(setting: &Setting, cert: &Cert, path: &str) -> Message {
    let mut stream = tls::connect(setting.at.inbound, Some(cert), &["http/1.1"]).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    message::read(&mut stream, Kind::Response).unwrap().unwrap()
}

/// No program that loads it, and no library that it names.
fn needs_no_library(binary: &Path) {
    let read = |what: &str| {
        let output = tools::system("readelf", "binutils").args(["--wide", what]).arg(binary).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (segments, dynamic) = (read("--program-headers"), read("--dynamic"));
    assert!(segments.contains("LOAD") && !segments.contains("INTERP"), "it names an interpreter: {segments}");
    assert!(!dynamic.contains("(NEEDED)"), "it names a library: {dynamic}");
}

/// What a process may do and see, as the kernel tells it.
fn is_locked_in(id: u32) {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((of("Uid"), of("Gid")), (vec!["1337".to_owned(); 4], vec!["1337".to_owned(); 4]));
    assert_eq!(of("Groups"), ["1337"]);
    assert_eq!((of("CapEff"), of("CapPrm")), (vec!["0".repeat(16)], vec!["0".repeat(16)]));
    assert_eq!(of("NoNewPrivs"), ["1"]);
    let mut seen: Vec<_> = std::fs::read_dir(format!("/proc/{id}/root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    seen.sort();
    assert_eq!(seen, ["sekisho", "sidecar"]);
    // As root, which permissions do not stop: only the mount does.
    let error = std::fs::write(format!("/proc/{id}/root/sidecar/x"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

/// The root folder of one sidecar.
struct Room {
    side: &'static str,
    dir: Scratch,
}

impl Room {
    /// With the binary and what the file of this side names.
    fn furnish(setting: &Setting, side: &'static str) -> Self {
        let dir = Scratch::new();
        let cert = if side == "server" { &setting.orders } else { &setting.web };
        let put = |from: &Path, to: PathBuf, mode: u32| {
            std::fs::copy(from, &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(&to, Some(1337), Some(1337)).unwrap();
        };
        put(&tools::static_sekisho(), dir.join("sekisho"), 0o555);
        let own = dir.join("sidecar");
        std::fs::create_dir(&own).unwrap();
        put(&setting.dir.join(format!("{side}.toml")), own.join("sidecar.toml"), 0o444);
        for file in [&cert.chain, &cert.key, &cert.bundle] {
            put(file, own.join(file.file_name().unwrap()), 0o400);
        }
        Self { side, dir }
    }

    /// Every file with its length.
    fn contents(&self) -> BTreeSet<(PathBuf, u64)> {
        let list = |dir: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let all = list(self.dir.path()).into_iter().chain(list(&self.dir.join("sidecar")));
        all.map(|path| (path.clone(), path.metadata().unwrap().len())).collect()
    }

    /// The binary inside, with these arguments. What mounts, enters and gives up rights becomes it, so its id is theirs.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tools::system("unshare", "util-linux");
        let enter = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro,nosuid,nodev \"$0\" \
            && exec setpriv --no-new-privs chroot --userspec=1337:1337 --groups=1337 \"$0\" /sekisho \"$@\"";
        command.args(["--mount", "--propagation", "private", "sh", "-c", enter]).arg(self.dir.path()).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The sidecar; its output goes to files outside.
    fn start(&self, out: &Path) -> Sidecar {
        Sidecar::start_by(&mut self.command(&["proxy", "-c", "/sidecar/sidecar.toml"]), out, self.side)
    }
}

//! Class 108: what can become of the file while a sidecar runs. Whatever it is, the last good rules stay, the sidecar says that
//! they are old, and it takes nothing in that was only half there.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use support::load::Load;
use support::origin::Origin;
use support::pair::{HOST, Pair, Setting};
use support::sidecar::Sidecar;
use support::{rest, root, tools, wait, wire};

const RULE: &str = "\n[[inbound]]\nname = \"probe\"\nfrom = \"shop/web\"\nrequests = [\"GET /probe/{rest...}\"]\n";
const DENIAL: &str = "\n[[inbound]]\nname = \"not-this-probe\"\naction = \"deny\"\nfrom = \"shop/web\"\nrequests = [\"* /probe/secret\"]\n";

fn get(setting: &Setting, path: &str) -> u16 {
    wire::get(setting.at.entry, HOST, path).unwrap().status()
}

/// The callee's sidecar without the right to read what the modes of files forbid, which root has.
fn start_without_override(setting: &Setting) -> Sidecar {
    if !root::is_root() {
        return setting.start_server();
    }
    let mut command = tools::system("setpriv", "util-linux");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--"]).arg(tools::sekisho());
    command.args(["proxy", "-c", "server.toml"]).current_dir(setting.dir.path());
    let mut sidecar = Sidecar::start_by(&mut command, setting.dir.path(), "server");
    sidecar.wait_until_ready();
    sidecar
}

#[test]
fn a_file_that_cannot_be_read_keeps_the_old_rules() {
    let setting = Setting::new();
    let _origin = Origin::on(setting.at.app);
    let server = start_without_override(&setting);
    let _client = setting.start_client();
    let (file, good) = (setting.dir.join("server.toml"), setting.dir.read("server.toml"));
    let aside = || setting.dir.join("aside");
    let replace = || std::fs::rename(aside(), &file).unwrap();
    let faults: [(&str, &dyn Fn()); 7] = [
        ("permission lost", &|| std::fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap()),
        ("100 MB of NUL", &|| {
            File::create(aside()).unwrap().set_len(100_000_000).unwrap();
            replace();
        }),
        ("100 MB of rules", &|| {
            let mut out = File::create(aside()).unwrap();
            out.write_all(good.as_bytes()).unwrap();
            let line = format!("# {}\n", "x".repeat(997));
            let many = line.repeat(10_000);
            (0..10).for_each(|_| out.write_all(many.as_bytes()).unwrap());
            replace();
        }),
        ("a symlink to itself", &|| {
            symlink("server.toml", aside()).unwrap();
            replace();
        }),
        ("a symlink to nowhere", &|| {
            symlink("nowhere", aside()).unwrap();
            replace();
        }),
        ("a folder", &|| {
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
        }),
        ("not UTF-8", &|| {
            std::fs::write(aside(), b"schema = 1\n# \xff\xfe\n").unwrap();
            replace();
        }),
    ];
    let before = rest::resident(&server);
    for (name, fault) in faults {
        let generation = server.generation();
        fault();
        // A lost permission is no change of the file, and is seen when it is read again.
        server.reload();
        let status = wait::until(&format!("{name}: to be told"), wait::SOON, || {
            Some(server.policy_status()).filter(|status| status["stale"] == true)
        });
        assert_eq!(status["generation"], generation, "{name}");
        assert!(!status["problems"].as_array().unwrap().is_empty(), "{name}: {status}");
        assert!(server.is_ready(), "{name}");
        assert_eq!((get(&setting, "/api/orders/42"), get(&setting, "/api/orders/x")), (200, 403), "{name}");
        // The next fault begins with the file as it was.
        let _ = std::fs::set_permissions(&file, Permissions::from_mode(0o644));
        let _ = std::fs::remove_dir(&file);
        setting.dir.write("server.toml", &good);
        wait::until(&format!("{name}: the good file"), wait::SOON, || {
            (server.policy_status()["stale"] == false).then_some(())
        });
    }
    let grown = rest::resident(&server).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

#[test]
fn papers_that_cannot_be_read_keep_the_old_ones() {
    let setting = Setting::new();
    let _origin = Origin::on(setting.at.app);
    let server = start_without_override(&setting);
    let _client = setting.start_client();
    for file in [&setting.orders.key, &setting.orders.chain, &setting.orders.bundle] {
        let good = std::fs::read(file).unwrap();
        let stale = |value: bool| {
            wait::until(&format!("{}: stale {value}", file.display()), wait::SOON, || {
                (server.policy_status()["certificate"]["stale"] == value).then_some(())
            });
        };
        for fault in ["permission", "huge", "empty", "half"] {
            match fault {
                "permission" => std::fs::set_permissions(file, Permissions::from_mode(0o000)).unwrap(),
                "huge" => File::create(file).unwrap().set_len(100_000_000).unwrap(),
                "empty" => File::create(file).unwrap().set_len(0).unwrap(),
                _ => std::fs::write(file, &good[..good.len() / 2]).unwrap(),
            }
            server.reload();
            stale(true);
            assert_eq!(get(&setting, "/api/orders/42"), 200, "{fault}");
            assert!(server.is_ready(), "{fault}");
            std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
            std::fs::write(file, &good).unwrap();
            server.reload();
            stale(false);
        }
    }
}

#[test]
fn a_file_that_is_written_in_its_place_is_taken_in_whole_or_not_at_all() {
    let pair = Pair::start();
    let good = pair.setting.dir.read("server.toml");
    // Every beginning of this text that ends between two rules is a valid file, and the denial comes last.
    let text = format!("{good}{RULE}{}{DENIAL}", "# a comment\n".repeat(30));
    let generation = pair.server.generation();
    // Written in pieces, faster than the sidecar looks; a pause of this process would be the file's rest, so then again.
    let calm = (0..5).any(|_| {
        let mut file = File::create(pair.setting.dir.join("server.toml")).unwrap();
        file.write_all(good.as_bytes()).unwrap();
        let mut longest = Duration::ZERO;
        let mut seen = pair.server.generation();
        for piece in text.as_bytes()[good.len()..].chunks(12) {
            let begun = Instant::now();
            file.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert_ne!(get(&pair.setting, "/probe/secret"), 200, "let in by half a file");
            longest = longest.max(begun.elapsed());
            seen = seen.max(pair.server.generation());
        }
        let calm = longest < Duration::from_millis(400);
        assert!(!calm || seen == generation, "half a file was put in force");
        wait::until("the whole file", wait::SOON, || (get(&pair.setting, "/probe/other") == 200).then_some(()));
        assert_eq!(get(&pair.setting, "/probe/secret"), 403);
        calm
    });
    assert!(calm, "this machine is too busy to write a file");
}

#[test]
fn a_thousand_reloads_fail_no_request_and_leave_nothing() {
    const RELOADS: u64 = 1000;
    let pair = Pair::start();
    let (closed, dir) = (pair.setting.dir.read("server.toml"), &pair.setting.dir);
    let open = closed.clone() + RULE;
    let first = pair.server.generation();
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 2);
    let begun = Instant::now();
    let mut early = (0, 0);
    for round in 1..=RELOADS {
        let (text, verdict) = if round % 2 == 1 { (&open, 200) } else { (&closed, 403) };
        dir.write("server.toml", format!("{text}\n# {round}\n"));
        pair.server.reload();
        wait::until("the verdict", wait::SOON, || (get(&pair.setting, "/probe/now") == verdict).then_some(()));
        assert_eq!(pair.server.generation(), first + round, "each file is one generation");
        if round == RELOADS / 10 {
            early = (rest::resident(&pair.server), rest::descriptors(&pair.server));
        }
    }
    let took = begun.elapsed();
    let total = load.stop();
    let late = (rest::resident(&pair.server), rest::descriptors(&pair.server));
    println!(
        "{RELOADS} reloads in {took:?} beside {} requests; KiB and descriptors after a tenth {early:?}, at the end {late:?}",
        total.ok
    );
    total.assert_clean(100);
    assert!(late.0.saturating_sub(early.0) < 8 * 1024, "{early:?} {late:?}");
    assert!(late.1 <= early.1 + 4, "{early:?} {late:?}");
}

//! Reloading: many good files under load, each visible to a probe; bad files that are told and not used; the symlink
//! swap of a mounted ConfigMap.

use std::time::{Duration, Instant};

use support::load::{Load, TlsLoad};
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::scratch::Scratch;
use support::sidecar::Sidecar;
use support::{wait, wire};

use super::{count, quiet};

const PROBE: &str = "/probe/now";

#[test]
fn a_bad_file_keeps_the_old_rules_and_is_told() {
    let pair = Pair::start();
    let good = pair.setting.dir.read("server.toml");
    let bad_files = [
        good.replace("[[inbound]]", "[[inbund]]"),
        good.replace("shop/web", "nobody-named"),
        "schema = 1\nworkload = \"shop/ord".to_owned(),
        String::new(),
        good.replace("orders.pem", "missing.pem"),
        good.replace("[[tap]]", "[[inbound]]\nname = \"web-reads-orders\"\nfrom = \"shop/web\"\n\n[[tap]]"),
    ];
    for bad in bad_files {
        let generation = pair.server.generation();
        pair.setting.dir.write("server.toml", &bad);
        pair.server.reload();
        let status = wait::until("the problems in /policy/status", wait::SOON, || {
            Some(pair.server.policy_status()).filter(|status| status["stale"] == true)
        });
        assert_eq!(status["generation"], generation);
        assert!(!status["problems"].as_array().unwrap().is_empty(), "{status}");
        assert!(status["problems"].to_string().contains("server.toml") || bad.contains("missing.pem"), "{status}");
        assert_eq!(get(&pair, "/api/orders/42"), 200);
        assert_eq!(get(&pair, "/api/orders/x"), 403);
        assert!(pair.server.is_ready(), "a bad reload made the sidecar unready");

        pair.setting.dir.write("server.toml", &good);
        pair.server.reload();
        wait::until("the good file to clear the problems", wait::SOON, || {
            let status = pair.server.policy_status();
            (status["stale"] == false && status["problems"].as_array().is_some_and(Vec::is_empty)).then_some(())
        });
        assert_eq!(get(&pair, "/api/orders/42"), 200);
    }
}

#[test]
fn a_file_that_vanishes_keeps_the_old_rules() {
    let pair = Pair::start();
    let good = pair.setting.dir.read("server.toml");
    std::fs::remove_file(pair.setting.dir.join("server.toml")).unwrap();
    pair.server.reload();
    wait::until("the loss to be told", wait::SOON, || (pair.server.policy_status()["stale"] == true).then_some(()));
    assert_eq!(get(&pair, "/api/orders/42"), 200);
    pair.setting.dir.write("server.toml", with_probe(&good));
    wait_for_verdict(&pair, 200);
}

/// `SEKISHO_RELOADS` of them, each of which changes a verdict.
#[test]
fn good_reloads_under_load_are_each_seen_and_fail_no_request() {
    let setting = quiet(Setting::new());
    let origin = Origin::forgetful(setting.at.app, |_| Reply::text("here"));
    let pair = setting.start_with(origin);
    let closed = pair.setting.dir.read("server.toml");
    let open = with_probe(&closed);
    assert_eq!(get(&pair, PROBE), 403);
    let mut generation = pair.server.generation();

    let dir = pair.setting.dir.path();
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 3);
    let fresh = Load::fresh(pair.entry(), HOST, "/api/orders/42", 1);
    let tls = TlsLoad::start(dir, pair.setting.at.inbound, &pair.setting.web, "/api/orders/42", 2);
    let reloads = count("SEKISHO_RELOADS", 50);
    let mut slowest = [Duration::ZERO; 2];
    for round in 0..reloads {
        let (text, verdict) = if round % 2 == 0 { (&open, 200) } else { (&closed, 403) };
        // A comment of its own, so that each file differs from all before it.
        pair.setting.dir.write("server.toml", format!("{text}\n# round {round}\n"));
        let begin = Instant::now();
        let by_signal = round % 4 < 2; // the other rounds rest on the file watch alone
        if by_signal {
            pair.server.reload();
        }
        wait_for_verdict(&pair, verdict);
        slowest[usize::from(by_signal)] = slowest[usize::from(by_signal)].max(begin.elapsed());
        generation += 1;
        assert_eq!(pair.server.generation(), generation, "round {round}");
        assert_eq!(get(&pair, "/api/orders/x"), 403);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pair.server.generation(), generation, "one change was counted twice");
    let [load, fresh, tls] = [load.stop(), fresh.stop(), tls.stop()];
    println!(
        "{reloads} changes of verdict, each seen, after {:?} at the latest, by signal {:?}; kept {}, fresh {}, mtls {} requests",
        slowest[0], slowest[1], load.ok, fresh.ok, tls.ok
    );
    for load in [load, fresh, tls] {
        load.assert_clean(50);
    }
}

#[test]
fn reloads_of_the_callers_file_under_load_fail_no_request() {
    let pair = Pair::start();
    let text = pair.setting.dir.read("client.toml");
    let mut generation = pair.client.generation();
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 4);
    for round in 0..5 {
        let deny = "[[outbound]]\nname = \"not-the-probe\"\naction = \"deny\"\nto = \"shop/orders\"\nrequests = [\"* /api/orders\"]\n";
        let (more, verdict) = if round % 2 == 0 { (deny, 403) } else { ("", 200) };
        pair.setting.dir.write("client.toml", format!("{text}\n{more}# round {round}\n"));
        pair.client.reload();
        wait::until("the caller's verdict to change", wait::SOON, || {
            (get(&pair, "/api/orders") == verdict).then_some(())
        });
        generation += 1;
        assert_eq!(pair.client.generation(), generation);
    }
    load.stop_clean(20);
}

#[test]
fn an_unchanged_file_is_no_new_generation() {
    let pair = Pair::start();
    let generation = pair.server.generation();
    for _ in 0..3 {
        pair.server.reload();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(pair.server.generation(), generation);
}

#[test]
fn the_symlink_swap_of_a_mounted_configmap_is_seen_without_a_signal() {
    let setting = Setting::new();
    let text = setting.dir.read("server.toml");
    // As the kubelet does it: server.toml -> ..data/server.toml, ..data -> ..1, and then ..data renamed over.
    let mount = Scratch::new();
    let certificates = setting.dir.path().to_owned();
    let absolute = |text: &str| {
        let path = |name: &str| format!("\"{}\"", certificates.join(name).display());
        ["orders.pem", "orders.key", "roots.pem"]
            .iter()
            .fold(text.to_owned(), |text, name| text.replace(&format!("\"{name}\""), &path(name)))
    };
    let publish = |version: &str, text: &str| {
        std::fs::create_dir(mount.join(version)).unwrap();
        std::fs::write(mount.join(version).join("server.toml"), absolute(text)).unwrap();
        let aside = mount.join("..data_tmp");
        std::os::unix::fs::symlink(version, &aside).unwrap();
        std::fs::rename(&aside, mount.join("..data")).unwrap();
    };
    publish("..1", &text);
    std::os::unix::fs::symlink("..data/server.toml", mount.join("server.toml")).unwrap();

    let server = Sidecar::start(mount.path(), "server");
    let client = setting.start_client();
    let origin = Origin::on(setting.at.app);
    let pair = Pair { client, server, origin, setting };
    assert_eq!(get(&pair, PROBE), 403);
    publish("..2", &with_probe(&text));
    std::fs::remove_dir_all(mount.join("..1")).unwrap();
    wait_for_verdict(&pair, 200);
    publish("..3", &text);
    wait_for_verdict(&pair, 403);
}

#[test]
fn new_certificates_are_taken_up_without_a_failed_request() {
    let pair = Pair::start();
    let (web, orders) = (hash(&pair, "web"), hash(&pair, "orders"));
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 4);
    for _ in 0..3 {
        pair.setting.ca.issue("web", "shop", "web");
        pair.setting.ca.issue("orders", "shop", "orders");
        pair.server.reload();
        pair.client.reload();
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_ne!((hash(&pair, "web"), hash(&pair, "orders")), (web, orders));
    // A connection made now shows the new certificates: the callee's to us, and the caller's in XFCC.
    wait::until("the new caller's certificate at the application", wait::SOON, || {
        let mut connection = wire::Connection::open(pair.entry()).unwrap();
        connection
            .send(format!("GET /api/orders/7 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(connection.receive().unwrap().status(), 200);
        let seen = pair.origin.last("/api/orders/7");
        seen.header("x-forwarded-client-cert").unwrap().contains(&hash(&pair, "web")).then_some(())
    });
    load.stop_clean(100);
}

#[test]
fn a_certificate_that_does_not_fit_its_key_keeps_the_old_pair() {
    let pair = Pair::start();
    let stale = || pair.server.policy_status()["certificate"]["stale"].clone();
    let stray = pair.setting.ca.issue("stray", "shop", "orders");
    std::fs::copy(&stray.chain, &pair.setting.orders.chain).unwrap();
    pair.server.reload();
    wait::until("the mismatch to be told", wait::SOON, || (stale() == true).then_some(()));
    assert_eq!(get(&pair, "/api/orders/42"), 200);
    std::fs::copy(&stray.key, &pair.setting.orders.key).unwrap();
    pair.server.reload();
    wait::until("the fitting pair to be taken", wait::SOON, || (stale() == false).then_some(()));
    assert_eq!(get(&pair, "/api/orders/42"), 200);
}

#[test]
fn a_stream_that_a_new_rule_forbids_ends_within_its_time() {
    let slow = |request: &support::message::Message| {
        let wait = if request.target().contains("/slow") { Duration::from_secs(40) } else { Duration::ZERO };
        Reply::text("late").after(wait)
    };
    let allow = "[[inbound]]\nname = \"slow\"\nfrom = \"shop/web\"\nrequests = [\"GET /slow\"]\n\n[[tap]]";
    let setting = Setting::new();
    let closed = setting.dir.read("server.toml");
    let setting = setting.server(|text| text.replace("[[tap]]", allow));
    let origin = support::origin::Origin::with(setting.at.app, slow);
    let pair = setting.start_with(origin);
    let entry = pair.entry();
    let asking = std::thread::spawn(move || wire::get(entry, HOST, "/slow"));
    pair.origin.last("/slow");
    pair.setting.dir.write("server.toml", &closed);
    pair.server.reload();
    let begin = Instant::now();
    wait::until("the stream to end", Duration::from_secs(30), || asking.is_finished().then_some(()));
    // `revoke_within` is 5 s by default.
    assert!(begin.elapsed() < Duration::from_secs(8), "ended {:?} after the rule was gone", begin.elapsed());
    if let Ok(reply) = asking.join().unwrap() {
        assert_eq!((reply.status(), reply.text().as_str()), (403, "RBAC: access denied"));
    }
    assert_eq!(get(&pair, "/api/orders/42"), 200);
}

/// A file that compares paths without regard to case takes away what a deny rule did not cover before, and what has no
/// reading any more, while the rest goes on.
#[test]
fn streams_whose_path_is_denied_or_unreadable_once_case_does_not_count_end() {
    let slow = |request: &support::message::Message| {
        let waits = !request.target().contains("/orders/");
        Reply::text("late").after(if waits { Duration::from_secs(40) } else { Duration::ZERO })
    };
    let rules = "[[inbound]]\nname = \"all\"\nfrom = \"shop/web\"\n\n[[inbound]]\nname = \"no-admin\"\naction = \"deny\"\nfrom = \"anyone\"\nrequests = [\"* /admin/{rest...}\"]\n\n[[tap]]";
    let setting = Setting::new().server(|text| text.replace("[[tap]]", rules));
    let file = setting.dir.read("server.toml");
    let origin = Origin::with(setting.at.app, slow);
    let pair = setting.start_with(origin);
    let entry = pair.entry();
    let ask = |path: &'static str| {
        let asking = std::thread::spawn(move || wire::get(entry, HOST, path));
        pair.origin.last(path);
        asking
    };
    let ended = [ask("/ADMIN/x"), ask("/adm%C4%B1n/x")];
    let kept = ask("/OTHER/x");
    pair.setting.dir.write("server.toml", file + "\n[path]\ncase = \"insensitive\"\n");
    pair.server.reload();
    let begin = Instant::now();
    wait::until("the streams to end", Duration::from_secs(30), || ended.iter().all(|s| s.is_finished()).then_some(()));
    // `revoke_within` is 5 s by default.
    assert!(begin.elapsed() < Duration::from_secs(8), "ended {:?} after the newer file", begin.elapsed());
    assert!(!kept.is_finished(), "another stream ended too");
    assert_eq!((get(&pair, "/Admin/x"), get(&pair, "/adm%C4%B1n/x")), (403, 400));
    assert_eq!(get(&pair, "/api/orders/42"), 200);
}

/// The file with one more rule, which lets the probe through.
fn with_probe(text: &str) -> String {
    let rule = "[[inbound]]\nname = \"probe\"\nfrom = \"shop/web\"\nrequests = [\"GET /probe/now\"]\n\n[[tap]]";
    text.replace("[[tap]]", rule)
}

fn wait_for_verdict(pair: &Pair, verdict: u16) {
    wait::until(&format!("the probe to be answered {verdict}"), wait::SOON, || {
        (get(pair, PROBE) == verdict).then_some(())
    });
}

fn get(pair: &Pair, path: &str) -> u16 {
    wire::get(pair.entry(), HOST, path).unwrap().status()
}

/// The SHA-256 of the leaf in `<name>.pem`, as XFCC writes it.
fn hash(pair: &Pair, name: &str) -> String {
    let mut openssl = support::tools::system("openssl", "openssl");
    let path = pair.setting.dir.join(format!("{name}.pem"));
    let text = support::child::run(openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(path));
    text.split('=').nth(1).unwrap().trim().replace(':', "").to_lowercase()
}

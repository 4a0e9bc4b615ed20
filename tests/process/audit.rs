//! The audit log of `sekisho ca`: what it records, what of it is found, and that nothing leaves unrecorded.

use std::path::Path;
use std::process::Output;

use support::scratch::Scratch;
use support::sidecar::sekisho;

const ID: &str = "spiffe://example.org/ns/shop/sa/web";

fn run(dir: &Path, line: &str) -> Output {
    sekisho(dir, &line.split(' ').collect::<Vec<_>>())
}

fn issue(dir: &Path, name: &str) -> Output {
    run(dir, &format!("ca issue --dir ca --id {ID} --out . --name {name}"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

fn records(dir: &Scratch) -> Vec<serde_json::Value> {
    dir.read("ca/log/00000001.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A CA that has issued one certificate.
fn issued() -> Scratch {
    let dir = Scratch::new();
    assert!(run(dir.path(), "ca init --dir ca --trust-domain example.org").status.success());
    let output = issue(dir.path(), "web");
    assert!(output.status.success(), "{}", text(&output));
    dir
}

#[test]
fn every_certificate_is_recorded_and_a_change_of_its_record_is_found() {
    let dir = issued();
    let records = records(&dir);
    let events: Vec<_> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["begun", "root-added", "issued"]);
    assert_eq!(records[2]["id"], ID);
    assert_eq!(records[2]["root"], records[1]["subject"]);
    assert_eq!(records[2]["attestation"], "operator");
    assert_eq!(records[2]["serial"].as_str().map(str::len), Some(32));

    let good = run(dir.path(), "ca log verify --dir ca --format json");
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));
    let report = json(&good);
    assert_eq!((report["ok"].as_bool(), report["records"].as_u64()), (Some(true), Some(3)));
    let (key, hash) = (report["head"]["key"].as_str().unwrap(), report["head"]["hash"].as_str().unwrap());
    std::fs::copy(dir.join("ca/log/head.json"), dir.join("kept.json")).unwrap();
    for known in ["--head kept.json", &format!("--expect 3:{hash}"), &format!("--key {key}")] {
        let output = run(dir.path(), &format!("ca log verify --dir ca {known}"));
        assert_eq!(output.status.code(), Some(0), "{known}: {}", text(&output));
        assert!(text(&output).contains("3 records"));
    }
    for known in [format!("--expect 2:{hash}"), format!("--expect 4:{hash}"), format!("--key {hash}")] {
        let output = run(dir.path(), &format!("ca log verify --dir ca {known}"));
        assert_eq!(output.status.code(), Some(1), "{known}: {}", text(&output));
    }

    let log = dir.read("ca/log/00000001.jsonl");
    std::fs::write(dir.join("ca/log/00000001.jsonl"), log.replace(ID, &ID.replace("web", "wen"))).unwrap();
    let found = run(dir.path(), "ca log verify --dir ca --format json");
    assert_eq!(found.status.code(), Some(1), "{}", text(&found));
    let report = json(&found);
    assert_eq!((report["ok"].as_bool(), report["line"].as_u64()), (Some(false), Some(3)), "{report}");
    assert!(text(&run(dir.path(), "ca log verify --dir ca")).contains("00000001.jsonl, line 3 (record 3)"));
    // Nor does the CA go on from there.
    assert!(!issue(dir.path(), "more").status.success());
    assert!(!dir.join("more.pem").exists());
    assert_eq!(run(dir.path(), "ca log verify --dir nowhere").status.code(), Some(2));
}

#[test]
fn an_older_state_put_back_whole_is_found_by_the_head_kept_elsewhere() {
    let dir = issued();
    let old = Scratch::new();
    for name in ["00000001.jsonl", "head.json"] {
        std::fs::copy(dir.join("ca/log").join(name), old.join(name)).unwrap();
    }
    assert!(issue(dir.path(), "more").status.success());
    std::fs::copy(dir.join("ca/log/head.json"), dir.join("kept.json")).unwrap();
    for name in ["00000001.jsonl", "head.json"] {
        std::fs::copy(old.join(name), dir.join("ca/log").join(name)).unwrap();
    }
    assert_eq!(run(dir.path(), "ca log verify --dir ca").status.code(), Some(0));
    let found = run(dir.path(), "ca log verify --dir ca --head kept.json");
    assert_eq!(found.status.code(), Some(1), "{}", text(&found));
}

#[test]
fn without_its_log_the_ca_issues_nothing() {
    let dir = issued();
    std::fs::rename(dir.join("ca/log"), dir.join("moved")).unwrap();
    assert!(!issue(dir.path(), "more").status.success());
    assert!(!dir.join("more.pem").exists() && !dir.join("more.key").exists());
}

#[test]
fn commands_at_once_wait_for_each_other() {
    let dir = issued();
    std::thread::scope(|scope| {
        let issuing: Vec<_> = (0..6)
            .map(|number| {
                let path = dir.path();
                scope.spawn(move || run(path, &format!("ca issue --dir ca --id {ID} --out out{number} --name web")))
            })
            .collect();
        for output in issuing.into_iter().map(|thread| thread.join().unwrap()) {
            assert!(output.status.success(), "{}", text(&output));
        }
    });
    let report = json(&run(dir.path(), "ca log verify --dir ca --format json"));
    assert_eq!(report["records"], 9);
}

mod root {
    use super::*;
    use std::process::Command;
    use support::root;

    /// A file system of 256 KiB; unmounted when dropped.
    struct Small(Scratch);

    impl Small {
        fn new() -> Self {
            let at = Scratch::new();
            let mounted =
                Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at.path()).status();
            assert!(mounted.unwrap().success());
            Self(at)
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0.path()).status();
        }
    }

    #[test]
    fn on_a_full_disk_nothing_is_issued_and_with_room_again_it_goes_on() {
        if !root::granted("on_a_full_disk_nothing_is_issued_and_with_room_again_it_goes_on") {
            return;
        }
        let (small, out) = (Small::new(), Scratch::new());
        let dir = small.0.path();
        let issue =
            |name: &str| run(dir, &format!("ca issue --dir ca --id {ID} --out {} --name {name}", out.path().display()));
        assert!(run(dir, "ca init --dir ca --trust-domain example.org").status.success());
        let begin = issue("web");
        assert!(begin.status.success(), "{}", text(&begin));

        // To the last byte: the page of the last record may have room for some more.
        let filler = dir.join("filler");
        let _ = std::fs::write(&filler, vec![0; 1 << 20]);
        let mut refused = 0;
        for number in 0..20 {
            let name = format!("full{number}");
            let output = issue(&name);
            let left = out.join(format!("{name}.pem")).exists() || out.join(format!("{name}.key")).exists();
            assert_eq!(output.status.success(), left, "{}", text(&output));
            refused += u32::from(!output.status.success());
            if refused > 0 {
                assert!(text(&output).contains("nothing was issued"), "{}", text(&output));
                break;
            }
        }
        assert_eq!(refused, 1, "the disk never filled");
        let whole = run(dir, "ca log verify --dir ca");
        assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));

        std::fs::remove_file(&filler).unwrap();
        let again = issue("again");
        assert!(again.status.success() && out.join("again.pem").exists(), "{}", text(&again));
        let whole = run(dir, "ca log verify --dir ca --format json");
        assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
    }
}

//! Class 107: the disk under the access log is full. Requests go on; every line that could not be written is counted; once there is
//! room, lines are written again, and none has run into the remains of another.
//!
//! The disk is 64 KiB of memory, mounted where only the sidecar sees it.

use std::path::PathBuf;

use serde_json::Value;
use support::origin::Origin;
use support::pair::{HOST, Setting, json_log};
use support::sidecar::Sidecar;
use support::{rest, root, tools, wait, wire};

/// `access` goes to a file on a disk of its own.
const LOG: &str = "[log]\naccess = \"file:disk/access.log\"\n";

#[test]
fn a_full_disk_costs_log_lines_and_nothing_else() {
    if !root::granted("a_full_disk_costs_log_lines_and_nothing_else") {
        return;
    }
    let setting = rest::soon(Setting::new()).server(json_log).server(|text| text.replace("[log]\n", LOG));
    std::fs::create_dir(setting.dir.join("disk")).unwrap();
    let _origin = Origin::on(setting.at.app);
    let mut command = tools::system("unshare", "util-linux");
    let mount = "mount -t tmpfs -o size=64k tmpfs disk && exec \"$0\" proxy -c server.toml";
    command.args(["--mount", "--propagation", "private", "sh", "-c", mount]).arg(tools::sekisho());
    command.current_dir(setting.dir.path());
    let mut server = Sidecar::start_by(&mut command, setting.dir.path(), "server");
    server.wait_until_ready();
    let _client = setting.start_client();
    let disk = Disk(PathBuf::from(format!("/proc/{}/root{}", server.child.id(), setting.dir.join("disk").display())));
    let mut asked = 0;
    let mut ask = || {
        asked += 1;
        let reply = wire::get(setting.at.entry, HOST, &format!("/api/orders/{asked}")).unwrap();
        assert_eq!(reply.status(), 200, "request {asked}");
        asked
    };
    let dropped = || server.metrics().sum("sekisho_log_dropped_total", &[]) as usize;

    // Until it is full, and then some.
    wait::until("a dropped line", std::time::Duration::from_secs(60), || {
        for _ in 0..20 {
            ask();
        }
        (dropped() > 20).then_some(())
    });
    assert!(server.is_ready());
    // The log is cut, as a rotation does: there is room.
    let before = disk.lines();
    disk.cut();
    wait::until("a line after that", wait::SOON, || {
        ask();
        (disk.lines().len() > 1).then_some(())
    });
    let last = (0..20).map(|_| ask()).last().unwrap();
    let mut again = Vec::new();
    wait::until("the last line", wait::SOON, || {
        again = disk.lines();
        again.iter().any(|line| line.contains(&format!("/api/orders/{last}\""))).then_some(())
    });
    // A line stands alone or is not there: what was torn by the full disk is a line of its own.
    let whole = |lines: &[String]| lines.iter().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    let torn: Vec<&String> =
        before.iter().chain(&again).filter(|line| serde_json::from_str::<Value>(line).is_err()).collect();
    let (written, dropped) = (whole(&before) + whole(&again), dropped());
    println!("{last} requests: {written} whole lines, {dropped} counted as dropped, {} torn", torn.len());
    assert!(torn.len() <= 1, "{torn:?}");
    assert!(torn.iter().all(|line| line.matches("\"schema\"").count() <= 1), "two lines in one: {torn:?}");
    assert_eq!(written + dropped, last, "lines are missing, or counted twice");
}

/// The disk as the sidecar sees it.
struct Disk(PathBuf);

impl Disk {
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join("access.log")).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn cut(&self) {
        std::fs::OpenOptions::new().write(true).open(self.0.join("access.log")).unwrap().set_len(0).unwrap();
    }
}

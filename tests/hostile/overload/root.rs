//! The same under the kernel's own limit: a memory cgroup, whose limit the sidecar finds by itself.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::pair::{HOST, Setting};
use support::sidecar::Sidecar;
use support::{tools, wait};

use super::is_served_again;

/// A cgroup with a memory limit; removed when dropped, which needs its processes to be gone.
struct Cgroup(PathBuf);

impl Cgroup {
    /// By v1's hierarchy where it is mounted, else by v2's.
    fn with_memory(bytes: u64) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) =
            if v1.is_dir() { (v1, "memory.limit_in_bytes") } else { (Path::new("/sys/fs/cgroup"), "memory.max") };
        let group = Self(root.join(format!("sekisho-test-{}", std::process::id())));
        std::fs::create_dir(&group.0).unwrap_or_else(|error| panic!("{}: {error}", group.0.display()));
        std::fs::write(group.0.join(limit), bytes.to_string()).unwrap();
        group
    }

    fn procs(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let gone = wait::within(wait::SOON, || std::fs::remove_dir(&self.0).ok());
        if gone.is_none() && !std::thread::panicking() {
            panic!("{} still has a process", self.0.display());
        }
    }
}

#[test]
fn a_flood_within_a_cgroup_of_64_mib_is_shed_and_the_process_lives() {
    let group = Cgroup::with_memory(64 << 20);
    let setting = Setting::new();
    let _origin = support::origin::Origin::on(setting.at.app);
    let _server = setting.start_server();
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo $$ > \"$0\" && exec \"$1\" proxy -c client.toml", &group.procs()])
        .arg(tools::sekisho())
        .current_dir(setting.dir.path());
    let mut client = Sidecar::start_by(&mut command, setting.dir.path(), "client");
    client.wait_until_ready();
    assert_eq!(client.metrics().sum("sekisho_memory_limit_bytes", &[]), f64::from(64 << 20));
    let head = format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}", "a".repeat(58_000));
    let mut held = Vec::new();
    for _ in 0..4000 {
        if let Ok(mut stream) = TcpStream::connect(setting.at.entry) {
            let _ = stream.set_nonblocking(true);
            let _ = stream.write(head.as_bytes());
            held.push(stream);
        }
    }
    wait::until("what was shed to be told", wait::SOON, || {
        (client.metrics().sum("sekisho_shed_total", &[]) > 0.0).then_some(())
    });
    drop(held);
    is_served_again(setting.at.entry);
    assert!(client.child.process().try_wait().unwrap().is_none(), "the kernel killed it");
    drop(client);
}

//! The server that is measured: started, pinned to some cores, and watched from outside.

use crate::papers::Papers;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::ports;

/// A running `sekisho ca serve`.
pub(crate) struct Authority {
    pub(crate) address: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn start(papers: &Papers, cores: &str) -> Self {
        let binary =
            std::env::var_os("SEKISHO_BIN").map_or_else(|| env!("CARGO_BIN_EXE_sekisho").into(), PathBuf::from);
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut init = Command::new(&binary);
        init.args(["ca", "init", "--trust-domain", "example.org", "--dir"]).arg(dir.join("ca"));
        assert!(init.stdout(Stdio::null()).status().unwrap().success());
        let [grpc, admin, health] = [ports::free(), ports::free(), ports::free()];
        fs::write(dir.join("jwks.json"), &papers.jwks).unwrap();
        let file = format!(
            "schema = 1\ndir = \"ca\"\n[server]\nlisten = \"127.0.0.1:{grpc}\"\nadmin = \"127.0.0.1:{admin}\"\nhealth = \"127.0.0.1:{health}\"\n\
             [limits]\nper_source_per_second = 1000000\nper_identity_per_hour = 1000000\n\
             [[cluster]]\nname = \"main\"\nissuer = \"https://kubernetes.default.svc\"\njwks = \"jwks.json\"\n"
        );
        fs::write(dir.join("ca.toml"), file).unwrap();
        let process = Command::new("taskset")
            .args(["-c", cores])
            .arg(&binary)
            .args(["ca", "serve", "-c"])
            .arg(dir.join("ca.toml"))
            .stderr(fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", grpc)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{}", fs::read_to_string(dir.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(500));
        papers.know(&roots(&dir.join("ca")));
        Self { address: format!("127.0.0.1:{grpc}"), process, _folder: folder }
    }

    /// MiB.
    pub(crate) fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) fn measure(&self) -> Measure {
        Measure { begin: Instant::now(), cpu: self.cpu() }
    }

    /// User and system time so far, in seconds (proc(5): fields 14 and 15 in hundredths).
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One measurement under way.
pub(crate) struct Measure {
    begin: Instant,
    cpu: f64,
}

impl Measure {
    pub(crate) fn say(self, what: &str, count: usize, authority: &Authority) {
        let (took, cpu) = (self.begin.elapsed().as_secs_f64(), authority.cpu() - self.cpu);
        let count = count as f64;
        println!(
            "{what}: {count} in {took:.2} s = {:.0}/s; {:.0} µs of the server's CPU each = {:.0}/s for a core",
            count / took,
            cpu * 1e6 / count,
            count / cpu
        );
    }
}

fn roots(ca: &Path) -> Vec<u8> {
    let mut roots = Vec::new();
    for entry in fs::read_dir(ca.join("roots")).unwrap() {
        roots.extend(fs::read(entry.unwrap().path().join("root.pem")).unwrap());
    }
    roots
}

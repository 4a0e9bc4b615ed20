//! The programs that the bench starts: where they are, what is missing, and how each is tied to a core and to the bench.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::tools;

use crate::makes::Make;
use crate::options::Options;
use crate::workloads::Workload;

/// Ends the process with every missing thing named at once, before anything is started.
pub(crate) fn check(options: &Options) {
    let mut needed = vec![("taskset", "util-linux"), ("setpriv", "util-linux"), ("prlimit", "util-linux")];
    if options.makes.contains(&Make::Haproxy) {
        needed.push(("haproxy", "haproxy"));
    }
    if options.makes.contains(&Make::Nginx) {
        needed.extend([("nginx", "nginx"), ("openssl", "openssl")]);
    }
    if options.workloads.contains(&Workload::W1) {
        needed.push(("strace", "strace"));
    }
    let missing = needed.into_iter().filter(|(program, _)| find(program).is_none());
    let mut problems: Vec<String> =
        missing.map(|(program, package)| format!("{program} is missing: install {package}")).collect();
    if options.makes.iter().any(|make| matches!(make, Make::Envoy | Make::EnvoyH2)) && envoy().is_none() {
        problems.push("no Envoy: set $ENVOY, or run scripts/test, which installs one".into());
    }
    if problems.is_empty() {
        problems.extend(raise_descriptors(options).err());
    }
    if !problems.is_empty() {
        eprintln!("{}", problems.join("\n"));
        std::process::exit(2)
    }
}

/// Lets this process, and with it all it starts, open as many files as it may. A connection through a sidecar is two.
fn raise_descriptors(options: &Options) -> Result<(), String> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let hard = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().nth(1)).unwrap();
    let hard: usize = hard.parse().unwrap_or(1 << 20);
    let needed = if options.quick { 4_000 } else { 12_000 };
    if hard < needed {
        return Err(format!("{hard} files may be open (ulimit -Hn); the bench needs {needed}"));
    }
    let pid = std::process::id().to_string();
    let done =
        tools::system("prlimit", "util-linux").args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]).status();
    if done.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err("prlimit could not raise the open files".into())
    }
}

/// `program`, to be run on one core. It is killed when the bench ends, however that happens. taskset and setpriv replace
/// themselves by the program, so the process id is the program's.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = tools::system("taskset", "util-linux");
    command.args(["-c", &core.to_string()]).arg(find("setpriv").unwrap());
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A program of the system.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|dir| dir.join(name)).find(|path| path.exists())
}

/// `$ENVOY`, or what `scripts/test` has installed, or the one on PATH.
pub(crate) fn envoy() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Some(path.into());
    }
    let named = ["SEKISHO_ENVOY", "SEKISHO_VENV"].iter().any(|name| std::env::var_os(name).is_some());
    if named || tools::repository().join("target/test-venv/bin/python").exists() {
        return Some(tools::envoy());
    }
    find("envoy")
}

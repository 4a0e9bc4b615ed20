//! Where and with what a run was made: processor, kernel, versions, commit, time.

use std::process::Command;

use serde_json::{Value, json};

use crate::makes::Make;
use crate::options::Options;
use crate::world::World;

/// Everything a reader needs to judge or repeat the run.
pub(crate) fn describe(world: &World, options: &Options) -> Value {
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value).to_owned()
    };
    json!({
        "time": output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "commit": commit(world),
        "processor": field("model name"),
        "cores": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "virtual": field("flags").split(' ').any(|flag| flag == "hypervisor"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control").trim(),
        "memory_mib": memory_mib(),
        "sidecar_core": options.cores.sidecars,
        "load_core": options.cores.load,
        "rounds": options.rounds,
        "window_s": options.times.window.as_secs_f64(),
        "open_files": open_files(),
        "sekisho": version(world, options, &[Make::Sekisho], "--version"),
        "envoy": version(world, options, &[Make::Envoy, Make::EnvoyH2], "--version"),
        "haproxy": version(world, options, &[Make::Haproxy], "-v"),
        "nginx": version(world, options, &[Make::Nginx], "-v"),
    })
}

/// The commit that the measured binary says it was built from; marked when that is not all there is to say about it:
/// the files differ from it, or another commit is checked out by now.
fn commit(world: &World) -> String {
    let version = output(world.program(Make::Sekisho).to_str().unwrap(), &["--version"]);
    let built = version.split(['(', ')']).nth(1).unwrap_or("unknown").to_owned();
    // Pages and what earlier runs left behind are no change to what is measured.
    let elsewhere = [".", ":!benches", ":!docs", ":!*.md"];
    let status = [&["status", "--porcelain", "--untracked-files=no", "--"], elsewhere.as_slice()].concat();
    let head = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let exact = output("git", &status).is_empty() && head == built;
    if exact { built } else { format!("{built}-changed") }
}

/// The first line that a make's program says about its version; null when no such make takes part.
fn version(world: &World, options: &Options, makes: &[Make], flag: &str) -> Value {
    let Some(make) = options.makes.iter().find(|make| makes.contains(make)) else {
        return Value::Null;
    };
    let said = Command::new(world.program(*make)).arg(flag).output().unwrap();
    // nginx tells its version on stderr.
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).trim().to_owned();
    // `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL` after the name of the program's file.
    let line = text.lines().find(|line| line.chars().any(|letter| letter.is_ascii_digit())).unwrap_or_default();
    if let Some((_, version)) = line.split_once("nginx version: ") {
        return version.replace('/', " ").into();
    }
    match line.split_once("version: ") {
        Some((_, version)) => format!("envoy {}", version.split('/').skip(1).collect::<Vec<_>>().join(" ")).into(),
        None => line.split(" - ").next().unwrap_or(line).into(),
    }
}

/// Files that a process may open, which bounds the connections of a sidecar.
fn open_files() -> u64 {
    let limits = read("/proc/self/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn memory_mib() -> u64 {
    let text = read("/proc/meminfo");
    let kib = text.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(support::tools::repository()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

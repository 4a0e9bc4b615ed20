//! `sekisho capture`: installs, removes and shows the redirect rules, by the system's own iptables programs.

use crate::cli::{self, EXIT_FAILURE};
use proxy::capture::rules::{self, DROP_CHAIN, NAT_CHAINS, Options};
use std::{
    io::Write,
    process::{Command, ExitCode, Output, Stdio},
};

/// Runs one of the capture commands.
pub(crate) fn run(command: &cli::Capture) -> ExitCode {
    let done = match command {
        cli::Capture::Install(options) => install(&settings(options)),
        cli::Capture::Remove => remove(),
        cli::Capture::Show { render: true, options } => render(&settings(options)),
        cli::Capture::Show { render: false, .. } => show(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            err!("sekisho: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn settings(options: &cli::CaptureOptions) -> Options {
    Options {
        uid: options.uid,
        gid: options.gid,
        inbound_port: options.inbound_port,
        outbound_port: options.outbound_port,
        exclude_inbound_ports: options.exclude_inbound_ports.clone(),
        exclude_outbound_cidrs: options.exclude_outbound_cidrs.clone(),
        exclude_outbound_ports: options.exclude_outbound_ports.clone(),
    }
}

fn install(options: &Options) -> Result<(), String> {
    options.check()?;
    // Each restore replaces our chains in one step, so that installing again leaves no moment without rules; the jumps into
    // them are added only where they are missing. IPv6 first: if it cannot be closed, nothing is opened.
    restore("ip6tables-restore", &with_missing_jumps("ip6tables", &options.ipv6())?)?;
    restore("iptables-restore", &with_missing_jumps("iptables", &options.ipv4())?)?;
    out!(
        "IPv4 TCP is redirected: inbound to port {}, outbound to port {}; user {} is exempt",
        options.inbound_port,
        options.outbound_port,
        options.uid
    );
    out!("IPv6 TCP and UDP are dropped, except loopback: IPv6 is not redirected yet");
    Ok(())
}

fn render(options: &Options) -> Result<(), String> {
    options.check()?;
    out_text!("# iptables-restore --noflush\n{}\n# ip6tables-restore --noflush\n{}", options.ipv4(), options.ipv6());
    Ok(())
}

/// Leaves out the rules of the built-in chains that are there already.
fn with_missing_jumps(program: &str, rules: &str) -> Result<String, String> {
    let mut table = "filter";
    let mut out = String::new();
    for line in rules.lines() {
        table = line.strip_prefix('*').unwrap_or(table);
        if let Some(jump) = line.strip_prefix("-A ").filter(|jump| !jump.starts_with("SEKISHO_")) {
            let check = Command::new(program)
                .args(["-w", "-t", table, "-C"])
                .args(jump.split(' '))
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .map_err(|error| missing(program, &error))?;
            if check.success() {
                continue;
            }
        }
        out.push_str(line);
        out.push('\n');
    }
    Ok(out)
}

fn remove() -> Result<(), String> {
    for (program, table) in [("iptables", "nat"), ("ip6tables", "filter")] {
        let listed = output(Command::new(program).args(["-w", "-t", table, "-S"]).stdin(Stdio::null()), program)?;
        if !listed.status.success() {
            return Err(format!("{program}: {}", String::from_utf8_lossy(&listed.stderr).trim()));
        }
    }
    for (program, arguments) in rules::removal() {
        // A part that is not there cannot be removed; that is no error. A missing program is.
        output(Command::new(program).args(&arguments).stdin(Stdio::null()), program)?;
    }
    Ok(())
}

fn show() -> Result<(), String> {
    let mut found = false;
    for (program, table, ours) in
        [("iptables", "nat", NAT_CHAINS.as_slice()), ("ip6tables", "filter", [DROP_CHAIN].as_slice())]
    {
        let listed = output(Command::new(program).args(["-w", "-t", table, "-S"]).stdin(Stdio::null()), program)?;
        if !listed.status.success() {
            return Err(format!("{program}: {}", String::from_utf8_lossy(&listed.stderr).trim()));
        }
        let text = String::from_utf8_lossy(&listed.stdout);
        for line in text.lines().filter(|line| ours.iter().any(|chain| line.contains(chain))) {
            found = true;
            out!("{program} -t {table} {line}");
        }
    }
    if !found {
        out!("no rules are installed");
    }
    Ok(())
}

fn restore(program: &str, rules: &str) -> Result<(), String> {
    let mut child = Command::new(program)
        .args(["-w", "--noflush"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| missing(program, &error))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).map_err(|error| format!("{program}: {error}"))?;
    }
    let done = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}

fn output(command: &mut Command, program: &str) -> Result<Output, String> {
    command.output().map_err(|error| missing(program, &error))
}

fn missing(program: &str, error: &std::io::Error) -> String {
    format!("{program}: {error}; the rules need the iptables package and the right to change the network (NET_ADMIN)")
}

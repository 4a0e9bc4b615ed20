//! Edges by source file: which part of a file's branches some input has taken.
//!
//! The addresses of the edges come from the program itself, their files from its debug information by addr2line (binutils).

use std::{
    collections::BTreeMap,
    env, fs, io,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// Prints each source file of the workspace of which any edge was reached: edges reached and all.
///
/// # Errors
/// What the system says; that there is no addr2line.
pub fn print(reached: &[u8]) -> io::Result<()> {
    let places = sys::coverage::places();
    let base = base()?;
    let mut files: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (file, reached) in files_of(places.iter().map(|place| place.saturating_sub(base)))?.iter().zip(reached) {
        if let Some(file) = own(file) {
            let (hit, all) = files.entry(file).or_default();
            *hit += usize::from(*reached);
            *all += 1;
        }
    }
    let (mut hits, mut alls) = (0, 0);
    println!("{:>7} {:>7} {:>5}  of the files that were reached at all", "reached", "edges", "");
    for (file, (hit, all)) in files.iter().filter(|(_, (hit, _))| *hit > 0) {
        println!("{hit:>7} {all:>7} {:>4}%  {file}", hit * 100 / all);
        (hits, alls) = (hits + hit, alls + all);
    }
    println!("{hits:>7} {alls:>7} {:>4}%  together", hits * 100 / alls.max(1));
    Ok(())
}

/// Where the program was loaded: the start of its first mapping (proc_pid_maps(5)).
fn base() -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let start = maps.split('-').next().unwrap_or_default();
    usize::from_str_radix(start, 16).map_err(io::Error::other)
}

/// The file of each address, in order.
fn files_of(addresses: impl Iterator<Item = usize>) -> io::Result<Vec<String>> {
    let mut child = Command::new("addr2line")
        .arg("-e")
        .arg(env::current_exe()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().expect("it is piped");
    let questions: String = addresses.map(|address| format!("{address:x}\n")).collect();
    let asking = thread::spawn(move || input.write_all(questions.as_bytes()));
    let output = child.wait_with_output()?;
    asking.join().expect("it does not panic")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// A file of the workspace that is not of this room, by its path from the root.
fn own(place: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.to_str()?;
    let (file, _) = place.rsplit_once(':')?;
    // Cargo gives rustc paths from the root of the workspace.
    let file = file.strip_prefix(root).map_or(file, |rest| rest.trim_start_matches('/'));
    let file = file.rsplit("/./").next()?;
    let ours = ["identity/", "policy/", "config/", "ca/", "tap/", "proxy/"];
    ours.iter().any(|room| file.starts_with(room)).then(|| file.to_owned())
}

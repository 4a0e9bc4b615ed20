//! One target in a process of its own.
//!
//! In: its name, how long, where the random numbers begin. Out: one line that says what came of it, which [`crate::crew`]
//! reads, and the edges that were reached as a file. A panic is caught, the input made as short as it can be and kept. What
//! cannot be caught (an overflow of the stack, an abort) ends the process: the input stands in a file by then. A watch ends a
//! process whose input takes too long or too much memory.

use crate::{
    corpus,
    mutate::mutate,
    random::Random,
    reached::Reached,
    targets::{self, Target},
};
use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    panic,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// What a worker is told.
pub struct Orders {
    /// The target.
    pub target: String,
    /// How long inputs are made up; the kept ones are tried in any case.
    pub time: Duration,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Whether inputs that reached more than the kept ones are kept as well.
    pub keep: bool,
}

/// Where a worker leaves what is no part of the repository.
pub fn scratch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzzing")
}

/// One input may take so long, in a build that checks everything.
const LONGEST: Duration = Duration::from_secs(10);

/// Resident memory at which a target is taken to be flooded.
const MEMORY: u64 = 1 << 30;

/// Inputs that are kept for their reach are at most so long.
const KEPT_BYTES: usize = 4096;

/// Runs a target; what is printed last is for the crew.
///
/// # Errors
/// What the system says of the files.
pub fn run(orders: &Orders) -> io::Result<()> {
    let target = targets::named(&orders.target).expect("a target of this name");
    panic::set_hook(Box::new(|panic| LAST.set(panic.to_string())));
    fs::create_dir_all(scratch())?;
    let trying = Trying { target, now: File::create(now_path(target.name))?, done: Arc::default() };
    trying.watch();
    let (mut reached, mut random) = (Reached::default(), Random::new(orders.seed));
    let started = Instant::now();

    let kept = corpus::read(target.name)?;
    let mut inputs = Vec::new();
    for (path, input) in &kept {
        if let Err(message) = trying.input(input, &mut reached) {
            println!("broken=kept {}\n{message}", path.display());
            process::exit(1);
        }
        inputs.push(input.clone());
    }
    let by_kept = reached.count();
    if inputs.is_empty() {
        inputs.push(Vec::new());
    }

    let fuzzing = Instant::now();
    while fuzzing.elapsed() < orders.time {
        for _ in 0..16 {
            // Half of the time one of the latest: they lead on.
            let recent = random.below(2) == 0;
            let from = if recent { inputs.len() - inputs.len().min(32) } else { 0 };
            let parent = &inputs[from + random.below(inputs.len() - from)];
            let other = &inputs[random.below(inputs.len())];
            let mut input = parent.clone();
            mutate(&mut random, &mut input, other, target.words, target.most);
            match trying.input(&input, &mut reached) {
                Ok(false) => {}
                Ok(true) => inputs.push(input),
                Err(message) => found(&trying, &mut reached, input, &message),
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let executions = trying.done.load(Relaxed);
    let mut added = 0;
    if orders.keep {
        added = keep(&trying, &kept, &inputs[kept.len().min(inputs.len())..])?;
    }
    let edges: Vec<u8> = reached.edges().map(u8::from).collect();
    fs::write(edges_path(target.name), &edges)?;
    println!(
        "executions={executions} seconds={seconds:.1} kept={} added={added} inputs={} by_kept={by_kept} reached={}",
        kept.len(),
        inputs.len(),
        reached.count()
    );
    Ok(())
}

/// The input that is being tried, or was when the process ended.
pub fn now_path(target: &str) -> PathBuf {
    scratch().join(format!("{target}.now"))
}

/// What was tried last, as [`now_path`] has it.
///
/// # Errors
/// What the system says.
pub fn last_tried(target: &str) -> io::Result<Vec<u8>> {
    let bytes = fs::read(now_path(target))?;
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    Ok(bytes.get(4..4 + length).unwrap_or_default().to_vec())
}

/// The edges that a target has reached, a byte for each.
pub fn edges_path(target: &str) -> PathBuf {
    scratch().join(format!("{target}.edges"))
}

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Trying {
    target: &'static Target,
    now: File,
    done: Arc<AtomicU64>,
}

impl Trying {
    /// Whether it reached anything new; how it broke a property.
    fn input(&self, input: &[u8], reached: &mut Reached) -> Result<bool, String> {
        // One write, which costs about a microsecond: the process may not live to tell.
        let length = u32::try_from(input.len()).unwrap().to_be_bytes();
        self.now.write_all_at(&[&length, input].concat(), 0).unwrap();
        reached.begin();
        let ended = panic::catch_unwind(|| (self.target.run)(input));
        let new = reached.end();
        self.done.fetch_add(1, Relaxed);
        match ended {
            Ok(()) => Ok(new),
            Err(_) => Err(LAST.take()),
        }
    }

    /// Ends the process when one input takes too long or too much.
    fn watch(&self) {
        let (done, name) = (Arc::clone(&self.done), self.target.name);
        thread::spawn(move || {
            let (mut last, mut since) = (u64::MAX, Instant::now());
            loop {
                thread::sleep(Duration::from_millis(200));
                let now = done.load(Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                let what = if since.elapsed() > LONGEST {
                    "takes too long"
                } else if resident() > MEMORY {
                    "takes too much memory"
                } else {
                    continue;
                };
                let path = corpus::keep(name, "found-", &last_tried(name).unwrap()).unwrap();
                println!("broken=found {}\n{what}", path.display());
                process::exit(1);
            }
        });
    }
}

/// Resident memory of this process in bytes; second word of statm, in pages (proc_pid_statm(5)).
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Makes an input that breaks a property as short as it can be, keeps it, and ends.
fn found(trying: &Trying, reached: &mut Reached, mut input: Vec<u8>, message: &str) -> ! {
    // The same place: the first line of a panic.
    let place = |message: &str| message.lines().next().map(str::to_owned);
    let began = Instant::now();
    let mut width = input.len() / 2;
    while width > 0 && began.elapsed() < LONGEST {
        let mut at = 0;
        while at < input.len() && began.elapsed() < LONGEST {
            let mut shorter = input.clone();
            shorter.drain(at..(at + width).min(input.len()));
            match trying.input(&shorter, reached) {
                Err(other) if place(&other) == place(message) => input = shorter,
                _ => at += width,
            }
        }
        width /= 2;
    }
    let message = trying.input(&input, reached).err().unwrap_or_else(|| message.to_owned());
    let path = corpus::keep(trying.target.name, "found-", &input).unwrap();
    println!("broken=found {}\n{message}", path.display());
    process::exit(1);
}

/// Keeps, of the new inputs and of those kept before for their reach, the few that reach most of what the inputs that people
/// gave do not; the others go. Says how many there are.
fn keep(trying: &Trying, kept: &[(PathBuf, Vec<u8>)], new: &[Vec<u8>]) -> io::Result<usize> {
    let (made, given): (Vec<_>, Vec<_>) = kept.iter().partition(|(path, _)| corpus::is_made(path));
    let mut reached = Reached::default();
    for (_, input) in given {
        let _ = trying.input(input, &mut reached);
    }
    let mut covered: Vec<bool> = reached.edges().collect();
    let all = made.iter().map(|(_, input)| input).chain(new).filter(|input| input.len() <= KEPT_BYTES);
    let mut candidates: Vec<(&Vec<u8>, Vec<usize>)> = all
        .map(|input| {
            let mut own = Reached::default();
            let _ = trying.input(input, &mut own);
            (input, own.edges().enumerate().filter(|(_, reached)| *reached).map(|(edge, _)| edge).collect())
        })
        .collect();
    let mut chosen = HashSet::new();
    while chosen.len() < MADE {
        for (_, edges) in &mut candidates {
            edges.retain(|edge| !covered[*edge]);
        }
        let best = candidates.iter().max_by_key(|(input, edges)| (edges.len(), Reverse(input.len())));
        let Some((input, edges)) = best.filter(|(_, edges)| !edges.is_empty()) else { break };
        edges.iter().for_each(|edge| covered[*edge] = true);
        chosen.insert(corpus::keep(trying.target.name, "", input)?);
    }
    for (path, _) in made.iter().filter(|(path, _)| !chosen.contains(path)) {
        fs::remove_file(path)?;
    }
    Ok(chosen.len())
}

/// Inputs kept for their reach, per target.
const MADE: usize = 24;

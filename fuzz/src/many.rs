//! So many exchanges through the tap's encoder: drawn at random, each judged as the target `tap_exchanges` does.
//!
//! In: how many have to be copied, and where the random numbers begin. Out: how many were tried and copied, and into how many packets; or
//! the input that broke a property, kept in `corpus/` like every find.

use crate::{
    corpus,
    random::Random,
    targets::exchanges::{self, Tried},
};
use std::{io, panic, time::Instant};

/// Runs; says whether every property held.
///
/// # Errors
/// What the system says of the file of a find.
pub fn run(count: u64, seed: u64) -> io::Result<bool> {
    let (mut random, mut all, started) = (Random::new(seed), Tried::default(), Instant::now());
    let mut next = REPORT;
    while all.copied < count {
        let length = 11 + random.below(500);
        let input: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        let Ok(tried) = panic::catch_unwind(|| exchanges::attempt(&input)) else {
            let path = corpus::keep("tap_exchanges", "found-", &input)?;
            println!("broken after {} exchanges: {} (seed {seed})", all.exchanges, path.display());
            return Ok(false);
        };
        all.add(tried);
        if all.copied >= next {
            next += REPORT;
            println!("{}", said(&all, started));
        }
    }
    println!("{} (seed {seed})", said(&all, started));
    Ok(true)
}

fn said(all: &Tried, started: Instant) -> String {
    let Tried { exchanges, copied, packets, connections } = all;
    let seconds = started.elapsed().as_secs();
    format!(
        "{exchanges} exchanges, {copied} of them copied as {packets} packets of {connections} connections, {seconds} s"
    )
}

/// Exchanges between two lines.
const REPORT: u64 = 1_000_000;

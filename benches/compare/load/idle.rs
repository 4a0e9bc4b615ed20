//! W6, idle connections: opens many, each asks once, then all stay silent until stdin is closed.
//!
//! Kind `plain` enters at the caller, kind `mtls` at the callee. Says `open` on stdout when the last has its answer.

use std::io::Read;
use std::path::Path;

use super::tls::{self, Offer, client};
use super::{Load, open};

const THREADS: usize = 8;

/// Opens, says so, holds, closes.
pub(crate) fn run(load: &Load) {
    let mut held: Vec<Held> = Vec::with_capacity(load.connections);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|index| {
                let share = (index..load.connections).step_by(THREADS).count();
                scope.spawn(move || connections(load, share))
            })
            .collect();
        threads.into_iter().for_each(|thread| held.extend(thread.join().unwrap()));
    });
    println!("open {}", held.len());
    let _ = std::io::stdin().read(&mut [0]);
}

/// Kept only to be closed at the end.
enum Held {
    Plain(#[allow(dead_code)] open::Connection),
    Tls(#[allow(dead_code)] Box<tls::Connection>),
}

fn connections(load: &Load, count: usize) -> Vec<Held> {
    let tls = (load.kind == "mtls")
        .then(|| client(Path::new("."), Some("web"), Offer { post_quantum: false, resume: false }));
    (0..count)
        .map(|number| match &tls {
            None => {
                let mut connection = open::Connection::open(load.to);
                connection.exchange(load.mix, number);
                Held::Plain(connection)
            }
            Some(config) => {
                let mut connection = tls::Connection::open(load.to, config).unwrap();
                connection.exchange().unwrap_or_else(|error| panic!("{error}"));
                Held::Tls(Box::new(connection))
            }
        })
        .collect()
}

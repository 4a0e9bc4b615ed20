//! Allocations per request and sidecar, counted by an allocator in this process.
//!
//! One sidecar runs in here, from the same file and by the same `Proxy::start` as the binary; the other is the release
//! binary. Load and origin stand beside it and allocate nothing per request, so whatever is counted is the sidecar's, all
//! its threads together. What aws-lc asks of libc is not seen; its record path asks for nothing. This is the one figure of
//! the build the tests are made with: optimisation does not move it.

use std::time::{Duration, SystemTime};

use config::IdentitySource;
use identity::Credentials;
use proxy::{Host, Proxy};
use support::counting;

use crate::SIDES;
use crate::limits::Table;
use crate::load::{self, Callers};
use crate::setting::{Ground, NOT_SELECTED, Shape};

#[test]
fn allocations_of_a_request_stay_within_their_limits() {
    let mut table = Table::new("allocations");
    let base = Shape::default();
    let shapes = [
        ("h1", base),
        ("log-envoy", Shape { log: Some("envoy"), ..base }),
        ("log-json", Shape { log: Some("json"), ..base }),
        ("rules", Shape { rules: true, ..base }),
        ("tap-apart", Shape { tap_apart: true, ..base }),
        ("h2", Shape { http2: true, ..base }),
    ];
    for (name, shape) in shapes {
        for side in SIDES {
            table.gate(&format!("{name}.{side}"), measure(side, shape), 1);
        }
    }
    // The caller has no tap.
    let other = Shape { tap: Some(NOT_SELECTED), ..base };
    table.gate("tap-not-selected.callee", measure("callee", other), 1);
    table.check();
}

/// The two lengths of load whose difference counts.
const REQUESTS: [usize; 2] = [200, 2200];

/// Allocations per request of one side.
fn measure(side: &str, shape: Shape) -> f64 {
    let ground = Ground::new(shape);
    let other = if side == "caller" { "callee" } else { "caller" };
    let _proxy = start(&ground, side);
    let mut other = ground.start(other, None);
    ground.prove(&mut [&mut other]);

    let mut callers = (!shape.http2).then(|| Callers::connect(ground.entry(), 1));
    let mut count = |requests| {
        let before = counting::calls();
        match &mut callers {
            Some(callers) => assert_eq!(callers.ask(requests), requests),
            None => load::ask_http2(ground.entry(), requests),
        }
        // Lines of the access log are written by the clock.
        std::thread::sleep(Duration::from_millis(100));
        (counting::calls() - before) as f64
    };
    count(REQUESTS[0]);
    let [few, many] = REQUESTS.map(count);
    (many - few) / (REQUESTS[1] - REQUESTS[0]) as f64
}

/// What `sekisho proxy` does after its command line.
fn start(ground: &Ground, side: &str) -> Proxy {
    let snapshot = config::load(&ground.file(side)).unwrap_or_else(|report| panic!("{}", report.render(false)));
    let IdentitySource::Files { cert, key, bundle } = &snapshot.identity else { panic!("not files") };
    let [cert, key, bundle] = [cert, key, bundle].map(|path| std::fs::read(path).unwrap());
    let credentials = Credentials::from_pem(&cert, &key, &bundle, &snapshot.workload, SystemTime::now()).unwrap();
    let host = Host { workers: 1, memory_limit: None, descriptors: None, resident: || None, release_memory: || {} };
    Proxy::start(snapshot, credentials, host).unwrap()
}

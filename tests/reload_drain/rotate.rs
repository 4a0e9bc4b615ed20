//! Certificates that would expire within seconds, renewed again and again under load: the sidecars' own, and those of a
//! caller that has none. Nobody notices.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::load::{Load, Total};
use support::message::{self, Kind};
use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting};
use support::pki::Cert;
use support::{tls, wait};

use super::{count, quiet};

/// As long as a certificate lives. The next one comes after two seconds.
const TTL: &str = "5s";
const EVERY: Duration = Duration::from_secs(2);

/// `SEKISHO_ROTATIONS` times three new certificates.
#[test]
fn certificates_of_five_seconds_are_renewed_under_load_without_a_failed_request() {
    let setting = quiet(Setting::new());
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let notes = Arc::clone(&seen);
    let origin = Origin::forgetful(setting.at.app, move |request| {
        notes.lock().unwrap().insert(request.header("x-forwarded-client-cert").map(str::to_owned));
        Reply::text("here")
    });
    let papers = Arc::new(Mutex::new(setting.ca.issue_for("direct", "shop", "web", TTL)));
    for name in ["web", "orders"] {
        setting.ca.issue_for(name, "shop", name, TTL);
    }
    let pair = setting.start_with(origin);
    let serials = || [&pair.client, &pair.server].map(|one| one.policy_status()["certificate"]["serial"].clone());

    let kept = Load::start(pair.entry(), HOST, "/api/orders/42", 2);
    let fresh = Load::fresh(pair.entry(), HOST, "/api/orders/42", 1);
    let direct = Direct::start(pair.setting.at.inbound, &papers, 2);
    let rotations = count("SEKISHO_ROTATIONS", 10);
    let mut next = Instant::now();
    for round in 0..rotations {
        let before = serials();
        for (name, account) in [("web", "web"), ("orders", "orders"), ("direct", "web")] {
            // Its files are read by another thread, one after the other.
            let _held = papers.lock().unwrap();
            pair.setting.ca.issue_for(name, "shop", account, TTL);
        }
        if round % 2 == 0 {
            pair.client.reload();
            pair.server.reload();
        }
        wait::until("both sidecars to take their new certificates", wait::SOON, || {
            serials().iter().zip(&before).all(|(now, before)| now != before).then_some(())
        });
        assert!(pair.client.is_ready() && pair.server.is_ready(), "a certificate expired in round {round}");
        next += EVERY;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let [kept, fresh, direct] = [kept.stop(), fresh.stop(), direct.stop()];
    let certificates = seen.lock().unwrap().len();
    println!(
        "{rotations} rotations of certificates of {TTL}: kept {}, fresh {}, mtls {} requests; {certificates} of callers were seen",
        kept.ok, fresh.ok, direct.ok
    );
    for load in [kept, fresh, direct] {
        load.assert_clean(50);
    }
    // Each of both callers' certificates reached the application's notice, one round more or less.
    assert!(certificates as u32 >= 2 * rotations, "the application saw {certificates} certificates");
}

/// Callers without a sidecar: three requests on each connection, with the papers that are valid now.
struct Direct {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Total>>,
}

impl Direct {
    fn start(to: SocketAddr, papers: &Arc<Mutex<Cert>>, workers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = |_| {
            let (papers, stop) = (Arc::clone(papers), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut total = Total::default();
                while !stop.load(Ordering::SeqCst) {
                    match ask(to, &papers) {
                        Ok(count) => total.ok += count,
                        Err(error) => total.failed.push(error.to_string()),
                    }
                }
                total
            })
        };
        Self { workers: (0..workers).map(worker).collect(), stop }
    }

    fn stop(self) -> Total {
        self.stop.store(true, Ordering::SeqCst);
        let mut total = Total::default();
        for worker in self.workers {
            let one = worker.join().unwrap();
            total.ok += one.ok;
            total.failed.extend(one.failed);
        }
        total
    }
}

fn ask(to: SocketAddr, papers: &Mutex<Cert>) -> std::io::Result<u64> {
    let certified = tls::certified(&papers.lock().unwrap());
    let mut stream = tls::shake_hands(tls::config(Some(certified), &["http/1.1"])?, to)?;
    for _ in 0..3 {
        stream.write_all(format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
        let answer = message::read(&mut std::io::BufReader::new(&mut stream), Kind::Response)?;
        let status = answer.map_or(0, |answer| answer.status());
        if status != 200 {
            return Err(std::io::Error::other(format!("status {status}")));
        }
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    let _ = stream.sock.shutdown(std::net::Shutdown::Write);
    // To its end, so that connections do not pile up.
    let _ = stream.read_to_end(&mut Vec::new());
    Ok(3)
}

/// A connection may outlive its certificate, but not for ever: the first answer after that says that it was the last.
#[test]
fn a_caller_whose_certificate_has_ended_is_asked_to_come_again() {
    let setting = quiet(Setting::new());
    let origin = Origin::forgetful(setting.at.app, |_| Reply::text("here"));
    let papers = setting.ca.issue_for("direct", "shop", "web", TTL);
    let issued = Instant::now();
    let pair = setting.start_with(origin);
    let mut stream = tls::connect(pair.setting.at.inbound, Some(&papers), &["http/1.1"]).unwrap();
    let mut ask = || {
        stream.write_all(format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        let answer = message::read(&mut std::io::BufReader::new(&mut stream), Kind::Response).unwrap().unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.closes()
    };
    // Its last second is the fifth at the latest, and it is good until the end of that.
    let certain = Duration::from_secs(7);
    wait::until("an answer that ends the connection", certain * 3, || {
        let closes = ask();
        assert!(closes || issued.elapsed() < certain, "it goes on with a certificate that has ended");
        if closes {
            Some(())
        } else {
            std::thread::sleep(Duration::from_millis(200));
            None
        }
    });
    assert!(issued.elapsed() > Duration::from_secs(3), "too early: {:?}", issued.elapsed());
}

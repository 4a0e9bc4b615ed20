//! Classes 86 to 93: more than a hundred certificates, shown by a caller to the callee's inbound port, and by a callee that
//! the caller's sidecar dials. The good ones pass, each by name; of the others the application sees no connection and the
//! peer no byte of HTTP, and the refusal names the reason.
//!
//! Beside it stands an Envoy of either role that is told which URI names to accept.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use support::catalogue::{Outcome, Table};
use support::envoy::{Envoy, Version};
use support::origin::Origin;
use support::pair::{HOST, Setting};
use support::rogue::Rogue;
use support::sidecar::Sidecar;
use support::x509::{Authority, Papers};
use support::{ports, tls, wait, wire};

use super::papers::{self, Variant};

/// Papers of both sides under a root that the test can sign with, in place of those of `sekisho ca`.
fn setting() -> (Setting, Authority) {
    let setting = Setting::new();
    let root = Authority::root("root");
    for (cert, name) in [(&setting.web, "web"), (&setting.orders, "orders")] {
        root.leaf(&support::pki::spiffe("shop", name), |leaf| leaf).write(cert, &[&root]);
    }
    (setting, root)
}

#[test]
fn of_all_certificates_a_caller_can_show_only_the_good_ones_pass() {
    let (setting, root) = setting();
    let long = papers::long_id(2048);
    let rule = format!(
        "\n[identities]\nlong = \"{long}\"\n\n[[inbound]]\nname = \"long\"\nfrom = \"long\"\nrequests = [\"GET /api/orders/{{id:uint}}\"]\n"
    );
    let setting = setting.server(|text| text + &rule);
    let server = setting.start_server();
    let origin = Origin::on(setting.at.app);
    let app = Origin::start();
    let envoy = Envoy::strict_callee(
        setting.dir.path(),
        ports::local(),
        &setting.orders,
        &support::pki::spiffe("shop", "web"),
        "spiffe://example.org/",
        app.addr(),
    );
    let mut variants = papers::all(&setting.dir, &root, "/ns/shop/sa/web");
    let papers = root.leaf(&long, |leaf| leaf);
    variants.push(Variant { class: 89, case: "ID of 2048 bytes", reason: None, papers });
    assert!(variants.len() >= 100, "{}", variants.len());

    let mut table = Table::new("tls-callers", 86..=93);
    let nobody = call(setting.at.inbound, None, 999);
    assert!(!nobody.answered && server.refused("no_certificate")["remote"] == nobody.from.to_string());
    for (number, variant) in variants.iter().enumerate() {
        let (before, told) = (origin.connections(), server.events().len());
        let said = call(setting.at.inbound, Some(&variant.papers), number);
        let reached = origin.connections() > before || !origin.requests_for(&target(number)).is_empty();
        let ours = match variant.reason {
            None => must_pass(said.status == Some(200) && reached, &said),
            Some(_) if reached || said.answered => Outcome::Passed(format!("{said:?}")),
            Some(reason) => refused_as(&server, told, reason, &said.from.to_string()),
        };
        // The long ID is nobody in the Envoy's rules, which know one caller.
        let theirs = (variant.case != "ID of 2048 bytes").then(|| {
            let said = call(envoy.addr(), Some(&variant.papers), number);
            seen_by_envoy(variant, said.status == Some(200) || !app.requests_for(&target(number)).is_empty(), &said)
        });
        table.row(variant.class, variant.case, ours, theirs);
    }
    // A certificate that is good and somebody else's: proved, and allowed nothing.
    let other = root.leaf(&support::pki::spiffe("shop", "other"), |leaf| leaf);
    let said = call(setting.at.inbound, Some(&other), 998);
    assert_eq!(said.status, Some(403), "{said:?}");
    assert!(origin.requests_for(&target(998)).is_empty());
    table.judge(&[86, 87, 88, 89, 90, 91, 92, 93]);
}

#[test]
fn of_all_certificates_a_callee_can_show_only_the_good_ones_get_a_request() {
    let (setting, root) = setting();
    let variants = papers::all(&setting.dir, &root, "/ns/shop/sa/orders");
    let rogue = Rogue::start(setting.at.inbound, &variants[0].papers);
    let client = setting.start_client();
    let orders = support::pki::spiffe("shop", "orders");
    let envoy = Envoy::caller(setting.dir.path(), &setting.web, rogue.addr(), &orders, Version::Http1);

    let mut table = Table::new("tls-callees", 86..=93);
    for (number, variant) in variants.iter().enumerate() {
        rogue.show(&variant.papers);
        let (status, received) = ask(&rogue, setting.at.entry, number);
        let ours = match variant.reason {
            None => must_pass(status == 200 && received > 0, &status),
            Some(_) if status != 503 || received > 0 => Outcome::Passed(format!("{status}, {received} bytes received")),
            Some(reason) => refused_as(&client, 0, reason, &format!("{}:", target(number))),
        };
        let (status, received) = ask(&rogue, envoy.addr(), number);
        table.row(variant.class, variant.case, ours, Some(seen_by_envoy(variant, received > 0, &status)));
    }
    let other = root.leaf(&support::pki::spiffe("shop", "other"), |leaf| leaf);
    rogue.show(&other);
    let (status, received) = ask(&rogue, setting.at.entry, 998);
    assert_eq!((status, received), (503, 0), "a callee of another name was sent a request");
    table.judge(&[86, 87, 88, 89, 90, 91, 92, 93]);
}

#[test]
fn chains_without_end_cost_little() {
    let (setting, root) = setting();
    let server = setting.start_server();
    let variants = papers::all(&setting.dir, &root, "/ns/shop/sa/web");
    let cost = |case: &str| {
        let variant = variants.iter().find(|variant| variant.case == case).unwrap();
        let before = cpu(server.child.id());
        for number in 0..50 {
            assert_ne!(call(setting.at.inbound, Some(&variant.papers), number).status, Some(200));
        }
        cpu(server.child.id()).saturating_sub(before)
    };
    let usual = cost("expired by a second");
    for case in ["25 certificates deep", "150 certificates behind each other", "five CAs of one name, entangled"] {
        let long = cost(case);
        println!("50 handshakes, {case}: {long:?} of processor time; a plain refusal: {usual:?}");
        assert!(long < 5 * usual + Duration::from_millis(500), "{case}: {long:?} against {usual:?}");
    }
}

/// What a caller saw.
#[derive(Debug)]
struct Said {
    /// From where it called.
    from: SocketAddr,
    /// Whether any byte of application data came back.
    answered: bool,
    status: Option<u16>,
    end: String,
}

fn target(number: usize) -> String {
    format!("/api/orders/{number}")
}

/// One request over a connection with these papers.
fn call(to: SocketAddr, papers: Option<&Papers>, number: usize) -> Said {
    let mut said = Said { from: to, answered: false, status: None, end: String::new() };
    let mut stream = match tls::begin(to, papers, &["http/1.1"]) {
        Ok(stream) => stream,
        Err(error) => return Said { end: error.to_string(), ..said },
    };
    said.from = stream.sock.local_addr().unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n", target(number));
    let mut first = [0; 64];
    let done = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    // One read is enough: an Envoy that answers 403 takes a second to close.
    match done.and_then(|()| stream.read(&mut first)) {
        Ok(count) => {
            said.answered = count > 0;
            said.status = String::from_utf8_lossy(&first[..count]).split(' ').nth(1).and_then(|word| word.parse().ok());
        }
        Err(error) => said.end = error.to_string(),
    }
    said
}

/// One request through a caller's proxy: its status, and how much application data the callee got.
fn ask(rogue: &Rogue, entry: SocketAddr, number: usize) -> (u16, usize) {
    let before = rogue.seen().len();
    let status = wire::get(entry, HOST, &target(number)).unwrap().status();
    let seen = wait::until("the callee to have seen the connection", wait::SOON, || {
        let seen = rogue.seen().split_off(before);
        (!seen.is_empty()).then_some(seen)
    });
    (status, seen.iter().map(|one| one.received.len()).sum())
}

fn must_pass(passed: bool, said: &dyn std::fmt::Debug) -> Outcome {
    // The bad outcome of a good certificate is that it does not pass.
    if passed { Outcome::Cleaned("good: 200".into()) } else { Outcome::Passed(format!("GOOD REFUSED: {said:?}")) }
}

/// The refusal line that has `mark`, which must give the reason. The first `told` lines are of earlier cases, whose ports may
/// come again.
fn refused_as(sidecar: &Sidecar, told: usize, reason: &str, mark: &str) -> Outcome {
    let event = wait::until(&format!("a refusal line with {mark}"), wait::SOON, || {
        sidecar.events().into_iter().skip(told).find(|event| event.to_string().contains(mark))
    });
    let word = event["reason"].as_str().unwrap_or_default().to_owned();
    if !event.to_string().contains(reason) {
        return Outcome::Passed(format!("not refused as {reason}: {event}"));
    }
    Outcome::Refused(if word == "upstream_tls" && !reason.is_empty() { reason.to_owned() } else { word })
}

fn seen_by_envoy(variant: &Variant, passed: bool, said: &dyn std::fmt::Debug) -> Outcome {
    match (variant.reason, passed) {
        (None, true) => Outcome::Cleaned("good: 200".into()),
        (None, false) => Outcome::Refused(format!("a good one: {said:?}").chars().take(60).collect()),
        (Some(_), true) => Outcome::Passed("200".into()),
        (Some(_), false) => Outcome::Refused(String::new()),
    }
}

/// Processor time of a process so far, of all its threads.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    // Hundredths of a second (proc(5), sysconf(_SC_CLK_TCK)): user and system time.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

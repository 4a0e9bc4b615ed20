//! Classes 97 and 98: papers that change while connections are open. Open connections go on under the old certificate, new
//! ones see the new one; when a root goes, whoever rests on it ends within `revoke_within`; a key that does not fit its
//! certificate changes nothing and is shown.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::origin::Origin;
use support::pair::{HOST, Setting};
use support::pki::spiffe;
use support::sidecar::Sidecar;
use support::x509::{Authority, Papers, certificates};
use support::{tls, wait};

const REVOKE_WITHIN: Duration = Duration::from_secs(2);

/// A callee's sidecar under a root of the test's own.
struct Callee {
    setting: Setting,
    server: Sidecar,
    origin: Origin,
}

impl Callee {
    fn start(root: &Authority) -> Self {
        let setting = Setting::new().server(|text| text.replace("[proxy]\n", "[proxy]\nrevoke_within = \"2s\"\n"));
        leaf(root, "orders").write(&setting.orders, &[root]);
        let server = setting.start_server();
        let origin = Origin::on(setting.at.app);
        Self { setting, server, origin }
    }

    fn at(&self) -> SocketAddr {
        self.setting.at.inbound
    }

    /// The serial number of the certificate in force.
    fn certificate(&self) -> serde_json::Value {
        self.server.policy_status()["certificate"].clone()
    }

    /// Writes the roots alone.
    fn trust(&self, roots: &[&Authority]) {
        self.setting.dir.write("roots.pem", certificates(roots.iter().map(|root| &root.der)));
        self.server.reload();
    }
}

fn leaf(root: &Authority, name: &str) -> Papers {
    root.leaf(&spiffe("shop", name), |leaf| leaf.with(|leaf| leaf.serial = serial()))
}

/// A new number each time.
fn serial() -> Vec<u8> {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(1);
    vec![0x11, NEXT.fetch_add(1, Ordering::Relaxed)]
}

/// One request on a kept connection.
fn ask(stream: &mut tls::Stream) -> std::io::Result<u16> {
    stream.write_all(format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..count]);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| std::io::Error::other("no answer"))
}

fn shown(stream: &tls::Stream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

/// A new connection and a request on it.
fn connect(to: SocketAddr, papers: &Papers) -> std::io::Result<(tls::Stream, u16)> {
    let mut stream = tls::begin(to, Some(papers), &["http/1.1"])?;
    let status = ask(&mut stream)?;
    Ok((stream, status))
}

#[test]
fn open_connections_go_on_and_new_ones_see_the_new_certificate() {
    let root = Authority::root("root");
    let callee = Callee::start(&root);
    let web = leaf(&root, "web");
    let (mut old, status) = connect(callee.at(), &web).unwrap();
    assert_eq!(status, 200);
    let next = leaf(&root, "orders");
    assert_ne!(shown(&old), next.chain[0]);
    next.write(&callee.setting.orders, &[&root]);
    callee.server.reload();
    wait::until("the new certificate on a new connection", wait::SOON, || {
        let (new, status) = connect(callee.at(), &web).unwrap();
        assert_eq!(status, 200);
        (shown(&new) == next.chain[0]).then_some(())
    });
    // Also after everything open has been judged again.
    let end = Instant::now() + REVOKE_WITHIN + Duration::from_secs(1);
    while Instant::now() < end {
        assert_eq!(ask(&mut old).unwrap(), 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_ne!(shown(&old), next.chain[0]);
}

#[test]
fn a_new_root_is_taken_in_and_the_old_ones_peers_end_with_it() {
    let (old_root, new_root) = (Authority::root("old"), Authority::root("new"));
    let callee = Callee::start(&old_root);
    let (old_web, new_web) = (leaf(&old_root, "web"), leaf(&new_root, "web"));
    let (mut old, status) = connect(callee.at(), &old_web).unwrap();
    assert_eq!(status, 200);
    assert!(connect(callee.at(), &new_web).is_err(), "a root that nobody has named yet");

    callee.trust(&[&old_root, &new_root]);
    let (mut new, _) = wait::until("the new root to be trusted", wait::SOON, || connect(callee.at(), &new_web).ok());
    assert_eq!(ask(&mut old).unwrap(), 200);

    // Our own certificate first: a sidecar whose own root is gone could be verified by nobody.
    leaf(&new_root, "orders").write(&callee.setting.orders, &[&old_root, &new_root]);
    callee.server.reload();
    wait::until("the certificate of the new root", wait::SOON, || {
        let (stream, _) = connect(callee.at(), &new_web).ok()?;
        // A leaf of the test names its issuer, and the issuer's name is in it.
        shown(&stream).windows(3).any(|part| part == b"new").then_some(())
    });
    assert_eq!(ask(&mut old).unwrap(), 200, "both roots are trusted");

    callee.trust(&[&new_root]);
    wait::until("the old root to be refused", wait::SOON, || connect(callee.at(), &old_web).is_err().then_some(()));
    let before = callee.origin.requests().len();
    let begin = Instant::now();
    let mut asked = 0;
    while let Ok(200) = ask(&mut old) {
        asked += 1;
        std::thread::sleep(Duration::from_millis(20));
        assert!(begin.elapsed() < REVOKE_WITHIN + Duration::from_secs(4), "still served after {:?}", begin.elapsed());
    }
    println!("a connection of the old root was served {asked} times more and ended after {:?}", begin.elapsed());
    assert_eq!(callee.origin.requests().len(), before + asked, "a request arrived that was refused");
    assert_eq!(ask(&mut new).unwrap(), 200, "a connection of the new root ended too");
    assert_eq!(ask(&mut new).unwrap(), 200);
}

#[test]
fn a_stream_of_the_removed_root_ends_within_its_time() {
    let (old_root, new_root) = (Authority::root("old"), Authority::root("new"));
    let callee = Callee::start(&new_root);
    callee.trust(&[&old_root, &new_root]);
    let old_web = leaf(&old_root, "web");
    let mut stream = wait::until("the old root to be trusted", wait::SOON, || {
        connect(callee.at(), &old_web).ok().map(|(stream, _)| stream)
    });
    // A request whose body does not end.
    let head = format!("GET /api/orders/7 HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    wait::until("the application to hear of it", wait::SOON, || callee.origin.saw(b"abc").then_some(()));
    callee.trust(&[&new_root]);
    let begin = Instant::now();
    let mut rest = Vec::new();
    stream.sock.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let end = stream.read_to_end(&mut rest);
    println!("ended after {:?}: {end:?} {}", begin.elapsed(), String::from_utf8_lossy(&rest));
    // Half a second for the look at the files, and room for two busy cores.
    assert!(begin.elapsed() < REVOKE_WITHIN + Duration::from_secs(4), "{:?}", begin.elapsed());
    let _ = stream.write_all(b"6\r\nSECRET\r\n0\r\n\r\n").and_then(|()| stream.flush());
    assert!(!callee.origin.saw(b"SECRET"));
    assert!(callee.origin.requests_for("/api/orders/7").is_empty(), "a whole request arrived");
}

#[test]
fn bad_papers_keep_the_old_ones_and_are_shown() {
    let root = Authority::root("root");
    let callee = Callee::start(&root);
    let web = leaf(&root, "web");
    let (mut old, _) = connect(callee.at(), &web).unwrap();
    let mut in_force = callee.certificate();
    assert_eq!(in_force["stale"], false, "{in_force}");
    let stranger = Authority::root("stranger");
    let unpaired = Papers { key: support::x509::Key::p256(), ..leaf(&root, "orders") };
    let expired =
        root.leaf(&spiffe("shop", "orders"), |leaf| leaf.with(|leaf| leaf.not_after = support::x509::now() - 1));
    let garbage = Papers { chain: vec![b"garbage".to_vec()], ..leaf(&root, "orders") };
    for (case, bad) in [
        ("a key that is not the certificate's", unpaired),
        ("a root that is not ours", leaf(&stranger, "orders")),
        ("another workload", leaf(&root, "web")),
        ("expired", expired),
        ("no certificate", garbage),
    ] {
        bad.write(&callee.setting.orders, &[&root]);
        callee.server.reload();
        let status = wait::until(&format!("{case}: to be shown"), wait::SOON, || {
            Some(callee.certificate()).filter(|status| status["stale"] == true)
        });
        assert_eq!(status["serial"], in_force["serial"], "{case}");
        assert!(status["problem"]["why"].as_str().is_some_and(|problem| !problem.is_empty()), "{case}: {status}");
        assert_eq!(callee.server.metrics().sum("sekisho_credentials_stale", &[]), 1.0, "{case}");
        assert_eq!(ask(&mut old).unwrap(), 200, "{case}");
        assert_eq!(connect(callee.at(), &web).unwrap().1, 200, "{case}");
        leaf(&root, "orders").write(&callee.setting.orders, &[&root]);
        callee.server.reload();
        let good = wait::until(&format!("{case}: good papers again"), wait::SOON, || {
            Some(callee.certificate()).filter(|status| status["stale"] == false)
        });
        assert_ne!(good["serial"], in_force["serial"], "{case}");
        in_force = good;
        assert_eq!(connect(callee.at(), &web).unwrap().1, 200, "{case}");
    }
}

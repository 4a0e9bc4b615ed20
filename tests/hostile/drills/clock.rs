//! Classes 86 and 115: the wall clock jumps while a sidecar runs, forty days ahead and a day back. New handshakes fail closed, as
//! expired or not yet valid; connections that are open go on; timers, which go by the monotonic clock, still end what stalls;
//! and once the clock is right again everything is served.
//!
//! The shipped binary has no way to move its clock. libfaketime moves it from outside, and so this needs a dynamically linked
//! build.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::origin::Origin;
use support::pair::{HOST, Setting};
use support::sidecar::Sidecar;
use support::{child, tls, tools, wait, wire};

/// A clock that the test moves, and that the processes started with it read.
struct FakeClock<'a> {
    setting: &'a Setting,
    name: &'static str,
}

impl<'a> FakeClock<'a> {
    fn new(setting: &'a Setting, name: &'static str) -> Self {
        let clock = Self { setting, name };
        clock.shift("+0");
        clock
    }

    /// As `+40d`.
    fn shift(&self, by: &str) {
        self.setting.dir.write(self.name, by);
    }

    /// A command whose wall clock this is. Its monotonic clock and the times of files are the real ones.
    fn command(&self) -> Command {
        let mut command = Command::new(tools::sekisho());
        command.envs(tools::faketime(&self.setting.dir.join(self.name))).current_dir(self.setting.dir.path());
        command
    }

    fn sidecar(&self, name: &str) -> Sidecar {
        let mut command = self.command();
        let mut sidecar =
            Sidecar::start_by(command.args(["proxy", "-c", &format!("{name}.toml")]), self.setting.dir.path(), name);
        sidecar.wait_until_ready();
        sidecar
    }
}

/// The pair with handshakes that may take two seconds and streams that may stand still for one.
fn setting() -> Setting {
    super::setting()
        .server(super::with("handshake_timeout = \"2s\"\nhead_timeout = \"1s\""))
        .client(super::with("handshake_timeout = \"2s\""))
}

/// One request on a kept connection.
fn ask(stream: &mut tls::Stream) -> std::io::Result<u16> {
    stream.write_all(format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..count]);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| std::io::Error::other("no answer"))
}

/// Nothing of the sort was said.
fn assert_no_panic(sidecar: &mut Sidecar) {
    assert!(sidecar.child.is_running());
    assert!(!sidecar.child.stderr.text().contains("panicked"), "{}", sidecar.child.stderr.tail(20));
}

#[test]
fn a_callee_whose_clock_jumps_refuses_new_callers_and_keeps_old_ones() {
    let setting = setting();
    let clock = FakeClock::new(&setting, "callee.clock");
    let mut server = clock.sidecar("server");
    let _origin = Origin::on(setting.at.app);
    let at = setting.at.inbound;
    // With sessions: one that was begun before the jump must not be taken up after it.
    let mut config = tls::config(Some(tls::certified(&setting.web)), &["http/1.1"]).unwrap();
    config.resumption = rustls::client::Resumption::in_memory_sessions(64);
    let config = Arc::new(config);
    let connect = || -> std::io::Result<(tls::Stream, u16)> {
        let mut stream = tls::start(Arc::clone(&config), at)?;
        let status = ask(&mut stream)?;
        Ok((stream, status))
    };
    let (mut old, status) = connect().unwrap();
    assert_eq!(status, 200);
    let (resumed, _) = connect().unwrap();
    assert_eq!(
        resumed.conn.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed),
        "or the drill says less than it should"
    );
    for (jump, reason) in [("+40d", "expired"), ("-1d", "not_yet_valid")] {
        clock.shift(jump);
        // A caller with no session at all, and one that has some.
        let refused = tls::connect(at, Some(&setting.web), &["http/1.1"]).and_then(|mut stream| ask(&mut stream));
        assert!(refused.is_err(), "{jump}: {refused:?}");
        assert!(connect().is_err(), "{jump}: a session of before the jump was taken up");
        let refusal = server.refused(reason);
        assert_eq!(refusal["event"], "handshake_refused", "{jump}: {refusal}");
        assert_eq!(ask(&mut old).unwrap(), 200, "{jump}: an open connection goes on");
        if reason == "expired" {
            assert!(!server.is_ready(), "ready with a certificate of its own that has expired");
        }
        // Timers: a hello that stalls, and a head that does.
        let begun = Instant::now();
        let (_, end) = wire::exchange(at, b"\x16\x03\x01\x02\x00", wait::SOON);
        assert_ne!(end, wire::End::Quiet, "{jump}: a stalled hello");
        assert!(begun.elapsed() >= Duration::from_millis(1500), "{jump}: {:?}", begun.elapsed());
        assert_no_panic(&mut server);
    }
    clock.shift("+0");
    assert_eq!(connect().unwrap().1, 200, "the clock is right again");
    assert!(server.is_ready());
    assert_eq!(ask(&mut old).unwrap(), 200);
}

#[test]
fn a_caller_whose_clock_jumps_believes_no_callee() {
    let setting = setting();
    let clock = FakeClock::new(&setting, "caller.clock");
    let _server = setting.start_server();
    let mut client = clock.sidecar("client");
    let origin = Origin::on(setting.at.app);
    let get = |path: &str| wire::get(setting.at.entry, HOST, path).unwrap();
    assert_eq!(get("/open/before").status(), 200);
    for (jump, reason) in [("+40d", "CERTIFICATE_VERIFY_FAILED"), ("-1d", "CERTIFICATE_VERIFY_FAILED")] {
        clock.shift(jump);
        // The connection that is open is used until it has been idle for a second; then a new one is needed.
        let refused = wait::until("a new connection to the callee", wait::SOON, || {
            std::thread::sleep(Duration::from_millis(1500));
            Some(get("/open/jumped")).filter(|reply| reply.status() != 200)
        });
        assert_eq!(refused.status(), 503, "{jump}");
        client.logged(&["/open/jumped", "\"response_code\":503", reason]);
        assert_no_panic(&mut client);
        let seen = origin.requests().len();
        assert_eq!(get("/open/jumped").status(), 503, "{jump}");
        assert_eq!(origin.requests().len(), seen, "{jump}: nothing of it arrived");
        clock.shift("+0");
        assert_eq!(get("/open/after").status(), 200, "{jump}: the clock is right again");
    }
}

#[test]
fn certificates_issued_after_the_jump_are_taken_up() {
    let setting = setting();
    let clock = FakeClock::new(&setting, "both.clock");
    let (mut server, mut client) = (clock.sidecar("server"), clock.sidecar("client"));
    let _origin = Origin::on(setting.at.app);
    let get = || wire::get(setting.at.entry, HOST, "/open/a").unwrap().status();
    assert_eq!(get(), 200);
    // Ahead, and the papers of the time there; then back, where those are not yet valid.
    for jump in ["+40d", "+0"] {
        clock.shift(jump);
        wait::until("the old papers to be of no use", wait::SOON, || {
            std::thread::sleep(Duration::from_millis(1500));
            (get() == 503).then_some(())
        });
        for (name, id) in
            [("web", "spiffe://example.org/ns/shop/sa/web"), ("orders", "spiffe://example.org/ns/shop/sa/orders")]
        {
            let mut issue = clock.command();
            issue.args(["ca", "issue", "--dir", "ca", "--out", ".", "--id", id, "--name", name]);
            // Back again, the audit log has records from the future.
            child::run(issue.arg("--accept-clock"));
        }
        server.reload();
        client.reload();
        wait::until("the new papers", wait::SOON, || (get() == 200).then_some(()));
        assert!(server.is_ready() && client.is_ready(), "{jump}");
        for sidecar in [&mut server, &mut client] {
            assert_no_panic(sidecar);
        }
    }
}

//! The deny list reaches the callee within two seconds: new handshakes are refused, open connections end.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use support::child::run;
use support::pair::HOST;
use support::pki::{Cert, Forged, spiffe};
use support::{tls, wait, wire};

use super::world::{PATH, Stage, World};

/// A busy machine may need longer than two seconds.
const BUSY: Duration = Duration::from_secs(8);

#[test]
fn a_denied_name_is_refused_and_stays_so_when_the_callee_renews() {
    let world = stage("6s").start();
    assert!(passes(&world));
    let denied = deny(&world, |_| ["--id".to_owned(), spiffe("shop", "web")]);
    println!("by name: {denied}");
    wait::until("the caller's sidecar to get nowhere", BUSY, || (!passes(&world)).then_some(()));
    let serial = || world.server.policy_status()["certificate"]["serial"].clone();
    for _ in 0..2 {
        let before = serial();
        wait::until("the callee's renewal", wait::SOON, || {
            assert!(!passes(&world), "the callee let it in again");
            (serial() != before).then_some(())
        });
    }
    assert!(!passes(&world), "the callee let it in again after a renewal");
    let denied = world.server.refusal("the deny list", |event| event["event"] == "handshake_refused");
    assert_eq!(denied["reason"], "denied", "{denied}");
}

#[test]
fn a_denied_serial_is_refused() {
    let world = stage("60s").start();
    let denied = deny(&world, |cert| {
        let said = run(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(&cert.chain));
        ["--serial".to_owned(), said.trim().trim_start_matches("serial=").to_lowercase()]
    });
    println!("by serial: {denied}");
    assert!(passes(&world), "another certificate of the same name is as good as before");
}

#[test]
fn a_denied_key_is_refused() {
    let world = stage("60s").start();
    let denied = deny(&world, |cert| {
        let pipe = "openssl pkey -in \"$0\" -pubout -outform DER | openssl dgst -sha256 -r";
        let said = run(Command::new("sh").args(["-c", pipe]).arg(&cert.key));
        ["--key".to_owned(), said.split(' ').next().unwrap().to_owned()]
    });
    println!("by key: {denied}");
    assert!(passes(&world), "another certificate of the same name is as good as before");
}

fn stage(ttl: &str) -> Stage {
    Stage::new(ttl).change("server", |text| text.replace("[proxy]\n", "[proxy]\nrevoke_within = \"1s\"\n"))
}

/// Somebody holds papers of the caller's name, and a connection. Denied by what `which` says of them, the next handshake is
/// refused and the connection ends; how long after the command's start, in words.
fn deny(world: &World, which: impl FnOnce(&Cert) -> [String; 2]) -> String {
    let name = format!("URI:{}", spiffe("shop", "web"));
    let papers = world.ca.forger().leaf("thief", &Forged { names: &[&name], ..Forged::default() });
    let mut open = tls::connect(world.at.inbound, Some(&papers), &["http/1.1"]).unwrap();
    assert_eq!(ask(&mut open).unwrap(), 200);
    let [option, value] = which(&papers);
    let begun = Instant::now();
    world.ca.run(&["deny", "--dir", "ca", "add", &option, &value, "--reason", "stolen"]);
    let commanded = begun.elapsed();
    let handshake = || tls::connect(world.at.inbound, Some(&papers), &["http/1.1"]).and_then(|mut new| ask(&mut new));
    wait::until("a handshake to be refused", BUSY, || handshake().is_err().then_some(()));
    let refused = begun.elapsed();
    // The peer's end of it, without a request that would have it judged.
    open.sock.set_read_timeout(Some(BUSY)).unwrap();
    let end = open.read(&mut [0; 64]);
    assert!(matches!(end, Ok(0)) || end.as_ref().is_err_and(|error| !is_timeout(error)), "{end:?}");
    let ended = begun.elapsed();
    assert!(ended < BUSY, "{ended:?}");
    format!(
        "the command took {commanded:?}, the first refusal came after {refused:?}, the open connection ended after {ended:?}"
    )
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Whether the caller's application is answered by the callee's.
fn passes(world: &World) -> bool {
    wire::get(world.at.entry, HOST, PATH).unwrap().status() == 200
}

fn ask(stream: &mut tls::Stream) -> std::io::Result<u16> {
    stream.write_all(format!("GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..count]);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| std::io::Error::other("no answer"))
}

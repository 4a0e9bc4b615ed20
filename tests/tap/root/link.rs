//! A sensor's host: a network namespace at the other end of a link of its own, and what tcpdump captures there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use support::child::{Child, run};
use support::pair::Setting;
use support::scratch::Scratch;
use support::{tools, wait};

static LINKS: AtomicU32 = AtomicU32::new(0);

/// The link and the namespace. Taken down when dropped.
pub(crate) struct Link {
    namespace: String,
    /// The interface at this end.
    pub(crate) device: String,
    net: String,
    /// What the tools leave behind.
    pub(crate) dir: Scratch,
}

impl Link {
    /// A new namespace `10.79.N.2` and `fd79:N::2`; this end is `.1`.
    pub(crate) fn new() -> Self {
        let number = LINKS.fetch_add(1, Ordering::SeqCst);
        // Tests run side by side as processes: their ids tell the networks apart.
        let net = format!("10.{}.{}", 64 + std::process::id() / 250 % 60, std::process::id() % 250 + number);
        let name = format!("t{}x{number}", std::process::id());
        let link = Self { namespace: format!("sk{name}"), device: name, net, dir: Scratch::new() };
        let (namespace, device, net) = (&link.namespace, &link.device, &link.net);
        ip(&format!("netns add {namespace}"));
        ip(&format!("link add {device} type veth peer name eth0 netns {namespace}"));
        ip(&format!("addr add {net}.1/24 dev {device}"));
        ip(&format!("link set {device} up"));
        ip(&format!("-n {namespace} addr add {net}.2/24 dev eth0"));
        ip(&format!("-n {namespace} link set eth0 up"));
        ip(&format!("-n {namespace} link set lo up"));
        link
    }

    /// The sensor's address.
    pub(crate) fn sensor(&self) -> String {
        format!("{}.2", self.net)
    }

    /// The address of this end.
    pub(crate) fn host(&self) -> String {
        format!("{}.1", self.net)
    }

    /// The setting with its tap sent here, and with these lines in the tap's table.
    pub(crate) fn tapped(&self, setting: Setting, lines: &str) -> Setting {
        let (old, port) = (setting.at.sensor.to_string(), setting.at.sensor.port());
        let new = format!("{}:{port}", self.sensor());
        let table = format!("[[tap]]\nallow_plaintext_tap = true\n{lines}");
        setting.server(|text| text.replace("[[tap]]", &table).replace(&old, &new))
    }

    /// A command in the sensor's namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = tools::system("ip", "iproute2");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// `ip` with these arguments, in the sensor's namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.namespace));
    }

    /// 1 Mbit/s to the sensor from now on, and what waits longer than 50 ms is dropped.
    pub(crate) fn slow_down(&self) {
        let line = format!("qdisc add dev {} root tbf rate 1mbit burst 10kb latency 50ms", self.device);
        run(tools::system("tc", "iproute2").args(line.split(' ')));
    }

    /// Records what comes to one of the sensor's interfaces.
    pub(crate) fn capture(&self, interface: &str, filter: &str) -> Capture {
        self.record(self.command("tcpdump"), interface, filter)
    }

    /// Records what passes this end.
    pub(crate) fn capture_here(&self, filter: &str) -> Capture {
        self.record(tools::system("tcpdump", "tcpdump"), &self.device, filter)
    }

    fn record(&self, mut command: Command, interface: &str, filter: &str) -> Capture {
        let file = self.dir.join(format!("{interface}.pcap"));
        // 128 MiB of buffer: a recording with holes would fail the test for the recorder's sake.
        command.args(["-i", interface, "--immediate-mode", "-B", "131072", "-U", "-n", "-s", "0", "-Z", "root", "-w"]);
        let name = format!("tcpdump-{interface}");
        let child = Child::start(self.dir.path(), &name, command.arg(&file).arg(filter));
        child.stderr.wait_for_line("listening on", |line| line.contains("listening on"));
        Capture { child, file }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = tools::system("ip", "iproute2").args(["link", "del", &self.device]).output();
        let _ = tools::system("ip", "iproute2").args(["netns", "del", &self.namespace]).output();
    }
}

/// `ip` with these arguments, at this end.
pub(crate) fn ip(arguments: &str) {
    run(tools::system("ip", "iproute2").args(arguments.split(' ')));
}

/// A running tcpdump.
pub(crate) struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Waits until it holds so many packets, and a little longer in case there are more; gives all of them.
    pub(crate) fn packets(self, expected: usize) -> Vec<Vec<u8>> {
        self.wait_for(|frames| frames.len() >= expected);
        self.end()
    }

    /// Waits until what it holds is enough, or until that is not to be expected any more.
    pub(crate) fn wait_for(&self, enough: impl Fn(&[Vec<u8>]) -> bool) {
        let _ = wait::within(wait::SOON, || {
            // Large, and read as a whole: not too often.
            std::thread::sleep(std::time::Duration::from_millis(100));
            enough(&frames(&self.file)).then_some(())
        });
    }

    /// All packets, when no more are to come.
    pub(crate) fn end(mut self) -> Vec<Vec<u8>> {
        std::thread::sleep(std::time::Duration::from_millis(300));
        self.child.signal("INT");
        assert!(self.child.wait(wait::SOON).is_some());
        self.child.stderr.wait_for_line("what tcpdump lost", |line| line == "0 packets dropped by kernel");
        frames(&self.file)
    }
}

/// The frames of a classic pcap file, a half-written last one left out.
pub(crate) fn frames(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut all = Vec::new();
    while let Some((head, more)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        let Some((frame, behind)) = more.split_at_checked(length) else { break };
        all.push(frame.to_vec());
        rest = behind;
    }
    all
}

//! A sensor: takes VXLAN datagrams, checks their eight bytes of header, and keeps the frames for tshark and tcpflow.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::child::run;
use support::prometheus::Scrape;
use support::sidecar::Sidecar;
use support::{tools, wait, wire};

/// The VNI of the contract's tap.
const VNI: u32 = 42;

type Frames = Arc<Mutex<Vec<(SystemTime, Vec<u8>)>>>;

/// A listening sensor.
pub(crate) struct Sensor {
    frames: Frames,
    stop: Arc<AtomicBool>,
}

impl Sensor {
    pub(crate) fn start(addr: SocketAddr) -> Self {
        // A large buffer; over IPv6 the datagrams come without a checksum (RFC 6935), which an ordinary socket refuses.
        let socket = tap::receive::listen(addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let frames = Frames::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (keeping, stopping) = (Arc::clone(&frames), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut datagram = vec![0; 65536];
            while !stopping.load(Ordering::SeqCst) {
                let Ok(length) = socket.recv(&mut datagram) else {
                    continue;
                };
                keeping.lock().unwrap().push((SystemTime::now(), datagram[..length].to_vec()));
            }
        });
        Self { frames, stop }
    }

    /// How many datagrams came so far.
    pub(crate) fn count(&self) -> usize {
        self.frames.lock().unwrap().len()
    }

    /// Bytes of the largest datagram so far.
    pub(crate) fn longest(&self) -> usize {
        self.frames.lock().unwrap().iter().map(|(_, datagram)| datagram.len()).max().unwrap_or(0)
    }

    /// Waits until so many transactions have been copied and every packet of them has come, so that a burst never meets
    /// a full socket.
    pub(crate) fn catch_up(&self, sidecar: &Sidecar, transactions: usize) {
        self.catch_up_of(sidecar, "ids", transactions);
    }

    /// The same where there is another tap than that of the contract.
    pub(crate) fn catch_up_of(&self, sidecar: &Sidecar, tap: &str, transactions: usize) {
        wait::until("the sensor to catch up", wait::SOON, || {
            let metrics = sidecar.metrics();
            let sum = |name: &str| metrics.sum(&format!("sekisho_tap_{name}_total"), &[("tap", tap)]) as usize;
            let copied = sum("mirrored") == transactions && sum("packets_built") == sum("packets_sent");
            (copied && self.count() == sum("packets_sent")).then_some(())
        });
    }

    /// Waits until nothing more has come for a while and the sidecars of `dir` have nothing on its way, and writes all frames
    /// as a capture file.
    pub(crate) fn settle(&self, dir: &Path) -> Copy {
        let mut last = (self.count(), SystemTime::now());
        wait::until("the copy to be complete", Duration::from_secs(120), || {
            let now = self.count();
            if now != last.0 {
                last = (now, SystemTime::now());
            }
            let quiet = last.1.elapsed().unwrap_or_default();
            // A connection that is still open may keep a sidecar from resting: then the silence has to do.
            let is_complete = |quiet| quiet > wait::SOON || quiet > Duration::from_secs(2) && all_rest(dir);
            (now > 0 && is_complete(quiet)).then_some(())
        });
        let frames = self.frames.lock().unwrap();
        for (_, datagram) in frames.iter() {
            let vni = VNI.to_be_bytes();
            // RFC 7348 section 5: the I flag, everything reserved zero, the VNI, a reserved byte.
            assert_eq!(datagram[..8], [8, 0, 0, 0, vni[1], vni[2], vni[3], 0], "a wrong VXLAN header");
        }
        let path = dir.join("tap.pcap");
        std::fs::write(&path, pcap(frames.iter().map(|(at, datagram)| (*at, &datagram[8..])))).unwrap();
        Copy::of_file(path, dir)
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Whether the taps of every sidecar that runs by a file in `dir` have made something of all they matched, and sent what they
/// built: their threads give way to everybody else, so that on a busy machine a silence alone says little.
fn all_rest(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    let texts = files.filter(|path| path.extension().is_some_and(|name| name == "toml")).map(std::fs::read_to_string);
    texts.flatten().filter(|text| text.contains("[[tap]]")).all(|text| {
        let key = text.lines().find_map(|line| line.strip_prefix("metrics = \""));
        let metrics = key.unwrap().trim_end_matches('"').parse().unwrap();
        wire::get(metrics, "scrape", "/stats/prometheus").map_or(true, |reply| {
            let scrape = Scrape::parse(&reply.text());
            let sum = |name: &str| scrape.sum(&format!("sekisho_tap_{name}_total"), &[]);
            let packets = sum("packets_built") == sum("packets_sent") + sum("send_errors");
            packets && sum("matched") == sum("mirrored") + sum("dropped")
        })
    })
}

/// A capture file in the classic format, link type Ethernet.
pub(crate) fn pcap<'a>(frames: impl Iterator<Item = (SystemTime, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for (at, frame) in frames {
        let since = at.duration_since(UNIX_EPOCH).unwrap();
        let length = u32::try_from(frame.len()).unwrap();
        for word in [u32::try_from(since.as_secs()).unwrap(), since.subsec_micros(), length, length] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(frame);
    }
    out
}

/// The copy as a capture file, and what tshark and tcpflow say about it.
pub(crate) struct Copy {
    path: PathBuf,
    dir: PathBuf,
    /// Ports that connections were opened to.
    servers: Vec<String>,
    /// What tshark reads their ports as.
    protocol: &'static str,
    /// How many datagrams it holds.
    pub(crate) packets: usize,
}

impl Copy {
    /// From a capture file.
    pub(crate) fn of_file(path: PathBuf, dir: &Path) -> Self {
        let mut copy = Self { path, dir: dir.to_owned(), servers: Vec::new(), protocol: "http", packets: 0 };
        copy.packets = copy.fields("frame", &["frame.number"]).len();
        copy.servers = copy.fields("tcp.flags.syn == 1 && tcp.flags.ack == 0", &["tcp.dstport"]);
        copy.servers.sort();
        copy.servers.dedup();
        copy
    }

    /// tshark takes every connection for HTTP/2.
    pub(crate) fn read_as_http2(self) -> Self {
        Self { protocol: "http2", ..self }
    }

    /// tshark's values of `fields` for every packet that fits `filter`, tab between fields.
    pub(crate) fn fields(&self, filter: &str, fields: &[&str]) -> Vec<String> {
        let mut command = self.tshark();
        command.args(["-Y", filter, "-T", "fields"]);
        for field in fields {
            command.args(["-e", field]);
        }
        run(&mut command).lines().map(str::to_owned).collect()
    }

    /// Panics if tshark finds a wrong checksum, a malformed packet, or anything odd about any TCP connection.
    pub(crate) fn assert_faultless(&self) {
        assert!(self.packets > 0);
        let faults = "tcp.analysis.flags || _ws.malformed || _ws.short || ip.checksum.status == 0 || \
                      tcp.checksum.status == 0 || _ws.expert.severity == error";
        let mut tshark = self.tshark();
        let found = run(tshark.args(["-Y", faults]));
        assert!(found.is_empty(), "tshark finds fault:\n{found}");
        // The filter above is worth something only if checksums were looked at: every packet has to say "good".
        let checked =
            self.fields("tcp.checksum.status == 1 && (ip.checksum.status == 1 || ipv6)", &["frame.number"]).len();
        let tcp = self.fields("tcp", &["frame.number"]).len();
        assert_eq!(checked, tcp, "{tcp} packets, of which {checked} have checked and good sums");
        let notices = self.fields("udp.dstport == 514 && udp.checksum.status == 1", &["frame.number"]).len();
        assert_eq!(tcp + notices, self.packets, "the copy holds something that is neither TCP nor a notice of loss");
    }

    /// Every request tshark reads out of the copy, as `METHOD target`. One whose body was cut is not among them: tshark
    /// waits for the rest of it.
    pub(crate) fn requests(&self) -> Vec<String> {
        let lines = self.fields("http.request", &["http.request.method", "http.request.uri"]);
        lines.iter().map(|line| line.replace('\t', " ")).collect()
    }

    /// Every response status tshark reads out of the copy.
    pub(crate) fn statuses(&self) -> Vec<String> {
        self.fields("http.response", &["http.response.code"])
    }

    /// The capture file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder it lies in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ports that connections were opened to.
    pub(crate) fn servers(&self) -> Vec<u16> {
        self.servers.iter().map(|port| port.parse().unwrap()).collect()
    }

    /// The bytes of every direction of every connection, put together by tcpflow.
    pub(crate) fn flows(&self) -> Vec<Vec<u8>> {
        self.files_of_tcpflow().into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// The same with the names of the files, which tell both ends.
    pub(crate) fn files_of_tcpflow(&self) -> Vec<(String, Vec<u8>)> {
        let out = self.dir.join("tap-flows");
        let _ = std::fs::remove_dir_all(&out);
        run(tools::system("tcpflow", "tcpflow").arg("-q").arg("-r").arg(&self.path).arg("-o").arg(&out));
        let files = std::fs::read_dir(&out).unwrap().flatten();
        files
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .filter(|(name, _)| name.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') && name.contains('-'))
            .collect()
    }

    /// Whether these bytes are in some flow.
    pub(crate) fn shows(&self, bytes: &[u8]) -> bool {
        self.flows().iter().any(|flow| flow.windows(bytes.len()).any(|window| window == bytes))
    }

    /// tshark on this file, with checksums on and every server's port read as HTTP, or HTTP/2.
    pub(crate) fn tshark(&self) -> std::process::Command {
        let mut command = tools::system("tshark", "tshark");
        command.arg("-r").arg(&self.path);
        command.args([
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
        ]);
        // tshark goes by port numbers, and an application's or a caller's may by chance be that of another protocol.
        for port in &self.servers {
            command.args(["-d", &format!("tcp.port=={port},{}", self.protocol)]);
        }
        // The messages of the tests' gRPC application are plain words, not protobuf, and would be called malformed.
        command.args(["--disable-protocol", "protobuf"]);
        command
    }
}

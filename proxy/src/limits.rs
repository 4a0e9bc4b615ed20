//! Every bound and every deadline of the data path that is not a key of the file, with its reason.
//!
//! The deadlines an operator may change live in [`config::Timeouts`]; their defaults stand there, beside the key.
//! What is here is not meant to be changed: each value follows from a protocol or from another bound.

use std::time::Duration;

/// Header fields of one HTTP/1.1 message, or of one HTTP/2 request, its cookie counted once. Envoy's `max_headers_count`, and hyper's own bound.
pub(crate) const HEADER_FIELDS: usize = 100;

/// Bytes of one HTTP/1.1 head or one decoded HTTP/2 header list. Envoy's `max_request_headers_kb` is 60.
pub(crate) const HEAD_BYTES: usize = 60 * 1024;

/// Bytes asked for in one read, and the bound on what waits in one direction of an HTTP/1.1 exchange: four TLS records, and
/// more than a head.
pub(crate) const READ: usize = 64 * 1024;

/// Interim responses (1xx) an upstream may send before its response.
pub(crate) const INFORMATIONAL: usize = 16;

/// Bytes of an unwanted body that are thrown away so that the other end can read why it is unwanted.
pub(crate) const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// Streams a downstream may hold open on one HTTP/2 connection. Envoy's hardened default is 100.
pub(crate) const H2_STREAMS: u32 = 100;

/// Flow-control window of one HTTP/2 stream: what a stalled reader can pin per stream.
pub(crate) const H2_STREAM_WINDOW: u32 = 256 * 1024;

/// Flow-control window of one HTTP/2 connection. h2 takes its budget of small DATA frames from it
/// (half the window in frames under 256 bytes), so it must not be small: 4 MiB lets gRPC streams of tiny messages live.
pub(crate) const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The same on an upstream connection that is shared by many: all of them do not use up the connection's own window, so that
/// responses which nobody reads hold up no other, and a hundred of them pin less than 8 MiB.
pub(crate) const H2_NARROW_WINDOW: u32 = H2_CONNECTION_WINDOW / 64;
const _: () = assert!(H2_STREAMS_PER_UPSTREAM == 64);

/// Bytes of responses that wait to be written on one downstream HTTP/2 connection before a stream that has some of its own among
/// them is read no further. Ten streams that are read as fast as they can be written do not reach it.
pub(crate) const H2_WAITING: usize = 1024 * 1024;

/// Bytes of the last piece of a response from which it is counted among them.
pub(crate) const H2_UNCOUNTED: usize = 4 * 1024;

/// What a piece of a response counts for besides its bytes while it waits: its frame's place in the library's queue.
pub(crate) const H2_FRAME_WEIGHT: usize = 512;

/// Bytes queued for writing on one HTTP/2 stream before it is given no more; the piece that passes the mark is queued whole. Less
/// than a piece, so that a stream which nobody reads has about one in its queue and one waiting.
pub(crate) const H2_SEND_BUFFER: usize = 24 * 1024;

/// Bytes read at once of a response that comes over HTTP/1.1 for an HTTP/2 stream: two DATA frames. There may be a hundred
/// streams that nobody reads.
pub(crate) const H2_PIECE: usize = 32 * 1024;

/// Bytes of a response after which it is read [`READ`] bytes at once, which costs less: its reader reads.
pub(crate) const H2_TRIED: usize = 128 * 1024;

/// Streams reset before they were served that a downstream may have pending (rapid reset, CVE-2023-44487).
pub(crate) const H2_PENDING_RESETS: usize = 20;

/// Streams we had to reset for the downstream's errors before the connection is closed (CVE-2025-8671).
pub(crate) const H2_LOCAL_RESETS: usize = 256;

/// Bytes read from one downstream HTTP/2 connection before the worker's others, and its own requests, have their turn: some
/// three thousand of the smallest frames, or some twenty heads made of references, which take up to 150 KiB each once decoded.
pub(crate) const H2_TURN: usize = 32 * 1024;

/// Frames that move nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown ones) which a downstream may send on one HTTP/2
/// connection at once, and in every second, besides what its requests and answers pay for. A frame is a microsecond or two of
/// work, so this is less than a hundredth of a worker. Envoy bounds three kinds of them, each against the number of streams.
pub(crate) const H2_ALLOWANCE: u32 = 2000;

/// Bytes looked at to tell HTTP from other protocols: the longest request line we would accept starts within it.
pub(crate) const DETECT_BYTES: usize = 8 * 1024;

/// Copy buffer of one direction of an opaque connection: one TLS record.
pub(crate) const TUNNEL_BUFFER: usize = 16 * 1024;

/// Ciphertext rustls may queue on one connection before a write has to wait: two records.
pub(crate) const TLS_QUEUE: usize = 32 * 1024;

/// Inbound TLS handshakes one worker has under way at one time. A peer may make each of them hold one handshake message, which
/// rustls bounds at 64 KiB: 16 MiB a worker at most. A handshake takes milliseconds, so real callers fill this many seats only
/// when tens of thousands of them come in a second.
pub(crate) const HANDSHAKES: usize = 256;

/// Idle HTTP/1.1 connections kept per worker and upstream endpoint.
pub(crate) const POOL_IDLE_PER_KEY: usize = 128;

/// Upstream connections of one worker to one endpoint. Envoy's `max_connections` default.
pub(crate) const UPSTREAM_CONNECTIONS: usize = 1024;

/// Requests in flight on the first upstream HTTP/2 connection of a worker to an endpoint before another is opened. They have the
/// windows of [`H2_STREAM_WINDOW`], which cost less per byte: a hundred streams could pin too much with them.
pub(crate) const H2_STREAMS_PER_WIDE_UPSTREAM: usize = 8;

/// Requests in flight on any other upstream HTTP/2 connection before the next is opened.
pub(crate) const H2_STREAMS_PER_UPSTREAM: usize = 64;

/// Endpoints tried for one request when connecting fails: nothing was sent yet, so trying another is always safe.
pub(crate) const CONNECT_ATTEMPTS: usize = 3;

/// How much longer than the stream idle timeout a connection may stand still in the middle of an exchange.
pub(crate) const STALL_MARGIN: Duration = Duration::from_secs(1);

/// How long a connection that was told to go, and has nothing under way, may take to go.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// How often a worker drops idle upstream connections that outlived their time.
pub(crate) const SWEEP: Duration = Duration::from_secs(1);

/// Connections of one worker, up and down, that must have gone before it asks the allocator to give memory back.
pub(crate) const BURST: u64 = 64;

/// Bytes that a worker puts aside between two looks at how much memory there is. A look costs about as much as copying a
/// tenth of it.
pub(crate) const LOOK_BYTES: usize = 512 * 1024;

/// What a TLS handshake under way holds, about: both flights, the chain as read, keys of the exchange.
pub(crate) const HANDSHAKE_BYTES: u64 = 32 * 1024;

/// How often a worker asks the allocator to give memory back while it runs short.
pub(crate) const SHRINK: Duration = Duration::from_secs(1);

/// Connections beyond `max_connections` that are kept for callers who hold less than half of it.
pub(crate) const KEPT_PLACES: usize = 512;

/// Descriptors that no downstream connection and no upstream one for it may take: listeners, files, the resolver, taps, and
/// whoever asks for health, metrics or the admin pages.
pub(crate) const SPARE_DESCRIPTORS: usize = 64;

/// Pause of accept after the kernel refused a descriptor, so that a full table does not become a busy loop.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// During a drain, a connection that was idle for this long is closed; a busy one is told to close first.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// During a drain, the process ends once it has had no connection for this long: room for a client's reconnect.
pub(crate) const DRAIN_QUIET: Duration = Duration::from_millis(500);

/// Log bytes one worker may have waiting for the log thread; more are dropped and counted.
pub(crate) const LOG_BUFFER: usize = 1024 * 1024;

/// How long the log thread lets lines gather before it writes them: one write for many lines.
pub(crate) const LOG_INTERVAL: Duration = Duration::from_millis(20);

/// Connections each of the admin, health and metrics listeners serves at once.
pub(crate) const ADMIN_CONNECTIONS: usize = 64;

/// A whole admin request, reading and answering.
pub(crate) const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// One DNS question to one server, and how often the list of servers is tried (resolv.conf's defaults).
pub(crate) const DNS_TIMEOUT: Duration = Duration::from_secs(2);
/// See [`DNS_TIMEOUT`].
pub(crate) const DNS_ATTEMPTS: usize = 2;
/// Addresses kept of one DNS answer.
pub(crate) const DNS_ADDRESSES: usize = 16;
/// A DNS answer is kept at least this long, whatever its TTL says, so that TTL 0 does not mean a question per request.
pub(crate) const DNS_MIN_TTL: Duration = Duration::from_secs(1);
/// A DNS answer is asked again after at most this long.
pub(crate) const DNS_MAX_TTL: Duration = Duration::from_secs(60);

//! Every key of the file in one table: its type, its default, what it means, and the keys that come later.
//! Unknown keys, suggestions, defaults and the reference page are all made from it, so they cannot disagree.

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// As it is written, brackets included; empty for the top of the file.
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
    /// Keys of the rule language that this version refuses by name.
    pub(crate) later: &'static [&'static str],
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) default: Default,
    pub(crate) doc: &'static str,
}

/// What a key is when it is not written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Default {
    /// It must be written.
    Required,
    /// There is no value; the text says what that means.
    Absent(&'static str),
    Text(&'static str),
    Number(u32),
    Flag(bool),
    List(&'static [&'static str]),
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// How messages call it: `[proxy]`, or `the file` for its top.
    pub(crate) fn called(&self) -> &'static str {
        if self.title.is_empty() { "the file" } else { self.title }
    }
}

/// Every section, in the order of the reference page.
pub(crate) const SECTIONS: &[&Section] =
    &[&ROOT, &IDENTITY, &AGENT, &PROXY, &APP, &LOG, &PATH, &IDENTITIES, &SERVICE, &INBOUND, &OUTBOUND, &TAP];

const fn key(name: &'static str, kind: &'static str, default: Default, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

use self::Default::{Absent, Flag, List, Number, Required, Text};

pub(crate) const ROOT: Section = Section {
    title: "",
    doc: "The top of the file. A file without rules is legal and passes nothing.",
    keys: &[
        key(
            "schema",
            "integer",
            Required,
            "Always `1`, and always the first key: which language the rest is written in.",
        ),
        key(
            "workload",
            "identity",
            Required,
            "Who this sidecar speaks for: `namespace/service-account`, or a full SPIFFE ID of `trust_domain`.",
        ),
        key(
            "trust_domain",
            "string",
            Text("cluster.local"),
            "The trust domain of the own workload and of every short identity.",
        ),
        key(
            "mode",
            "\"observe\" | \"enforce\"",
            Text("enforce"),
            "`observe` refuses nothing and only notes what `enforce` would refuse. A request without canonical reading is answered 400 in both.",
        ),
        key("identity", "table", Absent("as if empty"), "Where the certificate comes from."),
        key(
            "agent",
            "table",
            Absent("`sekisho proxy` serves no socket"),
            "A unix socket for workloads with a proxy of their own.",
        ),
        key("proxy", "table", Absent("as if empty"), "Listeners, limits and timeouts."),
        key("app", "table", Absent("no application without capture"), "The own application."),
        key("log", "table", Absent("as if empty"), "The access log."),
        key("path", "table", Absent("as if empty"), "How paths are read and compared."),
        key("identities", "table", Absent("no names"), "Names for identities."),
        key("service", "tables", Absent("none"), "Known destinations, `[[service]]`."),
        key("inbound", "tables", Absent("nobody may call in"), "Rules for callers, `[[inbound]]`."),
        key("outbound", "tables", Absent("the workload may call nobody"), "Rules for destinations, `[[outbound]]`."),
        key("tap", "tables", Absent("no copies"), "Decrypted copies for sensors, `[[tap]]`."),
    ],
    later: &[
        "include",
        "vars",
        "defaults",
        "jwt",
        "groups",
        "claims",
        "limit",
        "react",
        "use",
        "template",
        "dns",
        "mode_inbound",
        "mode_outbound",
        "candidate",
        "candidate_sample",
        "max_shadow",
        "never",
        "always",
    ],
};

pub(crate) const IDENTITY: Section = Section {
    title: "[identity]",
    doc: "Where certificate, key and trust bundle come from. Each key belongs to the sources its text begins with. Relative paths start at the file's folder.",
    keys: &[
        key(
            "source",
            "\"files\" | \"ca\" | \"workload-api\" | \"sds\"",
            Text("files"),
            "`files`: PEM files, read again when they change. `ca`: a CA that speaks Istio's CreateCertificate, such as `sekisho ca serve`. `workload-api`: the socket of a SPIFFE Workload API, such as SPIRE's agent. `sds`: the socket of an Envoy secret discovery service. But for `files`, the key is in memory only.",
        ),
        key(
            "cert",
            "path",
            Text("/var/run/secrets/workload-spiffe-credentials/cert-chain.pem"),
            "files: the certificate chain, leaf first. Write none or all three of `cert`, `key` and `bundle`.",
        ),
        key(
            "key",
            "path",
            Text("/var/run/secrets/workload-spiffe-credentials/key.pem"),
            "files: the private key of the leaf.",
        ),
        key(
            "bundle",
            "path",
            Text("/var/run/secrets/workload-spiffe-credentials/root-cert.pem"),
            "files: the roots of the own trust domain.",
        ),
        key("address", "host:port", Text("sekisho-ca.sekisho.svc:15012"), "ca: where it listens."),
        key("ca_id", "identity", Absent("`/sekisho/ca` in the own trust domain"), "ca: the SPIFFE ID it must prove."),
        key(
            "ca_name",
            "DNS name",
            Absent("it proves a SPIFFE ID"),
            "ca: the DNS name it must prove instead, for a CA of another make, such as `istiod.istio-system.svc`.",
        ),
        key(
            "roots",
            "path",
            Text("/var/run/secrets/sekisho/roots.pem"),
            "ca: the roots by which it is known at first; read again for every connection. Later ones come from itself.",
        ),
        key(
            "token",
            "path",
            Text("/var/run/secrets/tokens/sekisho-ca"),
            "ca: the projected service-account token, or the join token of a machine; read again for every use.",
        ),
        key("cluster", "string", Absent("not sent"), "ca: the name of this cluster there, metadata `clusterid`."),
        key("ttl", "duration", Absent("as the CA likes"), "ca: the lifetime to ask for."),
        key("socket", "path", Text("/run/spire/agent-sockets/spire-agent.sock"), "workload-api, sds: the unix socket."),
        key("certificate", "string", Text("default"), "sds: the name of the secret with the certificate."),
        key("validation", "string", Text("ROOTCA"), "sds: the name of the secret with the roots."),
    ],
    later: &[],
};

pub(crate) const AGENT: Section = Section {
    title: "[agent]",
    doc: "The own identity for others: the SPIFFE Workload API and Envoy's SDS on one unix socket. `sekisho agent` always serves it, `sekisho proxy` if this table is written.",
    keys: &[
        key("socket", "path", Text("/run/sekisho/agent.sock"), "Where it is."),
        key(
            "users",
            "integer(s)",
            Absent("the own user only"),
            "User IDs that may call besides the own, as the kernel knows the process (SO_PEERCRED).",
        ),
        key("groups", "integer(s)", Absent("none"), "Group IDs that may call."),
    ],
    later: &[],
};

pub(crate) const PROXY: Section = Section {
    title: "[proxy]",
    doc: "Listeners, limits and timeouts. An address is `ip:port`, or a list of them. Of a default, the family the host lacks is skipped. With `capture = \"none\"`, `inbound` exists only if it or [app] is written, `outbound` only if it is written; admin, health and metrics always exist.",
    keys: &[
        key(
            "capture",
            "\"redirect\" | \"none\"",
            Text("redirect"),
            "How connections arrive: by the pod's redirect rules, or only at listeners that are written down.",
        ),
        key("inbound", "address(es)", List(&["0.0.0.0:15006", "[::]:15006"]), "Where callers arrive, with mutual TLS."),
        key(
            "outbound",
            "address(es)",
            List(&["127.0.0.1:15001", "[::1]:15001"]),
            "Where the application's own calls arrive.",
        ),
        key("admin", "address(es)", List(&["127.0.0.1:15000", "[::1]:15000"]), "The admin interface."),
        key("health", "address(es)", List(&["0.0.0.0:15021", "[::]:15021"]), "Readiness: `GET /healthz/ready`."),
        key("metrics", "address(es)", List(&["0.0.0.0:15090", "[::]:15090"]), "Metrics: `GET /stats/prometheus`."),
        key(
            "workers",
            "integer, 1 to 1024",
            Absent("the CPU quota rounded up; without one, min(CPUs, 4)"),
            "Worker threads.",
        ),
        key("admin_writes", "boolean", Flag(false), "Whether the admin interface may change anything."),
        key(
            "max_connections",
            "integer, 1 to 1000000",
            Number(10_000),
            "Downstream connections at one time, all listeners together.",
        ),
        key(
            "max_connections_per_identity",
            "integer, 1 to 1000000",
            Absent("no limit, but the last places are kept for callers that hold few"),
            "Of these, the ones that one caller's identity may hold.",
        ),
        key(
            "memory_limit",
            "size, as `64MiB`",
            Absent("the cgroup's memory limit; without one, none"),
            "Resident memory from which load is shed: see the page on limits.",
        ),
        key("connect_timeout", "duration", Text("10s"), "Dialling upstream."),
        key("handshake_timeout", "duration", Text("5s"), "A TLS handshake, either side."),
        key("head_timeout", "duration", Text("5s"), "From the first byte of a request to the end of its head."),
        key("idle_timeout", "duration", Text("5m"), "A stream on which nothing moves."),
        key("pool_idle_timeout", "duration", Text("60s"), "An upstream connection that nobody uses."),
        key("downstream_idle_timeout", "duration", Text("1h"), "A downstream connection without any request."),
        key("detect_timeout", "duration", Text("5s"), "Waiting for the first bytes that tell the protocol."),
        key("drain_timeout", "duration", Text("45s"), "From the stop signal to the hard end."),
        key("revoke_within", "duration", Text("5s"), "How soon a stream ends that a new file no longer allows."),
    ],
    later: &["dns", "mesh_transport"],
};

const PROTOCOLS: &str = "\"auto\" | \"http1\" | \"http2\" | \"tcp\"";

pub(crate) const APP: Section = Section {
    title: "[app]",
    doc: "The own application.",
    keys: &[
        key("address", "address", Required, "Where inbound traffic goes with `capture = \"none\"`."),
        key("protocol", PROTOCOLS, Text("auto"), "What it speaks; `auto` speaks what the caller spoke."),
        key("timeout", "duration", Absent("no limit"), "The longest a whole request may take."),
    ],
    later: &[],
};

pub(crate) const LOG: Section = Section {
    title: "[log]",
    doc: "The access log. Refusals are also written to standard error, as JSON, whatever is set here.",
    keys: &[
        key("access", "\"stdout\" | \"off\" | \"file:PATH\"", Text("stdout"), "Where a line per request goes."),
        key("format", "\"envoy\" | \"json\"", Text("envoy"), "What a line looks like."),
    ],
    later: &[],
};

pub(crate) const PATH: Section = Section {
    title: "[path]",
    doc: "How the paths of requests are read and compared with those of rules, in both directions.",
    keys: &[key(
        "case",
        "\"sensitive\" | \"insensitive\"",
        Text("sensitive"),
        "Whether `/admin` in a rule is `/ADMIN` too. `insensitive` is for applications that serve both as one: letters of ASCII are compared without regard to case, also in gRPC names. What is sent keeps the case it came in.",
    )],
    later: &[
        "dot_segments",
        "empty_segments",
        "encoded_slash",
        "backslash",
        "parameters",
        "double_encoding",
        "trailing_slash",
        "non_utf8",
        "exception",
    ],
};

pub(crate) const IDENTITIES: Section = Section {
    title: "[identities]",
    doc: "Names for identities: `name = identity`, `name = [identities]`, or `name = { id = identity(ies), … }` with the keys below. An identity is `namespace/service-account`, a full SPIFFE ID, either with `*` or `prefix-*` inside a segment, `ns:namespace`, or `td:trust.domain`.",
    keys: &[
        key("id", "identity(ies)", Required, "Who it is."),
        key("kind", "string", Absent("unknown"), "What it is, such as `database`."),
        key("criticality", "\"low\" | \"medium\" | \"high\"", Absent("unknown"), "How bad its loss would be."),
    ],
    later: &[],
};

pub(crate) const SERVICE: Section = Section {
    title: "[[service]]",
    doc: "A destination: its names, the one identity accepted from it, how to reach it.",
    keys: &[
        key("name", "string", Required, "Unique."),
        key(
            "identity",
            "identity",
            Required,
            "The only certificate accepted from it. A name of [identities] that means exactly one is fine.",
        ),
        key("hosts", "host(s)", Absent("none"), "The names it is called by, without port."),
        key("addresses", "address(es)", Absent("none"), "Original destinations that mean this service."),
        key(
            "endpoints",
            "\"host:port\"(s)",
            Absent("under capture, the original destination"),
            "How to reach it. Required with `capture = \"none\"` or `bind`.",
        ),
        key("bind", "address(es)", Absent("none"), "A local listener of its own, for use without capture."),
        key("protocol", PROTOCOLS, Text("auto"), "What it speaks."),
        key("timeout", "duration", Absent("no limit"), "The longest a whole request may take."),
        key("connect_timeout", "duration", Absent("as [proxy] says"), "Dialling it."),
    ],
    later: &["weight", "split"],
};

const RULE_DOC: &str = "A rule is the AND of its keys; a list inside a key is OR. Nothing passes without an allow rule, and a deny rule beats every allow rule. The order of rules does not matter.";
const NAME_DOC: &str = "Unique among the rules of this direction; logs and metrics call the rule by it.";
const ACTION_KIND: &str = "\"allow\" | \"deny\"";
const PORTS_KIND: &str = "list of integers";
const RULE_PROTOCOLS: &str = "\"auto\" | \"http\" | \"tcp\"";
const REQUESTS_DOC: &str =
    "Operations, `METHODS /path`: `GET,HEAD /orders/{id:uint}`, `* /public/{rest...}`. GET does not include HEAD.";
const GRPC_DOC: &str = "gRPC methods, `package.Service/Method` or `package.Service/*`.";
const UPGRADE_DOC: &str = "Switches of protocol: `websocket`, or another name of the `Upgrade` field; `connect` for the CONNECT method. An allow rule lets those it names pass besides ordinary requests; a deny rule with it refuses only these. Only for HTTP.";
const PROTOCOL_DOC: &str =
    "`tcp`: opaque bytes only, and the ports listed here are not looked into. `http`: HTTP only.";

pub(crate) const INBOUND: Section = Section {
    title: "[[inbound]]",
    doc: RULE_DOC,
    keys: &[
        key("name", "string", Required, NAME_DOC),
        key("action", ACTION_KIND, Text("allow"), "What the rule does."),
        key("from", "identity(ies) | \"anyone\"", Required, "Who calls. `anyone` is with or without an identity."),
        key("not_from", "identity(ies)", Absent("none"), "Taken out of `from`."),
        key("ports", PORTS_KIND, Absent("every port"), "The application's ports."),
        key(
            "hosts",
            "host(s)",
            Absent("every host"),
            "Without port; `*.example.org` is one label more. Only for HTTP.",
        ),
        key("protocol", RULE_PROTOCOLS, Text("auto"), PROTOCOL_DOC),
        key("requests", "operation(s)", Absent("every request"), REQUESTS_DOC),
        key("grpc", "gRPC method(s)", Absent("every request"), GRPC_DOC),
        key("upgrade", "protocol(s)", Absent("none in an allow rule, every one in a deny rule"), UPGRADE_DOC),
        key(
            "plaintext",
            "boolean",
            Flag(false),
            "Whether an allow rule for `anyone` may match without mutual TLS. Deny rules always do.",
        ),
        key("owner", "string", Absent("nobody"), "Who answers for the rule."),
        key("ticket", "string", Absent("none"), "Where it was decided."),
        key("reason", "string", Absent("none"), "Why, for whoever reads the refusal."),
    ],
    later: &[
        "mode",
        "headers",
        "query",
        "user",
        "bind",
        "group",
        "device",
        "step_up",
        "expires",
        "not_before",
        "from_cidr",
        "client_ip",
        "tls",
        "path_regex",
        "at",
        "when",
    ],
};

pub(crate) const OUTBOUND: Section = Section {
    title: "[[outbound]]",
    doc: RULE_DOC,
    keys: &[
        key("name", "string", Required, NAME_DOC),
        key("action", ACTION_KIND, Text("allow"), "What the rule does."),
        key(
            "to",
            "identity(ies) | \"anyone\"",
            Absent("`to` or `to_cidr` is required"),
            "Whom the workload calls. `anyone` only in a deny rule.",
        ),
        key(
            "to_cidr",
            "address range(s)",
            Absent("`to` or `to_cidr` is required"),
            "Where the workload calls, without an identity: `192.0.2.7/32`.",
        ),
        key("ports", PORTS_KIND, Absent("every port"), "The destination's ports."),
        key(
            "hosts",
            "host(s)",
            Absent("every host"),
            "Without port; `*.example.org` is one label more. Only for HTTP.",
        ),
        key("protocol", RULE_PROTOCOLS, Text("auto"), PROTOCOL_DOC),
        key("requests", "operation(s)", Absent("every request"), REQUESTS_DOC),
        key("grpc", "gRPC method(s)", Absent("every request"), GRPC_DOC),
        key("upgrade", "protocol(s)", Absent("none in an allow rule, every one in a deny rule"), UPGRADE_DOC),
        key("owner", "string", Absent("nobody"), "Who answers for the rule."),
        key("ticket", "string", Absent("none"), "Where it was decided."),
        key("reason", "string", Absent("none"), "Why, for whoever reads the refusal."),
    ],
    later: &[
        "mode",
        "headers",
        "query",
        "user",
        "bind",
        "group",
        "device",
        "step_up",
        "expires",
        "not_before",
        "to_dns",
        "tls",
        "path_regex",
        "at",
        "when",
        "not_to",
    ],
};

const SENSORS: &str = "Where it goes, and in which form. As packets: `vxlan://host:4789?vni=N`, `pcap://host:57012` (we dial), \
`pcap-listen://addr:57012` (we are dialled), `pcap+mtls://host:57012?id=namespace/service-account`, \
`pcapng:///folder?size=64MiB&files=8`. As a line of JSON each: `json:stdout`, `json:///file`, `syslog+udp://host:514`. \
Requests alone, sent again: `shadow://host:80`. The ports are these unless written; `vni` is 0 to 16777215.";

const EXTENT: &str = "\"all\" | \"none\" | \"first SIZE\"";
const MASKED: &str = "name(s)";

pub(crate) const TAP: Section = Section {
    title: "[[tap]]",
    doc: "A decrypted copy of the traffic for a sensor. It may lose and count, never delay. What is copied is the AND of the selectors, from `direction` to `sample`; a list inside one is OR. A tap without any copies all that comes in.",
    keys: &[
        key("name", "string", Required, "Unique; counters carry it."),
        key("to_sensor", "URL", Required, SENSORS),
        key(
            "allow_plaintext_tap",
            "boolean",
            Flag(false),
            "Must be true for a sensor on another host, `pcap+mtls` excepted: the copy crosses the network unencrypted.",
        ),
        key(
            "direction",
            "\"inbound\" | \"outbound\" | \"both\"",
            Text("inbound"),
            "Which side of this sidecar. Where both ends have one, `both` at each shows everything twice.",
        ),
        key(
            "from",
            "identity(ies)",
            Absent("everybody"),
            "Who calls, proven by certificate. Outbound that is this workload.",
        ),
        key("to", "identity(ies)", Absent("everybody"), "Who is called. Inbound that is this workload."),
        key(
            "requests",
            "operation(s)",
            Absent("every request"),
            "As in rules: `GET,HEAD /orders/{id:uint}`. Only for HTTP.",
        ),
        key(
            "hosts",
            "host(s)",
            Absent("every host"),
            "Without port; `*.example.org` is one label more. Only for HTTP.",
        ),
        key("ports", PORTS_KIND, Absent("every port"), "Of the application inbound, of the destination outbound."),
        key(
            "rules",
            "name(s)",
            Absent("whatever decided"),
            "The rule that decided. Known once the rules have spoken: until then the copy is kept.",
        ),
        key(
            "verdicts",
            "\"allow\" | \"deny\" | \"shadow-deny\", or a list",
            Absent("every verdict; for a shadow `allow` and `shadow-deny`"),
            "What was decided; `shadow-deny` is what passes only because of `mode = \"observe\"`. A request without a canonical reading is denied.",
        ),
        key(
            "status",
            "string(s)",
            Absent("every status"),
            "Of the response: `\"404\"`, `\"5xx\"`. Only for HTTP; the copy is kept until the response comes.",
        ),
        key(
            "sample",
            "number above 0, at most 1",
            Absent("all"),
            "A share of the connections, chosen by the Community ID of the connection: the same ones at both ends and by every tap.",
        ),
        key(
            "rate_cap",
            "rate, as `200Mbit/s`",
            Absent("no limit"),
            "Bytes of copies per second; what is above is dropped whole, `rate_cap`. A burst may last 100 ms.",
        ),
        key(
            "body",
            EXTENT,
            Text("first 128KiB"),
            "How much of each body is copied; `all`, the default for a shadow, is bounded by `queue`.",
        ),
        key(
            "stream",
            EXTENT,
            Text("all"),
            "How much of each direction of a stream is copied: WebSocket, CONNECT, opaque TCP. Only for packets. `none` unless written where `redact` has `json:` names: nothing in a stream is masked.",
        ),
        key(
            "queue",
            "size, to 1GiB",
            Text("4MiB"),
            "Bytes that copies may hold, in the making and waiting; what does not fit is dropped whole, `queue_full`.",
        ),
        key("mtu", "integer, 576 to 65535", Number(1500), "The largest IP packet of the copy. Only for packets."),
        key(
            "port",
            "integer, 1 to 65535",
            Absent("its own"),
            "The server's port in the copy, for sensors that go by ports. Only for packets.",
        ),
        key("vlan", "integer, 1 to 4094", Absent("no tag"), "The 802.1Q tag of the copy's frames. Only for packets."),
        key(
            "redact",
            MASKED,
            Absent("the defaults"),
            "What is masked besides the defaults: a header by its name, `cookie:name`, `query:name` (also in forms), `json:name` (at any depth). JSON that cannot be read is not copied, `redact_error`.",
        ),
        key("pass", MASKED, Absent("nothing"), "Which defaults are not masked."),
        key(
            "http",
            "\"http1\" | \"h2c\"",
            Text("http1"),
            "How HTTP is written in packets: `h2c` shows each exchange that was HTTP/2 as a small HTTP/2 connection. Only for packets.",
        ),
    ],
    later: &["layer", "on_full", "grpc", "rule", "max_body", "mode"],
};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::SECTIONS;

    #[test]
    fn no_key_is_there_twice_or_both_now_and_later() {
        for section in SECTIONS {
            let mut names: Vec<_> = section.keys.iter().map(|k| k.name).chain(section.later.iter().copied()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", section.title);
        }
    }
}

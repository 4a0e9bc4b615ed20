//! Every key of the CA's file.

use crate::schema::Default::{Absent, Flag, List, Number, Required, Text};
use crate::schema::{Default, Key, Section};

/// Every section, in the order of the reference page.
pub(crate) const SECTIONS: &[&Section] = &[&ROOT, &SERVER, &ISSUE, &CLUSTER, &ROTATION, &LIMITS];

const fn key(name: &'static str, kind: &'static str, default: Default, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

pub(crate) const ROOT: Section = Section {
    title: "",
    doc: "The top of the file. Without [[cluster]] only join tokens and renewals are served.",
    keys: &[
        key(
            "schema",
            "integer",
            Required,
            "Always `1`, and always the first key: which language the rest is written in.",
        ),
        key("dir", "path", Text("/var/lib/sekisho-ca"), "The folder that `sekisho ca init` made."),
        key(
            "passphrase_file",
            "path",
            Absent("the keys in the folder are not encrypted"),
            "A file whose first line opens them.",
        ),
        key(
            "keys",
            "path",
            Absent("root keys are in `dir` alone"),
            "A folder with root keys as `<root id>.key`, such as a mounted Secret. A key that is not in it is looked for in `dir`.",
        ),
        key("server", "table", Absent("as if empty"), "Listeners, and who the CA says it is."),
        key("issue", "table", Absent("as if empty"), "Lifetimes, and checks of what is issued."),
        key("cluster", "tables", Absent("none"), "Whose service-account tokens are accepted, `[[cluster]]`."),
        key("rotation", "table", Absent("as if empty"), "How one root takes the place of another."),
        key("limits", "table", Absent("as if empty"), "What is served at once, and to one caller."),
    ],
    later: &[],
};

pub(crate) const SERVER: Section = Section {
    title: "[server]",
    doc: "An address is `ip:port`, or a list of them. Of a default, the family the host lacks is skipped.",
    keys: &[
        key(
            "listen",
            "address(es)",
            List(&["0.0.0.0:15012", "[::]:15012"]),
            "gRPC over TLS, on the port where Istio's agents look for it.",
        ),
        key("admin", "address(es)", List(&["127.0.0.1:15000", "[::1]:15000"]), "State, and what an operator may do."),
        key(
            "health",
            "address(es)",
            List(&["0.0.0.0:15021", "[::]:15021"]),
            "`GET /healthz/ready` and `GET /stats/prometheus`.",
        ),
        key("identity", "path of a SPIFFE ID", Text("sekisho/ca"), "Who the CA says it is, in its own trust domain."),
        key(
            "names",
            "DNS name(s)",
            Absent("none"),
            "Names in the CA's own certificate, for callers that compare names instead of SPIFFE IDs.",
        ),
    ],
    later: &[],
};

pub(crate) const ISSUE: Section = Section {
    title: "[issue]",
    doc: "How long certificates live, of which holders renew at half, and how each is checked before it leaves.",
    keys: &[
        key(
            "profile",
            "\"default\" | \"strict\"",
            Text("default"),
            "`default`: 24 hours; `strict`: 1 hour. Both unless written otherwise below.",
        ),
        key(
            "ttl",
            "duration",
            Absent("as the profile says"),
            "What is issued when nothing is asked for: 5 s to 7 days.",
        ),
        key("max_ttl", "duration", Absent("the same as `ttl`"), "The most that may be asked for; more is refused."),
        key(
            "lineage",
            "duration",
            Text("30d"),
            "How long renewals by mutual TLS go on from one attestation; then a token is needed again.",
        ),
        key(
            "verify_signatures",
            "boolean",
            Flag(false),
            "Whether the CA verifies its own signature on every leaf before it leaves, at some 60 µs of CPU time for each. Either way each leaf is read back, and verified are CA certificates, the CA's own, and the first leaf of every intermediate.",
        ),
    ],
    later: &[],
};

pub(crate) const CLUSTER: Section = Section {
    title: "[[cluster]]",
    doc: "A Kubernetes cluster whose projected service-account tokens are accepted. They are verified here; the cluster is asked only where `strict` says so.",
    keys: &[
        key("name", "string", Required, "What `{cluster}` stands for, and its name in the log."),
        key("issuer", "string", Required, "The exact `iss` of its tokens."),
        key("audience", "string", Text("sekisho-ca"), "The exact `aud` of tokens for this CA."),
        key(
            "jwks",
            "path",
            Absent("they are asked of `api`"),
            "Its public keys, a JSON Web Key Set; read again when it changes.",
        ),
        key(
            "api",
            "host:port",
            Absent("nothing is asked of the cluster"),
            "Its API server, by the name in its certificate. Without `jwks`, its keys come from here, every 5 minutes and when a token names a new one.",
        ),
        key(
            "api_roots",
            "path",
            Text("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"),
            "The roots by which it is known.",
        ),
        key(
            "api_token",
            "path",
            Text("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            "The CA's own token for it. It may read `/openid/v1/jwks` and, with `strict`, create token reviews.",
        ),
        key(
            "strict",
            "boolean",
            Flag(false),
            "Each token must be confirmed by the API server, which knows of deleted pods. Renewals by certificate never ask it.",
        ),
        key(
            "id",
            "template",
            Text("ns/{namespace}/sa/{serviceaccount}"),
            "The path of the SPIFFE ID. Placeholders: `{namespace}`, `{serviceaccount}`, `{pod}`, `{node}`, `{cluster}`.",
        ),
    ],
    later: &[],
};

pub(crate) const ROTATION: Section = Section {
    title: "[rotation]",
    doc: "A new root is published, issues when every holder of a certificate knows it, and the old one leaves when nobody holds a certificate of it.",
    keys: &[
        key(
            "prepare_at_percent_left",
            "integer, 0 to 90",
            Number(33),
            "A new root is prepared when this much of the life of the one that issues is left. 0: only when an operator says so.",
        ),
        key(
            "splay",
            "duration",
            Text("10m"),
            "Over how long holders spread their renewals after a change of root: 1 s to 1 day.",
        ),
        key(
            "skew",
            "duration",
            Text("10m"),
            "How far clocks of holders may be behind; an old root stays so much longer than its last certificate: 1 s to 1 day.",
        ),
    ],
    later: &[],
};

pub(crate) const LIMITS: Section = Section {
    title: "[limits]",
    doc: "What is above is answered `UNAVAILABLE` with the time to wait, and costs nothing else.",
    keys: &[
        key(
            "per_identity_per_hour",
            "integer, 1 to 1000000",
            Number(600),
            "Certificates for one attested pod, or one machine.",
        ),
        key(
            "keys_per_token",
            "integer, 1 to 16",
            Number(4),
            "With how many different keys one service-account token may be used while it lives. A sidecar that restarts has a new key and, until the kubelet replaces it, the same token; with 1 it would have to wait for that.",
        ),
        key("per_source_per_second", "integer, 1 to 1000000", Number(500), "Requests from one address."),
        key("signing", "integer, 1 to 1024", Absent("one for each CPU"), "Certificates being made at once."),
        key("waiting", "integer, 1 to 1000000", Number(20_000), "Requests that may wait for that."),
    ],
    later: &[],
};

//! Classes 41 to 44: whom a request is for. Rules name hosts, and applications choose among theirs by it.

use support::catalogue::Table;

use super::Must::{Arrive, Clean, Refuse};
use super::{Bench, Case, case, same_host};

#[test]
fn a_request_is_for_one_host() {
    let mut table = Table::new("http1-host", 41..=44);
    let cases: Vec<Case> = [none_or_many(), malformed(), absolute(), the_same_host()].into_iter().flatten().collect();
    Bench::start().fill(&mut table, &cases);
    table.judge(&[41, 42, 43, 44]);
}

/// A request with these for its `Host` lines.
fn with_hosts(target: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET {target} HTTP/1.1\r\n{lines}X-Row: @R@\r\n\r\n")
}

/// Class 41.
fn none_or_many() -> Vec<Case> {
    let lines: [(&str, &[&str]); 10] = [
        ("none", &[]),
        ("empty", &["Host:"]),
        ("the same twice", &["Host: @H@", "Host: @H@"]),
        ("another, then ours", &["Host: private.shop.svc", "Host: @H@"]),
        ("ours, then another", &["Host: @H@", "host: private.shop.svc"]),
        ("ours, then an empty one", &["Host: @H@", "Host:"]),
        ("a list", &["Host: @H@, private.shop.svc"]),
        ("a list of the same", &["Host: @H@,@H@"]),
        ("ours, and another behind a fold", &["Host: @H@", " private.shop.svc"]),
        ("ours behind a field without a colon", &["X-A", "Host: @H@"]),
    ];
    lines.map(|(name, lines)| case(41, Refuse, name, with_hosts("/open/x", lines))).into()
}

/// Class 42.
fn malformed() -> Vec<Case> {
    [
        "user@@H@",
        "user:secret@@H@",
        "private.shop.svc@@H@",
        "@H@@",
        "@H@/x",
        "/@H@",
        "@H@/../x",
        "http://@H@",
        "@H@ x",
        "@H@\tx",
        "a b",
        "@H@:",
        "@H@:abc",
        "@H@:0",
        "@H@:99999",
        "@H@:-1",
        "@H@:+80",
        "@H@:80:80",
        "@H@:8 0",
        "@H@:0x50",
        "[::1",
        "::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "@H@?x",
        "@H@#x",
        "@H@\\x",
        "@H@%00",
        "%6f@H@",
        "@H@,",
        "..@H@",
        "orders..shop.svc",
        ".",
        "@H@..",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "@H@;x",
        "<script>",
        "\"@H@\"",
        "@H@\0",
        "\u{e9}.shop.svc",
        "*",
    ]
    .map(|host| {
        case(42, Refuse, format!("{:?}", host.replace("@H@", "h")), with_hosts("/open/x", &[&format!("Host: {host}")]))
    })
    .into()
}

/// Class 43: RFC 9112 §3.2.2, the authority of the target wins.
fn absolute() -> Vec<Case> {
    [
        (Arrive, "the same host", "http://@H@/open/x", "@H@"),
        (Arrive, "the target's host, in capitals", "HTTP://ORDERS.shop.svc/open/x", "@H@"),
        (Clean, "another host in the Host field", "http://@H@/open/x", "private.shop.svc"),
        (Clean, "nothing in the Host field", "http://@H@/open/x", ""),
        (Refuse, "a denied host in the target", "http://private.shop.svc/open/x", "@H@"),
        (Refuse, "a denied host in the target, in capitals", "http://PRIVATE.shop.svc/open/x", "@H@"),
        (Refuse, "user information in the target", "http://@H@@private.shop.svc/open/x", "@H@"),
        (Refuse, "user information before our host", "http://private.shop.svc@@H@/open/x", "@H@"),
        (Refuse, "no host in the target", "http:///open/x", "@H@"),
        (Refuse, "one slash in the target", "http:/@H@/open/x", "@H@"),
        (Refuse, "a backslash in the target", "http:\\\\@H@\\open\\x", "@H@"),
        (Refuse, "a bad port in the target", "http://@H@:x/open/x", "@H@"),
        (Refuse, "a backslash after the host", "http://private.shop.svc\\@@H@/open/x", "@H@"),
        (Refuse, "a target in a target", "http://http://@H@/open/x", "@H@"),
    ]
    .map(|(must, name, target, host)| {
        case(43, must, name, with_hosts(target, &[&format!("Host: {host}")])).check(same_host)
    })
    .into()
}

/// Class 44: the host that a rule denies, under other spellings.
fn the_same_host() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "private.shop.svc",
        "PRIVATE.SHOP.SVC",
        "Private.shop.svc",
        "private.shop.svc.",
        "private.shop.svc:80",
        "private.shop.svc:8080",
        "private.shop.svc.:80",
        "PRIVATE.shop.svc.:8080",
        "private.shop.svc:443",
        "private.shop.svc:00080",
    ]
    .map(|host| case(44, Refuse, host, with_hosts("/open/x", &[&format!("Host: {host}")])))
    .into();
    for host in ["private.shop.svc.", "private.shop.svc:80", "Private.Shop.Svc:8080"] {
        let bytes = with_hosts(&format!("http://{host}/open/x"), &["Host: @H@"]);
        cases.push(case(44, Refuse, format!("{host} in the target"), bytes));
    }
    for host in ["ORDERS.shop.svc", "@H@.", "@H@:80"] {
        let name = host.replace("@H@", "orders.shop.svc");
        cases.push(case(44, Arrive, name, with_hosts("/open/x", &[&format!("Host: {host}")])).check(same_host));
    }
    cases
}

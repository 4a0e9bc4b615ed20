//! The rule file: never a panic, every problem of it told, and what is accepted is read again as the same.

use crate::given::text;
use config::{Report, Severity};
use std::path::Path;

pub(super) const WORDS: &[&[u8]] = &[
    b"schema = 1\n",
    b"workload = \"shop/web\"\n",
    b"trust_domain = \"example.org\"\n",
    b"mode = \"observe\"\n",
    b"[identity]\n",
    b"[proxy]\n",
    b"[app]\n",
    b"[log]\n",
    b"[identities]\n",
    b"[[service]]\n",
    b"[[inbound]]\n",
    b"[[outbound]]\n",
    b"[[tap]]\n",
    b"name = \"a\"\n",
    b"action = \"deny\"\n",
    b"from = [\"shop/web\"]\n",
    b"to = [\"shop/orders\"]\n",
    b"requests = [\"GET /a\"]\n",
    b"grpc = [\"a.B/C\"]\n",
    b"ports = [8080]\n",
    b"hosts = [\"a\"]\n",
    b"to_cidr = [\"10.0.0.0/8\"]\n",
    b"address = \"127.0.0.1:8080\"\n",
    b"capture = \"none\"\n",
    b"inbound = \"0.0.0.0:15006\"\n",
    b"source = \"files\"\n",
    b"cert = \"a.pem\"\n",
    b"key = \"a.pem\"\n",
    b"bundle = \"a.pem\"\n",
    b"\"\"\"",
    b"'''",
    b"\\u0041",
    b"\\U0001F600",
    b"\\x41",
    b"\x1b[31m",
    b"\xe2\x80\xae",
    b"{ ",
    b" }",
    b"[",
    b"]",
    b" = ",
    b"true",
    b"1e999",
    b"0x7fffffffffffffff",
    b"1979-05-27T07:32:00Z",
    b"\"10s\"",
    b"\"64KiB\"",
    b"# ",
    b"\n",
];

pub(super) fn run(input: &[u8]) {
    let text = text(input);
    let parse = |text: &str| config::parse("sekisho.toml", text, Path::new("/etc/sekisho"));
    let read = parse(text);
    match &read {
        Ok(snapshot) => {
            let again = parse(text).expect("it was accepted before");
            assert_eq!(format!("{again:?}"), format!("{snapshot:?}"));
            assert!(snapshot.warnings.iter().all(|problem| problem.severity == Severity::Warning));
            shows(&Report { problems: snapshot.warnings.clone() }, text);
        }
        Err(report) => {
            assert!(report.counts().0 > 0, "refused without a reason");
            shows(report, text);
        }
    }
    // One more mistake elsewhere hides none, and is told beside the others. Not where the text is no TOML, or is of another
    // schema: then the rest is not looked at.
    let errors = |read: Result<config::Snapshot, Report>| match read {
        Ok(_) => Vec::new(),
        Err(report) => report
            .problems
            .into_iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| problem.code)
            .collect(),
    };
    let before = errors(read);
    if before.contains(&"E0101") || before.contains(&"E0102") || before.len() > 900 {
        return;
    }
    let mut after = errors(parse(&format!("{text}\n[not_a_table_of_ours]\n")));
    // A text that ends in a comment or a value without a line end is another when it goes on.
    if after.contains(&"E0101") {
        return;
    }
    let told = after.iter().position(|code| *code == "E0104").expect("an unknown table is told");
    after.remove(told);
    let sorted = |mut codes: Vec<&'static str>| {
        codes.sort_unstable();
        codes
    };
    assert_eq!(sorted(after), sorted(before), "one more mistake changes the others");
}

/// Every problem can be shown, stands in the text, and brings nothing to the terminal but text.
fn shows(report: &Report, text: &str) {
    let lines = text.split('\n').count();
    for problem in &report.problems {
        assert!(problem.line <= lines && (problem.line == 0) == (problem.column == 0), "{problem:?}");
        assert!(config::explain(problem.code).is_some(), "{}", problem.code);
    }
    let shown = report.render(false);
    let hidden =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!shown.contains(hidden), "{shown:?}");
    let _ = (report.render(true), report.to_json());
}

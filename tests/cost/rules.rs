//! Ten thousand rules of one workload, as such a file grows in practice: 200 identities, a quarter of them patterns,
//! overlapping typed templates, one rule in ten denies. None of them changes the verdict on the measured request, which
//! comes from an identity that many of them name.

use std::fmt::Write as _;

const RULES: usize = 10_000;
const IDENTITIES: usize = 200;

/// Of one resource.
const TEMPLATES: [&str; 6] = [
    "GET,HEAD /api/R",
    "GET,HEAD /api/R/{id:uint}",
    "PUT,PATCH /api/R/{id:uint}/lines/{line:uint}",
    "GET /api/R/{name:slug}",
    "GET /api/R/{id:uuid}/history",
    "* /api/R/{id:uint}/files/{rest...}",
];

/// The text of their tables, written narrowly: a file may be 1 MiB.
pub(crate) fn ten_thousand() -> String {
    let mut text = String::new();
    for index in 0..RULES {
        let requests = TEMPLATES[index % TEMPLATES.len()].replace('R', &resource(index / 8));
        let action = if index % 10 == 9 { "action=\"deny\"\n" } else { "" };
        let from = identity(index % IDENTITIES);
        writeln!(text, "[[inbound]]\nname=\"r{index}\"\n{action}from=\"{from}\"\nrequests=\"{requests}\"").unwrap();
    }
    text
}

/// Eight rules each; one in fifty is what the measured request asks for.
fn resource(index: usize) -> String {
    if index.is_multiple_of(50) { "orders".to_owned() } else { format!("r{index}") }
}

/// The first is the caller that is measured.
fn identity(index: usize) -> String {
    match (index, index % 8) {
        (0, _) => "shop/web".to_owned(),
        (_, 3) => format!("t{index}/*"),
        (_, 7) => format!("t{index}/web-*"),
        _ => format!("t{}/s{index}", index % 40),
    }
}

//! The figures as a table: aligned on a terminal, or as Markdown.

use crate::summary::{Figure, Line, Summary};

/// For a terminal.
pub(crate) fn terminal(summary: &Summary) -> String {
    let rows = rows(summary);
    let widths: Vec<usize> =
        (0..HEADS.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap()).collect();
    let mut text = String::from("medians over the rounds; CPU is that of both sidecars, µs per request\n\n");
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// For a page.
pub(crate) fn markdown(summary: &Summary) -> String {
    let mut rows = rows(summary).into_iter().map(|row| format!("| {} |\n", row.join(" | ")));
    let head = rows.next().unwrap_or_default();
    let rule = format!("| --- |{}\n", " ---: |".repeat(HEADS.len() - 1));
    [head, rule].into_iter().chain(rows).collect()
}

const HEADS: [&str; 13] = [
    "pair",
    "CPU",
    "low–high",
    "user",
    "system",
    "× Envoy",
    "req/s",
    "CPU at 1000/s",
    "p50 µs",
    "p90 µs",
    "p99 µs",
    "idle MiB",
    "loaded MiB",
];

fn rows(summary: &Summary) -> Vec<Vec<String>> {
    let head = HEADS.map(str::to_owned).to_vec();
    std::iter::once(head).chain(summary.lines.iter().map(|line| row(summary, line))).collect()
}

fn row(summary: &Summary, line: &Line) -> Vec<String> {
    let whole = |figure: Figure| format!("{:.0}", figure.median);
    let tenth = |figure: Figure| format!("{:.1}", figure.median);
    let sides = |sides: [Figure; 2]| format!("{} / {}", tenth(sides[0]), tenth(sides[1]));
    let (closed, open) = (&line.closed, &line.open);
    vec![
        line.make.title().to_owned(),
        tenth(closed.cpu),
        format!("{:.1}–{:.1}", closed.cpu.low, closed.cpu.high),
        tenth(closed.user),
        tenth(closed.system),
        summary.ratio(line, |line| line.closed.cpu).map_or("–".into(), |ratio| format!("{ratio:.2}")),
        whole(closed.rate),
        tenth(open.cpu),
        whole(open.p50),
        whole(open.p90),
        whole(open.p99),
        sides(line.idle),
        sides(line.loaded),
    ]
}

//! The latency plot: one group of bars per pair, p50, p90 and p99, as SVG that reads on light and dark pages.

use std::fmt::Write;

use crate::options::{CONNECTIONS, RATE};
use crate::summary::Summary;

/// Latency at the fixed rate.
pub(crate) fn latency(summary: &Summary, rounds: u32) -> String {
    let longest = summary.lines.iter().map(|line| line.open.p99.high).fold(1.0, f64::max);
    let step = grid_step(longest);
    let end = (longest / step).ceil() * step;
    let x = |microseconds: f64| LEFT + microseconds / end * (WIDTH - LEFT - RIGHT);
    let height = TOP + GROUP * summary.lines.len() as f64 + BOTTOM;
    let floor = height - BOTTOM + 4.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#1f2933\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Latency through a pair of sidecars at {RATE} requests per second</text>\n\
         <text x=\"16\" y=\"46\" fill=\"#52606d\">µs from the time a request was due to its whole response; {CONNECTIONS} connections; bar: median of {rounds} rounds, line: lowest to highest</text>\n"
    );
    let mut mark = 0.0;
    while mark <= end {
        let at = x(mark);
        writeln!(svg, "<line x1=\"{at:.1}\" y1=\"{}\" x2=\"{at:.1}\" y2=\"{floor}\" stroke=\"#e4e7eb\"/>", TOP - 6.0)
            .unwrap();
        writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#52606d\">{mark:.0}</text>",
            floor + 18.0
        )
        .unwrap();
        mark += step;
    }
    for (index, line) in summary.lines.iter().enumerate() {
        let top = TOP + GROUP * index as f64;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-weight=\"bold\">{}</text>",
            LEFT - 50.0,
            top + BAR * 1.5 + 5.0,
            line.make.title()
        )
        .unwrap();
        let figures = [("p50", line.open.p50), ("p90", line.open.p90), ("p99", line.open.p99)];
        for (row, ((name, figure), colour)) in figures.into_iter().zip(COLOURS).enumerate() {
            let y = top + BAR * row as f64;
            let middle = y + BAR / 2.0;
            let (low, high) = (x(figure.low), x(figure.high));
            let width = x(figure.median) - LEFT;
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#52606d\">{name}</text>",
                LEFT - 10.0,
                middle + 4.5
            )
            .unwrap();
            writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                y + 2.0,
                BAR - 4.0
            )
            .unwrap();
            writeln!(svg, "<line x1=\"{low:.1}\" y1=\"{middle}\" x2=\"{high:.1}\" y2=\"{middle}\" stroke=\"#1f2933\" stroke-width=\"1.5\"/>").unwrap();
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\">{:.0}</text>",
                high.max(LEFT + width) + 6.0,
                middle + 4.5,
                figure.median
            )
            .unwrap();
        }
    }
    svg.push_str("</svg>\n");
    svg
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 36.0;
const BAR: f64 = 20.0;
/// Three bars and the room below them.
const GROUP: f64 = 76.0;
const COLOURS: [&str; 3] = ["#9fb3c8", "#627d98", "#243b53"];

/// 1, 2 or 5 times a power of ten, so that there are at most eight lines.
fn grid_step(longest: f64) -> f64 {
    let power = 10f64.powf((longest / 8.0).log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| longest / step <= 8.0);
    fits.unwrap_or(10.0 * power)
}
